"""The examples of docs/data.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support.guides import assert_examples_run

pytest.importorskip("PIL", reason="Pillow is not installed")


def test_the_example_runs(tmp_path: Path) -> None:
    assert_examples_run("data.md", tmp_path, "Augmentation")

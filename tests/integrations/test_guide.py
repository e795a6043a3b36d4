"""The examples of docs/integrations.md."""

from __future__ import annotations

from pathlib import Path

from ..peers.library import library
from ..support.guides import assert_examples_run

for _name in ("lightning.pytorch", "transformers", "accelerate"):
    library(_name)


def test_the_examples_run_one_after_another(tmp_path: Path) -> None:
    assert_examples_run("integrations.md", tmp_path)

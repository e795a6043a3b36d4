"""The examples of docs/your-own.md that need no other library; tests/peers runs the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support.guides import assert_examples_run, sections

GUIDE = "your-own.md"
OF_LIBRARIES = ("import snntorch", "from spikingjelly")


@pytest.mark.parametrize(
    "section",
    [name for name, text in sections(GUIDE).items() if not any(x in text for x in OF_LIBRARIES)],
)
def test_an_example_runs(section: str, tmp_path: Path) -> None:
    assert_examples_run(GUIDE, tmp_path, section)

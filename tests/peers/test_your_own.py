"""The examples of docs/your-own.md with the real libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support.guides import assert_examples_run, sections
from ..test_your_own import GUIDE, OF_LIBRARIES
from .library import library

for _name in ("snntorch", "spikingjelly.activation_based"):
    library(_name)


@pytest.mark.parametrize(
    "section",
    [name for name, text in sections(GUIDE).items() if any(x in text for x in OF_LIBRARIES)],
)
def test_an_example_runs(section: str, tmp_path: Path) -> None:
    assert_examples_run(GUIDE, tmp_path, section)

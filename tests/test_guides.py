"""The examples of the guides that have some, run as a user would, one after another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def examples(guide: str) -> str:
    text = (DOCS / guide).read_text("utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("guide", ["own-table.md"])
def test_the_examples_run_one_after_another(guide: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(examples(guide))
    command = [sys.executable, "-W", "error::RuntimeWarning", "example.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr

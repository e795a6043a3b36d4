"""Examples of the pages in docs/, run as a user would: from a file outside the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"


def examples(guide: str) -> str:
    """All Python examples of a page, one after another."""
    text = (DOCS / guide).read_text("utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def assert_examples_run(guide: str, folder: Path) -> None:
    """The examples of a page end well, without a warning of ours."""
    (folder / "example.py").write_text(examples(guide))
    command = [sys.executable, "-W", "error::RuntimeWarning:__main__", "example.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr

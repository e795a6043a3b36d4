"""Examples of the pages in docs/, run as a user would: from a file outside the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"


def sections(guide: str) -> dict[str, str]:
    """The sections of a page that hold Python, by their headings."""
    text = (DOCS / guide).read_text("utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts if "```python" in part}


def examples(text: str) -> str:
    """All Python examples of a page or a section, one after another."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def assert_examples_run(guide: str, folder: Path, section: str | None = None) -> None:
    """The examples of a page, or of a section, end well, without a warning of ours."""
    text = sections(guide)[section] if section else (DOCS / guide).read_text("utf-8")
    (folder / "example.py").write_text(examples(text))
    command = [sys.executable, "-W", "error::RuntimeWarning:__main__", "example.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr

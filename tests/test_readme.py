"""The README's first table is the one that its command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from snnprof.cli.run import run_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
# Of one machine, or of a whole training: marked so in the text, and not compared.
VARYING = ("accuracy", "firing rate", "SOPs", "energy", "step time", "time ratio")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command writes to table.md, after an epoch in place of eight."""
    (command,) = re.findall(r"`make demo` runs `snnprof run ([^`]+)`", README)
    folder = tmp_path_factory.mktemp("readme")
    options = [
        str(folder / word) if word.startswith("table.") else word
        for word in shlex.split(command.replace("\n", " "))
    ]
    run_command.main([*options, "--epochs", "1", "--device", "cpu"], standalone_mode=False)
    return (folder / "table.md").read_text("utf-8")


def cells(text: str) -> list[list[str]]:
    """The cells of the first table in Markdown, without its rule."""
    lines = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_the_first_table_has_the_columns_and_figures_of_its_command(printed: str) -> None:
    headings, *rows = cells(README)
    of_command, *measured = cells(printed)
    assert headings == of_command
    assert len(rows) == len(measured)
    for row, other in zip(rows, measured, strict=True):
        for heading, cell, found in zip(headings, row, other, strict=True):
            assert bool(cell) == bool(found), heading
            if not heading.startswith(VARYING):
                assert cell == found, heading


def test_what_is_alike_in_every_row_stands_above_it(printed: str) -> None:
    def caption(text: str) -> str:
        return " ".join(
            re.findall(r"^Every row: .*?\.$", text, re.MULTILINE | re.DOTALL)[0].split()
        )

    assert caption(README) == caption(printed)


def test_the_pictures_and_pages_are_there() -> None:
    named = re.findall(r"\]\(((?!https?:)[^)#]+)", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert any(name.endswith(".svg") for name in named)

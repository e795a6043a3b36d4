"""LaTeX tables on the page of a paper."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import snnprof
from snnprof.energy.dense_baseline import price_dense
from snnprof.render.report_table import Presented
from snnprof.render.table import view as table_of
from snnprof.results import Report


def written(result: object, path: Path) -> str:
    snnprof.save(result, path)  # type: ignore[arg-type]
    return path.read_text("utf-8")


def header(text: str) -> list[str]:
    return re.findall(r"\\toprule\n(.*)\n\\midrule", text, re.DOTALL)[0].splitlines()


def test_headings_are_no_wider_than_their_cells(tmp_path: Path, report: Report) -> None:
    lines = header(written(report, tmp_path / "x.tex"))
    cells = [re.findall(r"\{((?:[^{}]|\{[^{}]*\})*)\}", line) for line in lines]
    assert len({len(line) for line in cells}) == 1
    # The last line is of units; 11 letters is the longest word, "parameters" or "operands,".
    assert all(len(word) <= 11 for line in cells[:-1] for word in line)
    assert all(cells[-2])  # short names stand at the bottom


def test_what_a_page_has_no_room_for_is_left_out_and_named(tmp_path: Path, report: Report) -> None:
    # A user's own columns are never left out, and fill the page: 70 letters each, 297 pt.
    rows = tuple(replace(row, more={"why": "w" * 70}) for row in report.rows)
    text = written(Report(rows), tmp_path / "x.tex")
    (said,) = re.findall(r"^% Left out, for the page: (.*)$", text, re.MULTILINE)
    assert "memory ratio" in said and "time ratio" in said
    assert "why" not in said and "{why}" in text
    assert "{ratio}" not in text
    # What was asked for stays, wide as it is.
    asked = Presented(Report(rows), ("mode", "time_ratio", "memory_ratio", "nops", "why"))
    text = written(asked, tmp_path / "y.tex")
    assert "Left out" not in text and text.count("{ratio}") == 2


def test_a_dense_row_is_not_the_best(report: Report) -> None:
    first, second = report.rows
    assert first.counts is not None
    dense = replace(
        second, mode="dense", neuron="relu", baseline_of="vgg5", accuracy=0.99,
        energies=price_dense(first.counts, ("operands",)),
    )  # fmt: skip
    better = replace(second, accuracy=0.75)
    table = table_of(Report((first, better, dense)))
    place = table.columns.index("accuracy (%)")
    assert [line for line, column in table.best if column == place] == [1]

"""Lines of a table and of a picture: a row, or a row's seeds taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snnprof.render.row_names import differing_names
from snnprof.results import ReportRow
from snnprof.results.identity import SEED, likeness

EACH, MEAN = "each", "mean"
Rows = Sequence[ReportRow]  # of one line: one, or those of several seeds


def table_lines(rows: Rows, how: str = MEAN) -> list[Rows]:
    """The rows of each line: those that are alike but for their seed are one.

    With ``how="each"`` every row is a line. A row that failed may lack what others of its line
    have, and stands with them where it agrees in all that it says.
    """
    alike = [likeness(row, SEED) for row in rows]
    whole = dict.fromkeys(key for key, row in zip(alike, rows, strict=True) if not row.failure)
    lines: dict[tuple[object, ...], list[ReportRow]] = {}
    for number, (row, likeness_of_row) in enumerate(zip(rows, alike, strict=True)):
        of = likeness_of_row
        if row.failure:
            of = next((key for key in whole if of <= key), of)
        key = of, number if how == EACH or row.seed is None else None
        of_line = lines.setdefault(key, [])
        if any(other.seed == row.seed for other in of_line):
            of_line = lines.setdefault((*key, number), [])
        of_line.append(row)
    return [*lines.values()]


def line_names(lines: Sequence[Rows]) -> list[str]:
    """What the lines differ in; where seeds are taken together, they are no part of the name."""
    return differing_names(
        [replace(line[0], seed=None) if len(line) > 1 else line[0] for line in lines]
    )

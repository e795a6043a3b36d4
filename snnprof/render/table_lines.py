"""Lines of a table and of a picture: a row, or a row's seeds taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snnprof.render.row_names import differing_names
from snnprof.results import ReportRow

EACH, MEAN = "each", "mean"
Rows = Sequence[ReportRow]  # of one line: one, or those of several seeds


def table_lines(rows: Rows, how: str = MEAN) -> list[Rows]:
    """The rows of each line: those that differ in their seed alone are one.

    With ``how="each"`` every row is a line. Numbers of the user's own are figures, and may
    differ too; words say what a row is.
    """
    lines: dict[tuple[object, ...], list[ReportRow]] = {}
    for number, row in enumerate(rows):
        alone = number if how == EACH or row.seed is None else None
        where = tuple(sorted(row.environment.items()))
        words = tuple(sorted((k, v) for k, v in row.more.items() if isinstance(v, str)))
        key = (
            row.name, row.data, row.epochs, row.samples_per_step, row.device, where, words, alone
        )  # fmt: skip
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

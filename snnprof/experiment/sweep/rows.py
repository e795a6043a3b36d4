"""Rows of a sweep as files, and the one table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from snnprof.core.errors import SnnprofError
from snnprof.experiment.sweep.cell import Cell
from snnprof.experiment.sweep.grid import Grid
from snnprof.render.output_files import load, save
from snnprof.results import Report, merge

LOGS = "logs"
_ALONE = (
    "Every row ran in a process of its own: the ratios of their times are of different moments."
)


def row_file(folder: Path, cell: Cell) -> Path:
    """The file of a cell's report."""
    return folder / f"{cell.name}.json"


def saved_report(folder: Path, cell: Cell) -> Report | None:
    """The report of a cell that is done, well or not; None where there is none yet.

    Raises:
        SnnprofError: a file that is damaged, or of another version.
    """
    file = row_file(folder, cell)
    if not file.exists():
        return None
    try:
        found = load(file)
    except SnnprofError as error:
        raise SnnprofError(f"{error}; without this file its row is run again") from error
    if not isinstance(found, Report):
        raise SnnprofError(f"{str(file)!r} is a {type(found).__name__} and no report: delete it")
    return found


def save_report(folder: Path, cell: Cell, report: Report) -> None:
    """Save the report of a cell, written aside and moved into place."""
    save(report, row_file(folder, cell))


def save_failure(folder: Path, cell: Cell, reason: str) -> None:
    """Save why a cell came to nothing."""
    row = cell.failed(reason)
    save_report(folder, cell, Report((row,), notes=(f"{row.name}: {reason}.",)))


def failure_of(report: Report) -> str | None:
    """Why a row of the report failed; None where none did."""
    return next((row.failure for row in report.rows if row.failure), None)


def joined(grid: Grid, interrupted: bool = False) -> Report:
    """The saved rows in one table, in the order of the grid; those to come are named.

    Raises:
        SnnprofError: a file that is damaged, or not one row yet.
    """
    found = [(cell, saved_report(grid.folder, cell)) for cell in grid.cells]
    reports = [_told_apart(cell, report) for cell, report in found if report is not None]
    if not reports:
        raise SnnprofError(f"no row is saved in {str(grid.folder)!r} yet: run the sweep first")
    merged = merge([*_with_environment(reports)])
    missing = [cell.name for cell, report in found if report is None]
    notes = [
        *merged.notes,
        *([_ALONE] if len(reports) > 1 else []),
        *_to_come(missing, grid),
    ]
    return replace(merged, notes=tuple(notes), interrupted=interrupted)


def _told_apart(cell: Cell, report: Report) -> Report:
    """The report with a column for each setting that no other column shows."""
    rows = (replace(row, more={**cell.shown, **row.more}) for row in report.rows)
    return replace(report, rows=tuple(rows))


def _with_environment(reports: Sequence[Report]) -> Iterator[Report]:
    """The reports; of one that came to nothing nobody knows where, and nothing is compared."""
    known = next((report.environment for report in reports if report.environment), {})
    for report in reports:
        yield report if report.environment else replace(report, environment=known)


def _to_come(missing: Sequence[str], grid: Grid) -> Iterator[str]:
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"{len(missing)} of {len(grid.cells)} rows are still to come: {missing[0]}{more}."

"""The main path of a sweep: read the grid, run what is not done, join the saved rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError, reason_of
from snnprof.experiment.settings import NO_PROGRESS, Progress
from snnprof.experiment.sweep.cell import Cell
from snnprof.experiment.sweep.cluster import SLURM
from snnprof.experiment.sweep.grid import Grid, read_grid
from snnprof.experiment.sweep.jobs import Work, check_executor, run_jobs
from snnprof.experiment.sweep.rows import LOGS, failure_of, joined, row_file, saved_report
from snnprof.results import Report

_GOES_ON = "Slurm keeps the jobs of the rows to come: the same command waits for them."


@dataclass(frozen=True)
class State:
    """How far a cell is.

    Attributes:
        cell: of the grid.
        done: its row is saved.
        failure: why it failed; None where it did not.
    """

    cell: Cell
    done: bool
    failure: str | None


def states(grid: Grid) -> Iterator[State]:
    """How far every cell is.

    Raises:
        SnnprofError: a saved row that is damaged.
    """
    for cell in grid.cells:
        report = saved_report(grid.folder, cell)
        yield State(cell, report is not None, None if report is None else failure_of(report))


def sweep(
    source: str | Path | Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    jobs: int | None = None,
    executor: str | None = None,
    retry: bool = False,
    progress: Progress = NO_PROGRESS,
) -> Report:
    """Run every row of a grid in a process of its own, and put the rows side by side.

    Each row is saved when it is done, so that a sweep that was killed goes on where it was: the
    same call runs what is not saved yet.

    Args:
        source: ``NAME.toml``, or a dict with the same keys (docs/sweeps.md): options of
            ``snnprof run`` by their names. A list of several values is an axis.
        folder: for the rows; None for ``NAME`` beside the file.
        jobs: rows at a time; None for what the file says, or one here, and with Slurm as many
            as it runs.
        executor: "local" or "slurm"; None for what the file says, or local.
        retry: run rows again that failed.
        progress: told of the rows to come, and of each that is done.

    Returns:
        The rows that are done, in the order of the grid. One that failed says so in
        ``failure``. After Ctrl-C ``interrupted`` is True: local processes have ended, Slurm keeps
        its jobs, and the next call waits for them.

    Raises:
        SnnprofError: a wrong key or value, before anything is run; submitit (extra ``cluster``)
            is missing; Slurm refuses.
    """
    grid = read_grid(source, folder)
    grid = replace(grid, cluster=grid.cluster.with_options(executor, jobs))
    before = [*states(grid)]
    to_run = [s.cell for s in before if not s.done or (retry and s.failure is not None)]
    interrupted = False
    if to_run:
        check_executor(grid.cluster.executor)
        _make_folders(grid.folder)
        for cell in to_run:  # one that failed is as if it had not run
            row_file(grid.folder, cell).unlink(missing_ok=True)
        progress.start(len(to_run))
        try:
            run_jobs(Work(to_run, grid.folder, grid.cluster, progress.advance))
        except KeyboardInterrupt:
            interrupted = True
            if not any(row_file(grid.folder, cell).exists() for cell in grid.cells):
                raise
    report = joined(grid, interrupted)
    if interrupted and grid.cluster.executor == SLURM:
        return replace(report, notes=(*report.notes, _GOES_ON))
    return report


def _make_folders(folder: Path) -> None:
    try:
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SnnprofError(f"folder {str(folder)!r}: {reason_of(error)}") from error

"""The process of one cell: run it, and save its row."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from snnprof.core.errors import SnnprofError, reason_of
from snnprof.experiment.run import run
from snnprof.experiment.sweep.cell import Cell
from snnprof.experiment.sweep.rows import LOGS, row_file, save_failure, save_report
from snnprof.profiling.step_memory import Failure, attempt_all
from snnprof.results import Report

_FOLDERS = {"save": "{}/*", "trace": "{}"}  # and how notes name those of all rows
_PART = ".part"


@dataclass(frozen=True)
class Place:
    """Where a process runs, beside others.

    Attributes:
        others: rows at a time on this machine, this one too.
        gpu: that it may see, as CUDA_VISIBLE_DEVICES names it; None to leave that as it is.
        ended_by_parent: a SIGTERM is the parent's Ctrl-C.
    """

    others: int = 1
    gpu: str | None = None
    ended_by_parent: bool = False


def run_cell(cell: Cell, folder: Path, place: Place) -> None:
    """Run a cell and save its report; one that is interrupted saves nothing.

    Another process that is at the same cell, left over by a parent that was killed, is waited for.

    Args:
        cell: what to run.
        folder: of the rows.
        place: shares the machine.

    Raises:
        SnnprofError: the report cannot be saved.
    """
    if place.ended_by_parent:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu  # CUDA reads it at its first use
    if place.others > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.others))
    try:
        with _alone(folder / LOGS / f"{cell.name}.lock"):
            if not row_file(folder, cell).exists():
                _run(cell, folder, place)
    except KeyboardInterrupt:
        logging.getLogger(__name__).warning("interrupted: nothing is saved")


def _run(cell: Cell, folder: Path, place: Place) -> None:
    report = attempt_all(lambda: _measured(cell), torch.device("cpu"))
    if isinstance(report, Failure):
        logging.getLogger(__name__).error("%s\n%s", report.reason, report.traceback)
        save_failure(folder, cell, report.reason)
    elif not report.interrupted:
        save_report(folder, cell, _with_note(report, place))


def _measured(cell: Cell) -> Report:
    arguments = cell.arguments
    with _whole_folders(arguments, cell.name) as own:
        report = run(**own)
    # One sentence for the rows of a sweep, and of where the folders are by then.
    notes = report.notes
    for key, shown in _FOLDERS.items():
        if arguments.get(key):
            of_all = shown.format(arguments[key])
            notes = tuple(note.replace(str(own[key]), of_all) for note in notes)
    return replace(report, notes=notes)


def _with_note(report: Report, place: Place) -> Report:
    if place.others == 1:
        return report
    shared = f"Up to {place.others} rows ran at a time on one machine: their times are of that."
    return replace(report, notes=(*report.notes, shared))


@contextmanager
def _whole_folders(arguments: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The arguments with folders of this cell alone, which appear when it has ended.

    What a killed process, or a row that failed, has left in them is removed before.

    Raises:
        SnnprofError: no folder can be made there.
    """
    given = {key: Path(arguments[key]) / name for key in _FOLDERS if arguments.get(key)}
    parts = {key: folder.with_name(name + _PART) for key, folder in given.items()}
    for part in parts.values():
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SnnprofError(f"folder {str(part.parent)!r}: {reason_of(error)}") from error
    yield {**arguments, **parts}
    for key, part in parts.items():
        if part.exists():
            shutil.rmtree(given[key], ignore_errors=True)
            part.replace(given[key])


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """A lock that the system takes back from a process that dies."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: two at one row save the same
            logging.getLogger(__name__).warning("%s cannot be locked", file)
        yield

"""Every row in a process of its own: no row sees another's allocator, caches or threads."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from snnprof.core.environment import describe
from snnprof.core.errors import SnnprofError
from snnprof.experiment.interruption import INTERRUPTED, NOT_RUN
from snnprof.experiment.settings import Progress, Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.profiling.step_memory import Failure, attempt_all
from snnprof.results import Report, ReportRow
from snnprof.results.scaling import growth

KILLED = "process killed"
_NOTE = (
    "Every row was measured in a process of its own, one after another: the ratios of their "
    "times are of different moments."
)
_BEGUN = "begun"
_GRACE_S = 30.0  # for what other code does at the end of a process


def run_isolated(
    run: Callable[..., Report],
    planned: Sequence[TrainingRun],
    arguments: Mapping[str, Any],
    settings: Settings,
) -> Report:
    """Run an experiment row by row, each in a process of its own.

    Args:
        run: :func:`snnprof.run`.
        planned: the rows, in the order of neurons, T and modes.
        arguments: what it was given, by name.
        settings: what came of them.

    Raises:
        SnnprofError: no process has begun its work.
    """
    left_out = ("variants", "isolate", "progress")
    given = {key: value for key, value in arguments.items() if key not in left_out}
    given |= settings.variants
    if settings.automatic_batch:
        given["batch_size"] = settings.recipe.batch_size
    split = product(settings.neurons, settings.timesteps, (mode.name for mode in settings.modes))
    rows = [run.row for run in planned]
    parts = [
        (rows.pop(0), {"neuron": neuron, "timesteps": timesteps, "modes": mode})
        for neuron, timesteps, mode in split
        # Modes that the network cannot be run in were left out of the plan.
        if rows and (rows[0].timesteps, rows[0].mode) == (timesteps, mode)
    ]
    report = in_processes(run, given, parts, settings.progress)
    return replace(
        report,
        environment=describe(settings.device),
        notes=tuple(dict.fromkeys((*report.notes, *settings.notes))),
    )


def in_processes(
    run: Callable[..., Report],
    arguments: Mapping[str, Any],
    parts: Sequence[tuple[ReportRow, Mapping[str, object]]],
    progress: Progress,
) -> Report:
    """Run a function in a fresh process for each row, and put the reports together.

    Whatever one process does, the others' rows stand. Ctrl-C ends the one at work, and none is
    begun after it.

    Args:
        run: importable by name; it takes ``progress`` too.
        arguments: its keywords, picklable.
        parts: of each row, what is known of it before, and the keywords that are its own.
        progress: told of every process that is done, and of tracebacks.

    Raises:
        SnnprofError: no process has begun its work.
    """
    progress.start(len(parts))
    reports: list[Report] = []
    rows: list[ReportRow] = []
    interrupted = False
    begun = 0
    for row, own in parts:
        child = _Child()
        try:
            if not interrupted:
                child.run(run, {**arguments, **own}, progress)
        except KeyboardInterrupt:
            interrupted = True
        begun += child.begun
        if child.report is not None:
            reports.append(child.report)
            rows += child.report.rows
            interrupted |= child.report.interrupted
        else:
            rows.append(replace(row, failure=_why(child, interrupted)))
        progress.advance()
    if not begun and not interrupted:
        raise SnnprofError(
            "no process could begin: the memory ran out; or, from a script, the call does not "
            "stand under if __name__ == '__main__', which a new process needs"
        )
    known = (note for report in reports for note in report.notes)
    told = {row.name for report in reports for row in report.rows}
    lost = (f"{row.name}: {row.failure}{_hint(row)}." for row in rows if row.name not in told)
    return Report(
        rows=tuple(rows),
        notes=tuple(dict.fromkeys((_NOTE, *lost, *known))),
        growth=tuple(growth(rows)),
        interrupted=interrupted,
    )


def _why(child: _Child, interrupted: bool) -> str:
    if interrupted:
        return INTERRUPTED if child.begun else NOT_RUN
    return child.failure.reason if child.failure else "its process did not begin"


def _hint(row: ReportRow) -> str:
    return ", as it is when memory runs out" if row.failure == KILLED else ""


class _Child:
    """A process that runs a function once, and what came of it.

    Attributes:
        begun: it got as far as calling the function.
        report: what the function returned; None where it did not.
        failure: why not.
    """

    def __init__(self) -> None:
        self.begun = False
        self.report: Report | None = None
        self.failure: Failure | None = None

    def run(
        self, run: Callable[..., Report], arguments: Mapping[str, Any], progress: Progress
    ) -> None:
        """Start the process, and wait for its end; Ctrl-C kills it and is raised on."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, run, dict(arguments)))
        try:
            _start(process)
            sender.close()
            for message in _received(receiver, process):
                self._take(message, progress)
            if self.begun and self.report is None and self.failure is None:
                process.join()
                self.failure = Failure(_end_of(process.exitcode))
        finally:
            if process.pid is not None:
                process.join(_GRACE_S if self.report is not None else 0)
                process.kill()
                process.join()
            receiver.close()

    def _take(self, message: object, progress: Progress) -> None:
        if isinstance(message, Report):
            self.report = message
        elif isinstance(message, Failure):
            self.failure = message
            progress.failed(self.failure.reason, self.failure.traceback)
        elif isinstance(message, tuple):
            progress.failed(*message)
        else:
            self.begun = message == _BEGUN


def _start(process: SpawnProcess) -> None:
    """Start a process that Ctrl-C does not reach: its parent ends it."""
    try:
        with interrupts_blocked():
            process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SnnprofError(
            f"isolate: what was given cannot be handed to another process ({error}): give names "
            "(package.module:function), or leave isolate out"
        ) from error


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """A new process inherits which signals are blocked; here they come after the block."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(receiver: Connection, process: SpawnProcess) -> Iterator[object]:
    """What the process sends, until it has nothing more to say or has died."""
    while True:
        # Its own children may hold the pipe open after it: its death is looked for too.
        wait([receiver, process.sentinel])
        if not receiver.poll():
            return
        try:
            message = receiver.recv()
        except (EOFError, OSError):  # killed, perhaps in the middle of a message
            return
        yield message
        if isinstance(message, Report | Failure):
            return


def _end_of(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        signal_name = signal.Signals(-exitcode).name
        return KILLED if signal_name == "SIGKILL" else f"{KILLED} by {signal_name}"
    return f"its process ended with exit code {exitcode}"


def _work(sender: Connection, run: Callable[..., Report], arguments: Mapping[str, Any]) -> None:
    """The process: errors go back as text, since not every error can be sent."""
    sender.send(_BEGUN)
    progress = Progress(failed=lambda *told: sender.send(told))
    sender.send(attempt_all(lambda: run(**arguments, progress=progress), torch.device("cpu")))

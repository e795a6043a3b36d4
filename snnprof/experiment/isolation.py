"""Every row in a process of its own: no row sees another's allocator, caches or threads."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import product
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.experiment.settings import Settings
from snnprof.results import Report, ReportRow
from snnprof.results.scaling import growth

KILLED = "process killed"
_NOTE = (
    "Every row was measured in a process of its own, one after another: the ratios of their "
    "times are of different moments."
)


def run_isolated(
    run: Callable[..., Report], arguments: Mapping[str, Any], settings: Settings
) -> Report:
    """Run an experiment row by row, each in a process of its own.

    Args:
        run: :func:`snnprof.run`.
        arguments: what it was given, by name.
        settings: what came of them.
    """
    left_out = ("variants", "isolate", "progress")
    given = {key: value for key, value in arguments.items() if key not in left_out}
    given |= {**settings.variants, "batch_size": settings.recipe.batch_size}
    split = {
        "neuron": settings.neurons,
        "timesteps": settings.timesteps,
        "modes": [mode.name for mode in settings.modes],
    }
    settings.progress.start(math.prod(map(len, split.values())))

    def lost_row(neuron: str, timesteps: int, modes: str) -> ReportRow:
        return ReportRow(
            settings.source.name, neuron, settings.weights, modes, timesteps, failure=KILLED
        )

    report = in_processes(run, given, split, lost_row, settings.progress.advance)
    return replace(report, notes=(*report.notes, *settings.notes))


def in_processes(
    run: Callable[..., Report],
    arguments: Mapping[str, Any],
    split: Mapping[str, Sequence[object]],
    lost_row: Callable[..., ReportRow],
    advance: Callable[[], None],
) -> Report:
    """Run every combination of some arguments in a fresh process, and put the reports together.

    Args:
        run: importable by name.
        arguments: its keywords, picklable.
        split: the arguments that each process gets one of.
        lost_row: the row of a process that was killed, from its part of the arguments.
        advance: told of every process that is done.

    Raises:
        SnnprofError: of any row; or none came to its end.
    """
    reports: list[Report] = []
    rows: list[ReportRow] = []
    for values in product(*split.values()):
        chosen = dict(zip(split, values, strict=True))
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                report = pool.submit(run, **{**arguments, **chosen}).result()
        except BrokenProcessPool:
            rows.append(lost_row(**chosen))
        else:
            reports.append(report)
            rows += report.rows
        advance()
    if not reports:
        raise SnnprofError(
            "every process was killed: the memory ran out; or, from a script, the call does not "
            "stand under if __name__ == '__main__', which a new process needs"
        )
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    killed = (
        f"{row.name}: its process was killed, as it is when memory runs out."
        for row in rows
        if row.failure == KILLED
    )
    return Report(
        rows=tuple(rows),
        environment=reports[0].environment,
        notes=(_NOTE, *killed, *notes),
        growth=tuple(growth(rows)),
    )

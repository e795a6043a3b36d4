"""Every arm in a process of its own: no arm sees another's allocator, caches or threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.results import Report, ReportRow
from snnprof.results.scaling import growth

KILLED = "process killed"
_NOTE = (
    "Every row was measured in a process of its own, one after another: the ratios of their "
    "times are of different moments."
)


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
        SnnprofError: of any arm; or none came to its end.
    """
    reports: list[Report] = []
    arms: list[ReportRow] = []
    for values in product(*split.values()):
        chosen = dict(zip(split, values, strict=True))
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                report = pool.submit(run, **{**arguments, **chosen}).result()
        except BrokenProcessPool:
            arms.append(lost_row(**chosen))
        else:
            reports.append(report)
            arms += report.rows
        advance()
    if not reports:
        raise SnnprofError(
            "every process was killed: the memory ran out; or, from a script, the call does not "
            "stand under if __name__ == '__main__', which a new process needs"
        )
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    killed = (
        f"{arm.name}: its process was killed, as it is when memory runs out."
        for arm in arms
        if arm.failure == KILLED
    )
    return Report(
        rows=tuple(arms),
        environment=reports[0].environment,
        notes=(_NOTE, *killed, *notes),
        growth=tuple(growth(arms)),
    )

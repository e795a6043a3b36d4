"""Several models, weights and seeds, one after another, in one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import current_processes, together
from snnprof.experiment.folders import check_folders
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.random_state import check_seed
from snnprof.experiment.settings import check_settings
from snnprof.results import Report, merge

Arguments = Mapping[str, Any]


def in_succession(run: Callable[[Arguments], Report], parts: Sequence[Arguments]) -> Report:
    """Run each part, and put the reports together.

    All are checked before the first is trained. Ctrl-C ends the one at work, and none begins
    after it: the report says which.

    Args:
        run: from arguments of one model, kind of weights and seed to its report.
        parts: the arguments, by name.

    Raises:
        SnnprofError: a wrong name or value of any of them, or folders that they would share.
    """
    if parts[0]["trace"] is not None:
        raise SnnprofError(
            "trace: several models, weights or seeds would overwrite each other's: give one of each"
        )
    for part in parts:
        check_seed(part["seed"])
    together(partial(_plan, parts), current_processes())
    reports: list[Report] = []
    for part in parts:
        reports.append(run(part))
        if reports[-1].interrupted:
            break
    merged = merge(reports)
    notes = [*merged.notes, *_not_run(parts[len(reports) :])]
    if len(reports) > 1:
        notes.append(
            "Models, weights and seeds ran one after another: their times are of different moments."
        )
    return replace(merged, notes=tuple(notes))


def _plan(parts: Sequence[Arguments]) -> None:
    """Plan a part of every model and kind of weights: no plan fails for one seed alone.

    A folder may: it may hold what was saved with one of the seeds.
    """
    alike: dict[tuple[object, ...], list[Arguments]] = {}
    for part in parts:
        alike.setdefault((part["model"], part["weights"]), []).append(part)
    for first, *others in alike.values():
        settings = check_settings(**{k: v for k, v in first.items() if k != "isolate"})()
        rows = plan_rows(settings)
        for part in (first, *others):
            check_folders(rows, replace(settings, seed=part["seed"]))


def _not_run(parts: Sequence[Arguments]) -> list[str]:
    if not parts:
        return []
    named = ", ".join(f"{p['model']} {p['weights']} seed {p['seed']}" for p in parts)
    return [f"Interrupted before they ran: {named}."]

"""Several models, weights and seeds, one after another, in one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import current_processes, together
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
    together(partial(_plan, _first_seeds(parts)), current_processes())
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
    for part in parts:
        plan_rows(check_settings(**{k: v for k, v in part.items() if k != "isolate"})())


def _first_seeds(parts: Sequence[Arguments]) -> list[Arguments]:
    """A part of every model and kind of weights: no plan fails for one seed alone."""
    firsts: dict[tuple[object, ...], Arguments] = {}
    for part in parts:
        firsts.setdefault((part["model"], part["weights"]), part)
    return [*firsts.values()]


def _not_run(parts: Sequence[Arguments]) -> list[str]:
    if not parts:
        return []
    named = ", ".join(f"{p['model']} {p['weights']} seed {p['seed']}" for p in parts)
    return [f"Interrupted before they ran: {named}."]

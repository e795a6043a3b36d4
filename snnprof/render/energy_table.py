"""Energy, per layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from snnprof.render.count_table import not_counted_notes
from snnprof.render.quantities import COUNT, JOULES
from snnprof.render.table import View, records, view
from snnprof.results import EnergyResult


@records.register
def _(result: EnergyResult) -> list[dict[str, Any]]:
    return [{"table": result.table, **asdict(row)} for row in result.rows]


@view.register
def _(result: EnergyResult) -> View:
    names = [(row.name, row.operation) for row in result.rows] + [("total", "")]
    events = COUNT.column("events", [*(row.events for row in result.rows), None])
    joules = JOULES.column("energy", [*(row.energy_j for row in result.rows), result.total_j])
    columns = ("layer", "event", events[0], joules[0])
    rows = zip(*zip(*names, strict=True), events[1], joules[1], strict=True)
    of_phase = f"{result.phase} energy per sample" if result.phase else "energy per sample"
    title = f"{of_phase.capitalize()}, convention {result.table}"
    notes = (*energy_notes(result), *not_counted_notes(result.not_counted))
    return View(title, columns, tuple(rows), notes)


def energy_notes(result: EnergyResult) -> Iterator[str]:
    """The convention, its source and what it leaves out."""
    of_phase = f"{result.phase} energy convention" if result.phase else "energy convention"
    yield (
        f"{of_phase.capitalize()} {result.table}: {result.description}. Leaves out: "
        f"{result.leaves_out}. Source: {result.source}."
    )
    left_out = ", ".join(result.not_billed)
    if result.total_j is None:
        yield f"No energy under {result.table}: it bills none of {left_out or 'no layers'}."
    elif left_out:
        yield f"Counted but not billed by {result.table}: {left_out}."

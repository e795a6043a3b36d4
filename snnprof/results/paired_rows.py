"""Rows of two reports that belong together, and what they were run with that differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from snnprof.results.energy import EnergyResult
from snnprof.results.identity import SEED, identity, may_be_of_one_data, unique_names
from snnprof.results.report import Report, ReportRow

Pair = tuple[ReportRow, ReportRow]

# Settings of which it says something, too, that a row has none.
_UNSAID = {
    "batch": "batch not stated",
    "execution": "the usual training step",
    "checkpoint": "no checkpoint",
}
_PAIRED_BY = ("model", "neuron", "weights", "mode", "timesteps", "data", SEED)
_SAME_PRICE = 1e-6


def paired_rows(base: Report, new: Report) -> list[Pair]:
    """Rows of one name, seed and data: of several, those that have most in common."""
    of_key: dict[tuple[str | None, ...], list[ReportRow]] = {}
    for row in new.rows:
        of_key.setdefault(_key(row), []).append(row)
    wanted = [(n, now) for n, old in enumerate(base.rows) for now in of_key.get(_key(old), ())]
    wanted.sort(key=lambda pair: -_in_common(base.rows[pair[0]], pair[1]))
    found: dict[int, ReportRow] = {}
    taken: set[int] = set()
    for number, now in wanted:
        if number not in found and id(now) not in taken:
            found[number] = now
            taken.add(id(now))
    return [(base.rows[number], found[number]) for number in sorted(found)]


def _key(row: ReportRow) -> tuple[str | None, ...]:
    said = identity(row)
    return tuple(said.get(name) for name in _PAIRED_BY)


def _in_common(row: ReportRow, other: ReportRow) -> int:
    return len(identity(row).items() & identity(other).items())


def missing_rows(rows: Sequence[ReportRow], paired: Sequence[ReportRow]) -> list[str]:
    """Names of a report's rows that the other has not."""
    named = zip(rows, unique_names(rows), strict=True)
    return [name for row, name in named if not any(row is each for each in paired)]


def environment_of(report: Report, row: ReportRow) -> dict[str, str]:
    """Where a row was measured."""
    return row.environment or report.environment


def on_environments(base: Report, new: Report, pairs: Sequence[Pair]) -> Iterator[str]:
    """A sentence on the environments of these pairs, which differ."""
    found: dict[str, None] = {}
    for old, now in pairs:
        here, there = environment_of(base, old), environment_of(new, now)
        for name in dict.fromkeys((*here, *there)):
            if here.get(name) != there.get(name):
                found[f"{name} {here.get(name, 'unknown')}, then {there.get(name, 'unknown')}"] = (
                    None
                )
    if found:
        yield (
            "Step times and memory are not compared where the environments differ: "
            f"{'; '.join(found)}."
        )


def costs_are_comparable(old: ReportRow, now: ReportRow) -> bool:
    """True where time and memory of both can be compared, but for their environments."""
    alike = [(row.samples_per_step, row.device) for row in (old, now) if row.profile is not None]
    return len(set(alike)) < 2 and may_be_of_one_data(old, now)


def differing_settings(old: ReportRow, now: ReportRow, comparable: bool) -> str:
    """What the second was run with that differs, in a sentence; empty for nothing."""
    one, two = ({**_UNSAID, **_without_environment(row)} for row in (old, now))
    differ = [name for name in one if name in two and one[name] != two[name]]
    own = [name for name in {**one, **two} if name.startswith("own ") and name not in differ]
    differ += [name for name in own if one.get(name) != two.get(name)]
    said = "; ".join(f"{one.get(n, 'not stated')}, then {two.get(n, 'not stated')}" for n in differ)
    costs = "" if comparable else " Step time and memory are not compared."
    return f"{said}.{costs}" if said else costs.strip()


def _without_environment(row: ReportRow) -> dict[str, str]:
    return {k: v for k, v in identity(row).items() if not k.startswith("environment ")}


def on_prices(pairs: Sequence[Pair]) -> Iterator[str]:
    """Conventions of one name that are not one."""
    changed: dict[str, None] = {}
    for old, now in pairs:
        there = {energy.table: energy for energy in now.prices}
        for energy in old.prices:
            other = there.get(energy.table)
            if other is not None and not _is_priced_alike(energy, other):
                changed[energy.table] = None
    for table in changed:
        yield f"Energy {table} is priced otherwise in the second report: other joules per event."


def _is_priced_alike(one: EnergyResult, other: EnergyResult) -> bool:
    if one.description != other.description:
        return False
    here, there = _prices(one), _prices(other)
    return all(math.isclose(here[k], there[k], rel_tol=_SAME_PRICE) for k in here.keys() & there)


def _prices(energy: EnergyResult) -> Mapping[tuple[str, str], float]:
    """Joules per event, by layer and operation."""
    return {(r.name, r.operation): r.energy_j / r.events for r in energy.rows if r.events}

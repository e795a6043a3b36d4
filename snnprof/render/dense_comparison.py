"""Rows of a report beside the dense row that they are held against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

from snnprof.core.errors import SnnprofError
from snnprof.energy.dense_baseline import DENSE, break_even_rate, dense_beside, is_of_spikes
from snnprof.render.number_format import relative
from snnprof.results import EnergyResult, Report, ReportRow

_ROUNDING = 1e-9  # by which a price per sample differs when other numbers of samples were counted


def has_baseline(report: Report) -> bool:
    """True if a row is a dense network's."""
    return any(row.baseline_of is not None for row in report.rows)


def energy_under(row: ReportRow, table: str) -> EnergyResult | None:
    """The row's energy under a convention; None where it was not priced so."""
    return next((energy for energy in row.energies if energy.table == table), None)


def energy_ratio(row: ReportRow, report: Report, table: str) -> float | None:
    """E / E_dense: the row's energy under a convention over the dense row's under ``dense``.

    What papers of spiking networks give: both per sample, at 4.6 pJ per nominal MAC of the dense
    row (at the convention's own precision where it has one). Of several seeds each row is held
    against its own. None without counts, without a dense row of the network on the same data, or
    where several of other prices fit.
    """
    energy, dense_j = energy_under(row, table), _dense_j(row, report, table)
    return None if energy is None else relative(energy.total_j, dense_j)


def break_even(row: ReportRow, report: Report, table: str) -> float | None:
    """The :func:`~snnprof.break_even_rate` of a spiking row; None of any other."""
    energy, dense_j = energy_under(row, table), _dense_j(row, report, table)
    if row.baseline_of is not None or row.counts is None or energy is None or not dense_j:
        return None
    if table.partition("+")[0] == DENSE:  # which does not ask how often neurons fire
        return None
    return break_even_rate(row.counts, energy, dense_j)


def _dense_j(row: ReportRow, report: Report, table: str) -> float | None:
    """Joules of the dense row beside this one; None where several of other prices may be it."""
    fitting = _dense_beside(row, report, table)
    return None if not fitting or _is_ambiguous(fitting) else fitting[0]


def _dense_beside(row: ReportRow, report: Report, table: str) -> list[float]:
    """Joules of the dense rows of this one's network, data and environment.

    Those of its seed alone where there are any, and of these the ones whose columns of the user's
    own say the same.
    """
    name = row.model if row.baseline_of is None else row.baseline_of
    found = [other for other in report.rows if other.baseline_of == name and _same(other, row)]
    priced = [
        (other, energy.total_j)
        for other in found
        if (energy := energy_under(other, dense_beside(table))) is not None
    ]
    for of in (_seed, _own_words):
        priced = [each for each in priced if of(each[0]) == of(row)] or priced
    return [joules for _, joules in priced if joules is not None]


def _same(one: ReportRow, other: ReportRow) -> bool:
    """True where both saw the same data, and ran in the same environment."""
    kept = [(row.data, row.image_size, row.environment) for row in (one, other)]
    return kept[0] == kept[1]


def _seed(row: ReportRow) -> int | None:
    return row.seed


def _own_words(row: ReportRow) -> dict[str, str]:
    return {name: value for name, value in row.more.items() if isinstance(value, str)}


def _is_ambiguous(joules: Sequence[float]) -> bool:
    return not math.isclose(min(joules), max(joules), rel_tol=_ROUNDING)


def baseline_notes(report: Report) -> Iterator[str]:
    """What the ratio and the break-even are, and which rows have none for too many dense ones."""
    if not has_baseline(report):
        return
    yield (
        "Ratio to dense: a row's energy over that of the dense row under convention dense, "
        "every nominal MAC of it billed. Break-even: the firing rate at which both cost the "
        "same, were all rates to change by one factor; above 100 %: cheaper at any rate."
    )
    unclear = dict.fromkeys(
        row.name
        for row in report.rows
        for energy in row.energies
        if (found := _dense_beside(row, report, energy.table)) and _is_ambiguous(found)
    )
    if unclear:
        yield (
            f"No ratio to dense for {', '.join(unclear)}: several dense rows of other prices fit; "
            "give the rows that belong together data, a seed, or words of a column alike."
        )
    yield from dict.fromkeys(_not_priced(report))


def _not_priced(report: Report) -> Iterator[str]:
    """Conventions of the rows beside a dense one that say nothing of it."""
    for row in report.rows:
        own = {energy.table for energy in row.prices}
        beside = (other for other in report.rows if other.model == row.baseline_of)
        tables = dict.fromkeys(e.table for o in beside if o.baseline_of is None for e in o.prices)
        missing = [table for table in tables if table not in own and _is_of_spikes(table)]
        if row.baseline_of is not None and own and missing:
            yield (
                f"{row.name}: not priced under {', '.join(missing)}, where real numbers would be "
                "billed as spikes."
            )


def _is_of_spikes(table: str) -> bool:
    """False of a convention that is not known here, of somebody's file."""
    with suppress(SnnprofError):
        return is_of_spikes(table)
    return False

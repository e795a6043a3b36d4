"""Limits on a result, for a project's own tests."""

from __future__ import annotations

import heapq
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.results import CountResult, EnergyResult, Report, ReportRow, StepProfile

_LARGEST = 3  # layers to name


@dataclass(frozen=True)
class _Figure:
    """A figure that is held against a limit.

    Attributes:
        of: the row; "" for a result that stands alone.
        what: its name, unit included.
        value: None where it was not measured.
        parts: what it is made of, by name.
        missing: names of what is not in it.
    """

    of: str
    what: str
    value: float | None
    parts: tuple[tuple[str, float], ...] = ()
    missing: tuple[str, ...] = ()


def assert_sops_below(result: CountResult | ReportRow | Report, most: float) -> None:
    """Assert that the SOPs per sample are not above a limit, in every row of a report.

    Raises:
        AssertionError: they are; one line with the layers that have most of them.
        SnnprofError: a wrong limit or result, or SOPs that were not counted.

    Warns:
        RuntimeWarning: the counts are without operations that were not counted.
    """
    __tracebackhide__ = True
    _check("assert_sops_below", _sops, result, (CountResult, ReportRow, Report), most)


def assert_energy_below(result: EnergyResult | ReportRow | Report, joules: float) -> None:
    """Assert that the energy per sample is not above a limit, in every row and convention.

    Raises and warns as :func:`assert_sops_below`.
    """
    __tracebackhide__ = True
    _check("assert_energy_below", _energies, result, (EnergyResult, ReportRow, Report), joules)


def assert_peak_below(result: StepProfile | ReportRow | Report, bytes: float) -> None:
    """Assert that the peak memory of a training step is not above a limit, in every row.

    Raises as :func:`assert_sops_below`.
    """
    __tracebackhide__ = True
    _check("assert_peak_below", _peaks, result, (StepProfile, ReportRow, Report), bytes)


def _check(
    name: str,
    figures_of: Callable[[Any, str], Iterable[_Figure]],
    result: object,
    kinds: tuple[type, ...],
    limit: float,
) -> None:
    __tracebackhide__ = True
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not number or not limit >= 0:
        raise SnnprofError(f"{name}: limit {limit!r}: must be a number, 0 or more")
    if not isinstance(result, kinds):
        listed = ", ".join(kind.__name__ for kind in kinds)
        raise SnnprofError(f"{name} takes one of {listed}, not a {type(result).__name__}")
    above = []
    for figure in _all_figures(figures_of, result):
        if figure.value is None or not math.isfinite(figure.value):
            where = f"{figure.of}: " if figure.of else ""
            raise SnnprofError(f"{name}: {where}{figure.what} was not measured: nothing to compare")
        if figure.missing:
            warnings.warn(
                f"{name}: {figure.what} is without what was not counted: "
                f"{', '.join(dict.fromkeys(figure.missing))}",
                RuntimeWarning,
                stacklevel=3,
            )
        if figure.value > limit:
            above.append(_sentence(figure, limit))
    if above:
        raise AssertionError("; ".join(above))


def _all_figures(
    figures_of: Callable[[Any, str], Iterable[_Figure]], result: Any
) -> Iterator[_Figure]:
    """The figures of a result; of all its rows, if it is a report.

    Raises:
        SnnprofError: a report without rows.
    """
    if isinstance(result, Report):
        if not result.rows:
            raise SnnprofError("the report has no rows: nothing to compare")
        for row in result.rows:
            yield from figures_of(row, row.name)
    else:
        yield from figures_of(result, result.name if isinstance(result, ReportRow) else "")


def _sops(result: CountResult | ReportRow, of: str) -> Iterator[_Figure]:
    counts = result.counts if isinstance(result, ReportRow) else result
    what = "SOPs per sample"
    if counts is None or not counts.rows or not counts.samples:
        yield _Figure(of, what, None)
        return
    yield _Figure(
        of,
        what,
        counts.per_sample("synops"),
        tuple((row.name, row.synops / counts.samples) for row in counts.rows),
        tuple(name for name, _ in counts.not_counted),
    )


def _energies(result: EnergyResult | ReportRow, of: str) -> Iterator[_Figure]:
    energies = result.energies if isinstance(result, ReportRow) else (result,)
    if not energies:
        yield _Figure(of, "energy per sample", None)
    for energy in energies:
        yield _Figure(
            of,
            f"energy per sample (J, {energy.table})",
            energy.total_j,
            tuple((row.name, row.energy_j) for row in energy.rows),
            tuple(name for name, _ in energy.not_counted),
        )


def _peaks(result: StepProfile | ReportRow, of: str) -> Iterator[_Figure]:
    step = result.profile if isinstance(result, ReportRow) else result
    what = "peak memory (bytes)"
    if step is None:
        yield _Figure(of, what, None)
        return
    parts = (("static", step.static_bytes), ("activation", step.activation_bytes))
    known = tuple((name, size) for name, size in parts if size is not None)
    # A step that touched nothing ran on another device than the one that was watched.
    yield _Figure(of or (step.mode or ""), what, step.peak_bytes or None, known)


def _sentence(figure: _Figure, limit: float) -> str:
    largest = heapq.nlargest(_LARGEST, figure.parts, key=lambda part: part[1])
    parts = ", ".join(f"{name} {value:g}" for name, value in largest)
    where = f"{figure.of}: " if figure.of else ""
    largest_parts = f"; largest: {parts}" if parts else ""
    return f"{where}{figure.what}: {figure.value:g} is above {limit:g}{largest_parts}"

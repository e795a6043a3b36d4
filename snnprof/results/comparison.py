"""Two reports, figure by figure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from snnprof.core.errors import SnnprofError
from snnprof.results.base import Viewed
from snnprof.results.report import Report, ReportRow

NO_CHANGE = "no change"
HIGHER, LOWER = "higher", "lower"
_LIMIT = re.compile(r"\s*([A-Za-z][\w ,+-]*?)\s*([<>])\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*%\s*")
# Shares of the timed steps outside the interval of a time, at either end.
_OUTSIDE = 0.05


@dataclass(frozen=True)
class Compared:
    """A figure of one row in both reports.

    Attributes:
        row: the row's name.
        figure: what was compared: "accuracy", "SOPs", "energy operands", "step time", ...
        base, new: its values, in base units.
        ratio: new / base; None where base is 0.
        low, high: bounds of the ratio; both the ratio where the figure has no noise.
        verdict: "no change", "higher" or "lower".
    """

    row: str
    figure: str
    base: float
    new: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Comparison(Viewed):
    """What has changed from one report to another.

    Attributes:
        figures: row by row; those that only one report has are left out, and noted.
        notes: what was not compared, and why.
    """

    figures: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    def beyond(self, limit: str) -> tuple[Compared, ...]:
        """The figures beyond a limit such as ``"energy>+5%"`` or ``"accuracy<-1%"``.

        The change is relative to the base. A figure with noise is beyond where its whole interval
        is. The name is that of the figure, or how it begins: "energy" is every convention's.

        Raises:
            SnnprofError: a limit of another form, or a figure that was not compared.
        """
        matched = _LIMIT.fullmatch(limit)
        if matched is None:
            raise SnnprofError(f"limit {limit!r}: give it as 'energy>+5%' or 'accuracy<-1%'")
        name, sign, percent = matched.groups()
        found = [each for each in self.figures if each.figure.lower().startswith(name.lower())]
        if not found:
            named = dict.fromkeys(each.figure for each in self.figures)
            raise SnnprofError(
                f"limit {limit!r}: {name!r} was not compared; compared were: "
                f"{', '.join(named) or 'none'}"
            )
        bound = 1 + float(percent) / 100
        return tuple(each for each in found if _beyond(each, sign, bound))


def _beyond(each: Compared, sign: str, bound: float) -> bool:
    if each.ratio is None or each.low is None or each.high is None:  # from 0 to something
        return (each.new > each.base) if sign == ">" else (each.new < each.base)
    return each.low > bound if sign == ">" else each.high < bound


def compare(base: Report, new: Report) -> Comparison:
    """The figures of two reports, row by row of the same name (and seed).

    Accuracy, rates, counts, energies, sizes and memory are compared as they are. Of the step
    times the intervals between the 5th and the 95th percentile are: where those overlap there
    is no change. Times of environments that differ are not compared, and the notes say so.

    Raises:
        SnnprofError: no row is in both.
    """
    pairs = list(_pairs(base, new))
    if not pairs:
        raise SnnprofError(
            f"no row is in both reports: {_listed(base.rows)} in the first, {_listed(new.rows)} in "
            "the second"
        )
    timed = [pair for pair in pairs if _environment(base, pair[0]) == _environment(new, pair[1])]
    notes = [*_missing("the second", base, new), *_missing("the first", new, base)]
    if len(timed) < len(pairs):
        notes.append(
            "Step times and memory are not compared where the environments differ: "
            f"{'; '.join(_differences(base, new, pairs))}."
        )
    figures = [found for old, now in pairs for found in _figures(old, now, (old, now) in timed)]
    for old, now in pairs:
        for which, row in (("first", old), ("second", now)):
            if row.failure:
                notes.append(f"{row.name} failed in the {which}: {row.failure}.")
    return Comparison(tuple(figures), tuple(notes))


def _key(row: ReportRow) -> tuple[object, ...]:
    return row.name, row.seed, row.data


def _pairs(base: Report, new: Report) -> Iterator[tuple[ReportRow, ReportRow]]:
    rest = list(new.rows)
    for row in base.rows:
        for other in rest:
            if _key(other) == _key(row):
                rest.remove(other)
                yield row, other
                break


def _listed(rows: Sequence[ReportRow]) -> str:
    return ", ".join(row.name for row in rows[:3]) + (", ..." if len(rows) > 3 else "")


def _missing(where: str, here: Report, there: Report) -> Iterator[str]:
    keys = [_key(row) for row in there.rows]
    missing = [row.name for row in here.rows if _key(row) not in keys]
    if missing:
        yield f"Not in {where} report: {', '.join(missing)}."


def _environment(report: Report, row: ReportRow) -> dict[str, str]:
    return row.environment or report.environment


def _differences(
    base: Report, new: Report, pairs: Sequence[tuple[ReportRow, ReportRow]]
) -> list[str]:
    found: dict[str, None] = {}
    for old, now in pairs:
        here, there = _environment(base, old), _environment(new, now)
        for name in dict.fromkeys((*here, *there)):
            if here.get(name) != there.get(name):
                found[f"{name} {here.get(name, 'unknown')}, then {there.get(name, 'unknown')}"] = (
                    None
                )
    return list(found)


def _figures(old: ReportRow, now: ReportRow, timed: bool) -> Iterator[Compared]:
    here, there = dict(_exact(old)), dict(_exact(now))
    memory = ("peak memory",)
    for figure, value in here.items():
        other = there.get(figure)
        if value is not None and other is not None and (timed or figure not in memory):
            yield _compared(old.name, figure, (value,), (other,))
    if timed and old.step_s and now.step_s and old.conditions == now.conditions:
        yield _compared(old.name, "step time", old.step_s, now.step_s)


def _exact(row: ReportRow) -> Iterator[tuple[str, float | None]]:
    """Figures without noise of the clock."""
    counts = row.counts
    yield "accuracy", row.accuracy
    yield "firing rate", None if counts is None else counts.firing_rate
    yield "SOPs", None if counts is None else counts.per_sample("synops")
    for energy in row.energies:
        yield f"energy {energy.table}", energy.total_j
    for energy in row.training_energies:
        yield f"{energy.phase} energy {energy.table}", energy.total_j
    yield "NOPs", row.neuron_ops
    yield "parameters", row.parameters
    yield "size", row.size_bytes
    yield "peak memory", row.peak_bytes
    for name, value in row.more.items():
        if isinstance(value, int | float):
            yield name, value


def _compared(row: str, figure: str, base: Sequence[float], new: Sequence[float]) -> Compared:
    (low, middle, high), (new_low, new_middle, new_high) = _interval(base), _interval(new)
    verdict = NO_CHANGE
    if new_low > high:
        verdict = HIGHER
    elif new_high < low:
        verdict = LOWER
    if low <= 0:
        return Compared(row, figure, middle, new_middle, None, None, None, verdict)
    bounds = new_low / high, new_high / low
    return Compared(row, figure, middle, new_middle, new_middle / middle, *bounds, verdict)


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """5th percentile, median and 95th percentile."""
    ordered = sorted(values)
    low, middle, high = (_quantile(ordered, share) for share in (_OUTSIDE, 0.5, 1 - _OUTSIDE))
    return low, middle, high


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile between the two nearest values, linearly."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])

"""Two reports, figure by figure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from snnprof.core.errors import SnnprofError
from snnprof.results.base import Viewed
from snnprof.results.identity import unique_names
from snnprof.results.paired_rows import (
    Pair,
    costs_are_comparable,
    differing_settings,
    environment_of,
    missing_rows,
    on_environments,
    on_prices,
    paired_rows,
)
from snnprof.results.report import Report, ReportRow

NO_CHANGE = "no change"
HIGHER, LOWER = "higher", "lower"
ONLY_FIRST, ONLY_SECOND = "only in the first", "only in the second"
NO_NUMBER, TOO_FEW = "no number", "too few steps to tell"
_LIMIT = re.compile(r"\s*([A-Za-z][\w ,+-]*?)\s*([<>])\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*%\s*")
# Shares of the timed steps outside the interval of a time, at either end.
_OUTSIDE = 0.05
LEAST_STEPS = 4  # of fewer, an interval says nothing
STEP_TIME, PEAK_MEMORY = "step time", "peak memory"
_OURS = (
    *("accuracy", "firing rate", "SOPs", "NOPs", "parameters", "size"),
    *(PEAK_MEMORY, STEP_TIME),
)


@dataclass(frozen=True)
class Compared:
    """A figure of one row in both reports.

    Attributes:
        row: the row's name, and what else tells it from others of that name: its seed.
        figure: what was compared: "accuracy", "SOPs", "energy operands", "step time", ...
        base, new: its values, in base units; None in the report that does not have it.
        ratio: new / base; None where base is 0, or one of them is missing or NaN.
        low, high: bounds of the ratio; both the ratio where the figure has no noise.
        verdict: "no change", "higher" or "lower"; "only in the first" or "second"; "no number"
            where one is NaN; "too few steps to tell" where a time looks changed on fewer than
            four steps.
        convention: of an energy.
    """

    row: str
    figure: str
    base: float | None
    new: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    convention: str | None = None

    @property
    def change(self) -> float | None:
        """(new - base) / abs(base); None where there is no ratio."""
        bounds = self._factors(self.ratio, self.ratio)
        return None if bounds is None else bounds[0] - 1

    def is_beyond(self, sign: str, factor: float) -> bool:
        """True if 1 + the relative change is above (">") or below ("<") it, noise and all."""
        bounds = self._factors(self.low, self.high)
        if bounds is not None:
            return bounds[0] > factor if sign == ">" else bounds[1] < factor
        return self.verdict == (HIGHER if sign == ">" else LOWER)  # from 0 to something

    def _factors(self, low: float | None, high: float | None) -> tuple[float, float] | None:
        """Bounds of 1 + the relative change, of bounds of the ratio."""
        if low is None or high is None or self.base is None:
            return None
        return (low, high) if self.base > 0 else (2 - high, 2 - low)


@dataclass(frozen=True)
class Comparison(Viewed):
    """What has changed from one report to another.

    Attributes:
        figures: row by row, those that only one report has among them.
        notes: what was not compared and why, and what the rows were run with that differs.
        missing: names of the first report's rows that the second does not have.
    """

    figures: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def beyond(self, limit: str) -> tuple[Compared, ...]:
        """The figures beyond a limit such as ``"energy>+5%"`` or ``"accuracy<-1%"``.

        The change is relative to the base, of a negative one to its size. A figure with noise is
        beyond where its whole interval is. The name is that of the figure, or how one of ours
        begins: "energy" is every convention's. What only the second report has is held against
        nothing.

        Raises:
            SnnprofError: a limit of another form, a figure that was not compared, or one of which
                nobody can tell: rows of the first report are missing in the second, only the first
                has it, it is NaN, or too few steps were timed.
        """
        matched = _LIMIT.fullmatch(limit)
        if matched is None:
            raise SnnprofError(f"limit {limit!r}: give it as 'energy>+5%' or 'accuracy<-1%'")
        if self.missing:
            more = f" and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            raise SnnprofError(
                f"limit {limit!r}: nobody can tell, for the second report does not have "
                f"{self.missing[0]}{more}: run these rows too"
            )
        name, sign, percent = matched.groups()
        compared = [each for each in self.figures if each.verdict != ONLY_SECOND]
        found = [each for each in compared if _is_named(each, name.lower())]
        if not found:
            named = dict.fromkeys(each.figure for each in compared)
            raise SnnprofError(
                f"limit {limit!r}: {name!r} was not compared; compared were: "
                f"{', '.join(named) or 'none'}"
            )
        for each in found:
            if each.verdict in (ONLY_FIRST, NO_NUMBER, TOO_FEW):
                raise SnnprofError(
                    f"limit {limit!r}: {each.row}: {each.figure}: {each.verdict}: measure it in "
                    f"both{', four steps or more' if each.verdict == TOO_FEW else ''}"
                )
        return tuple(each for each in found if each.is_beyond(sign, 1 + float(percent) / 100))


def _is_named(each: Compared, name: str) -> bool:
    """True for the whole name of any figure, and for how one of ours begins."""
    figure = each.figure.lower()
    ours = each.convention is not None or each.figure in _OURS
    return figure == name or (ours and figure.startswith(name))


def compare(base: Report, new: Report) -> Comparison:
    """The figures of two reports, row by row of the same name, seed and data.

    Accuracy, rates, counts, energies, sizes and memory are compared as they are. Of the step
    times the intervals between the 5th and the 95th percentile are: where those overlap there
    is no change. Times and memory of environments, batch sizes, image sizes or devices that
    differ are not compared; the notes say so, and what else the rows were run with that differs.

    Raises:
        SnnprofError: no row is in both.
    """
    names = dict(zip(map(id, base.rows), unique_names(base.rows), strict=True))
    pairs = paired_rows(base, new)
    if not pairs:
        all_names = unique_names([*base.rows, *new.rows])
        first, second = all_names[: len(base.rows)], all_names[len(base.rows) :]
        raise SnnprofError(
            f"no row is in both reports: {_listed(first)} in the first, {_listed(second)} in the "
            "second"
        )
    figures: list[Compared] = []
    elsewhere: list[Pair] = []
    otherwise: dict[str, list[str]] = {}
    for old, now in pairs:
        here = environment_of(base, old) == environment_of(new, now)
        alike = costs_are_comparable(old, now)
        elsewhere += [] if here else [(old, now)]
        if said := differing_settings(old, now, alike):
            otherwise.setdefault(said, []).append(names[id(old)])
        figures += _figures(names[id(old)], old, now, here and alike)
    missing = {
        "second": missing_rows(base.rows, [old for old, _ in pairs]),
        "first": missing_rows(new.rows, [now for _, now in pairs]),
    }
    notes = [
        *(f"Not in the {where} report: {', '.join(of)}." for where, of in missing.items() if of),
        *on_environments(base, new, elsewhere),
        *(f"{', '.join(of)}: {said}" for said, of in otherwise.items()),
        *on_prices(pairs),
    ]
    for old, now in pairs:
        for which, row in (("first", old), ("second", now)):
            if row.failure:
                notes.append(f"{names[id(old)]} failed in the {which}: {row.failure}.")
    return Comparison(tuple(figures), tuple(notes), tuple(missing["second"]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


_Values = Sequence[float]


def _figures(name: str, old: ReportRow, now: ReportRow, costs: bool) -> Iterator[Compared]:
    """The figures that either has; of time and memory only where ``costs`` can be compared."""
    here, there = dict(_of_row(old)), dict(_of_row(now))
    for figure in dict.fromkeys((*here, *there)):
        if costs or figure not in ((PEAK_MEMORY, None), (STEP_TIME, None)):
            yield _compared(name, figure, here.get(figure, ()), there.get(figure, ()))


def _of_row(row: ReportRow) -> Iterator[tuple[tuple[str, str | None], _Values]]:
    """Figures that were measured, by name and convention."""
    counts = row.counts
    exact: list[tuple[str, float | None]] = [
        ("accuracy", row.accuracy),
        ("firing rate", None if counts is None else counts.firing_rate),
        ("SOPs", None if counts is None else counts.per_sample("synops")),
    ]
    after: list[tuple[str, float | None]] = [
        ("NOPs", row.neuron_ops),
        ("parameters", row.parameters),
        ("size", row.size_bytes),
        (PEAK_MEMORY, row.peak_bytes),
        *((name, x) for name, x in row.more.items() if isinstance(x, int | float)),
    ]
    yield from (((name, None), (value,)) for name, value in exact if value is not None)
    for energy in row.energies:
        if energy.total_j is not None:
            yield (f"energy {energy.table}", energy.table), (energy.total_j,)
    for energy in row.training_energies:
        if energy.total_j is not None:
            yield (f"{energy.phase} energy {energy.table}", energy.table), (energy.total_j,)
    yield from (((name, None), (value,)) for name, value in after if value is not None)
    if row.step_s:
        yield (STEP_TIME, None), row.step_s


def _compared(row: str, figure: tuple[str, str | None], base: _Values, new: _Values) -> Compared:
    name, convention = figure
    old, now = _interval(base), _interval(new)

    def found(verdict: str, *ratios: float) -> Compared:
        ratio, low, high = ratios or (None, None, None)
        middles = old and old[1], now and now[1]
        return Compared(row, name, *middles, ratio, low, high, verdict, convention)

    if old is None or now is None:
        return found(ONLY_SECOND if old is None else ONLY_FIRST)
    if any(map(math.isnan, (*old, *now))):
        return found(NO_NUMBER)
    verdict = HIGHER if now[0] > old[2] else LOWER if now[2] < old[0] else NO_CHANGE
    if name == STEP_TIME and verdict != NO_CHANGE and min(len(base), len(new)) < LEAST_STEPS:
        verdict = TOO_FEW
    if old[0] <= 0 < old[2] or not old[1]:
        return found(verdict)
    return found(verdict, now[1] / old[1], now[0] / old[2], now[2] / old[0])


def _interval(values: _Values) -> tuple[float, float, float] | None:
    """5th percentile, median and 95th percentile; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    low, middle, high = (_quantile(ordered, share) for share in (_OUTSIDE, 0.5, 1 - _OUTSIDE))
    return low, middle, high


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile between the two nearest values, linearly."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])

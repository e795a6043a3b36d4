"""Growth of time and memory with the number of time steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from snnprof.results.identity import (
    SEED,
    TIMESTEPS,
    Likeness,
    conditions_apart,
    likeness,
    told_apart,
)
from snnprof.results.report import Growth, ReportRow
from snnprof.results.steps import quartiles

# Values within this of each other are called flat.
FLAT = 1.02
UNSTEADY = 1.5  # third quartile / first quartile; idle machines give 1.05
_FEW = 4  # timed steps: of fewer, quartiles say nothing
# Below this many numbers of time steps a line fits whatever there is.
_LEAST_POINTS = 3
# What the points of one line may differ in: how long it was trained changes no step's cost.
_ALONG = (TIMESTEPS, SEED, "epochs", "checkpoint")


def growth(rows: Sequence[ReportRow]) -> Iterator[Growth]:
    """Memory and time over T, of every network, neuron and mode that ran with several T.

    A straight line by least squares, y = intercept + slope * T, and the ratio of the last to
    the first. T = 1 is left out where two others remain: it carries no state. Rows of another
    batch size, data, loss, device or environment are no points of the same line
    (:func:`series`), nor are times that say little and peaks of 0, of a step that touched
    nothing; several seeds at one T are one point, their median.
    """
    several = len({row.model for row in rows}) > 1
    several_weights = len({row.weights for row in rows}) > 1
    lines = series(rows)
    conditions = conditions_apart([line[0] for line in lines], *_ALONG)
    for of_series, others in zip(lines, conditions, strict=True):
        first = of_series[0]
        for quantity, figure in (("peak_bytes", "peak_bytes"), ("step_s", "step_median_s")):
            steady = (row for row in of_series if quantity != "step_s" or is_steady(row.step_s))
            figures = ((row.timesteps, getattr(row, figure)) for row in steady)
            points = _medians([(t, y) for t, y in figures if t is not None and y])
            found = fit(sorted(points))
            if found is not None:
                values = [y for t, y in points if t in found[0]]
                yield Growth(
                    first.neuron,
                    first.mode,
                    quantity,
                    *found,
                    spread=max(values) / min(values),
                    model=first.model if several else None,
                    weights=first.weights if several_weights else None,
                    conditions=others or None,
                )


def is_steady(seconds: Sequence[float]) -> bool:
    """False where the quartiles are so far apart that the median says little."""
    found = quartiles(seconds)
    return found is None or len(seconds) < _FEW or found[2] <= UNSTEADY * found[0]


def _medians(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """A point for each T: the median of those with several, as of several seeds."""
    found: dict[int, list[float]] = {}
    for t, y in points:
        found.setdefault(t, []).append(y)
    return [(t, statistics.median(values)) for t, values in found.items()]


def series(rows: Sequence[ReportRow]) -> list[list[ReportRow]]:
    """The rows that are alike but for T and the seed, and for how long they were trained."""
    found: dict[Likeness, list[ReportRow]] = {}
    for row in rows:
        found.setdefault(likeness(row, *_ALONG), []).append(row)
    return [*found.values()]


def series_names(lines: Sequence[Sequence[ReportRow]]) -> list[str]:
    """What tells the lines of :func:`series` apart, the mode always among it."""
    firsts = [line[0] for line in lines]
    alone = len({row.mode for row in firsts}) == 1  # the mode is no part of what tells them apart
    names = told_apart(firsts, *_ALONG)
    return [
        ", ".join(word for word in (name, alone and row.mode) if word)
        for name, row in zip(names, firsts, strict=True)
    ]


def fit(
    points: Sequence[tuple[int, float]],
) -> tuple[tuple[int, ...], float, float, float | None, float] | None:
    """The T used, slope, intercept, R^2 and last / first; None for fewer than two T.

    R^2 = 1 - residual / total sum of squares; None with two points, which any line meets, or
    where all values are equal, so that there is nothing to explain.
    """
    several = [point for point in points if point[0] > 1]
    used = several if len(several) > 1 else points
    if len(used) < 2:
        return None
    xs, ys = zip(*used, strict=True)
    line = statistics.linear_regression(xs, ys)
    mean = statistics.fmean(ys)
    total = sum((y - mean) ** 2 for y in ys)
    residual = sum((y - line.intercept - line.slope * x) ** 2 for x, y in used)
    r_squared = 1 - residual / total if total and len(used) >= _LEAST_POINTS else None
    return xs, line.slope, line.intercept, r_squared, ys[-1] / ys[0]

"""Growth of time and memory with the number of time steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from snnprof.results.report import Growth, ReportRow
from snnprof.results.steps import quartiles

# Values within this of each other are called flat.
FLAT = 1.02
UNSTEADY = 1.5  # third quartile / first quartile; idle machines give 1.05
_FEW = 4  # timed steps: of fewer, quartiles say nothing
# Below this many numbers of time steps a line fits whatever there is.
_LEAST_POINTS = 3


def growth(rows: Sequence[ReportRow]) -> Iterator[Growth]:
    """Memory and time over T, of every network, neuron and mode that ran with several T.

    A straight line by least squares, y = intercept + slope * T, and the ratio of the last to
    the first. T = 1 is left out where two others remain: it carries no state. Rows of another
    batch size or device are no points of the same line, nor are times that say little; several
    seeds at one T are one point, their median.
    """
    several = len({row.model for row in rows}) > 1
    several_weights = len({row.weights for row in rows}) > 1
    for of_series in series(rows).values():
        first = of_series[0]
        for quantity, figure in (("peak_bytes", "peak_bytes"), ("step_s", "step_median_s")):
            steady = (row for row in of_series if quantity != "step_s" or is_steady(row.step_s))
            figures = ((row.timesteps, getattr(row, figure)) for row in steady)
            points = _medians([(t, y) for t, y in figures if t is not None and y is not None])
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
                )


def is_steady(seconds: Sequence[float]) -> bool:
    """False where the quartiles are so far apart that the median says little."""
    found = quartiles(seconds)
    return found is None or len(seconds) < _FEW or found[2] / found[0] <= UNSTEADY


def _medians(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """A point for each T: the median of those with several, as of several seeds."""
    found: dict[int, list[float]] = {}
    for t, y in points:
        found.setdefault(t, []).append(y)
    return [(t, statistics.median(values)) for t, values in found.items()]


def series(rows: Sequence[ReportRow]) -> dict[tuple[str | None, ...], list[ReportRow]]:
    """The rows that differ in T alone, by model, neuron, weights, mode, batch size and device."""
    found: dict[tuple[str | None, ...], list[ReportRow]] = {}
    for row in rows:
        batch = None if row.samples_per_step is None else f"batch {row.samples_per_step}"
        found.setdefault(
            (row.model, row.neuron, row.weights, row.mode, batch, row.device), []
        ).append(row)
    return found


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

"""Coherence of gradients against depth, time steps and epochs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.render.figures import drawn, label, picture
from snnprof.results import CoherenceResult, CoherenceSweep, LayerCoherence

_INCH_PER_LAYER = 0.28
_HEIGHT = 4.4
_INCH_PER_LETTER = 0.08
_ROOM = 12  # letters of a layer's name, upright, that the height has room for


@picture.register
def _(result: CoherenceResult, suffix: str) -> bytes:
    return _picture((result,), suffix)


@picture.register
def _(sweep: CoherenceSweep, suffix: str) -> bytes:
    return _picture(sweep.results, suffix)


def _picture(results: Sequence[CoherenceResult], suffix: str) -> bytes:
    """Cosine of online and STBP gradients against depth and, with several T, against T.

    Solid lines are the membranes' gradients, dashed ones the weights', dotted ones the cosine
    that part (i) of Theorem 4.2 predicts for the membranes, where the identity is claimed for
    every layer. Against T it draws the median over the layers and the range between the least
    and the most coherent. With several epochs of one T it draws these against the epoch, and
    against depth the first and the last epoch of each T.
    """
    if not any(row.cosine_membrane is not None for result in results for row in result.rows):
        raise SnnprofError("no cosine to draw: no layer of the results has gradients")
    return drawn(partial(_draw, results), suffix)


def _draw(results: Sequence[CoherenceResult], pyplot: Any) -> Any:
    against = _against(results)
    longest = max(results, key=lambda result: len(result.rows))
    width = max(3.6, 1.4 + _INCH_PER_LAYER * len(longest.rows))
    widths = [width, 3.2] if against else [width]
    letters = max(len(row.name) for row in longest.rows)
    figure, axes = pyplot.subplots(
        1,
        len(widths),
        figsize=(sum(widths), _HEIGHT + _INCH_PER_LETTER * max(0, letters - _ROOM)),
        width_ratios=widths,
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    colours = pyplot.colormaps["viridis"]
    ends = _ends(results) if against == "epoch" else results
    _against_depth(axes[0][0], ends, longest, colours)
    if against:
        _AGAINST[against](axes[0][1], results, colours)
    entries, labels = axes[0][0].get_legend_handles_labels()
    columns = max(2, int(sum(widths) / 1.4))
    figure.legend(
        entries, labels, loc="outside upper left", ncols=columns, fontsize=8, frameon=False
    )
    return figure


def _by_time(results: Sequence[CoherenceResult]) -> dict[int, list[CoherenceResult]]:
    """The results of each T, T ascending."""
    found: dict[int, list[CoherenceResult]] = {}
    for result in sorted(results, key=lambda result: result.timesteps):
        found.setdefault(result.timesteps, []).append(result)
    return found


def _against(results: Sequence[CoherenceResult]) -> str | None:
    """The horizontal axis of the second picture, if there is one."""
    groups = _by_time(results)
    if any(len({r.epoch for r in group if r.epoch is not None}) > 1 for group in groups.values()):
        return "epoch"
    return "timesteps" if len(groups) > 1 else None


def _ends(results: Sequence[CoherenceResult]) -> list[CoherenceResult]:
    """The first and the last epoch of each T."""
    ordered = [_by_epoch(group) or group for group in _by_time(results).values()]
    return [end for group in ordered for end in dict.fromkeys((group[0], group[-1]))]


def _by_epoch(results: Sequence[CoherenceResult]) -> list[CoherenceResult]:
    return sorted((r for r in results if r.epoch is not None), key=lambda r: r.epoch or 0)


def _against_depth(
    axes: Any, results: Sequence[CoherenceResult], longest: CoherenceResult, colours: Any
) -> None:
    alone = len({result.timesteps for result in results}) == 1
    for result, (colour, alpha) in zip(results, _shades(results, colours), strict=True):
        name = _name(result, alone)
        depth = range(1, len(result.rows) + 1)
        lines = {"-o": "cosine_membrane", "--s": "cosine_weight"}
        if all(row.identity_claimed for row in result.rows):
            lines[":."] = "ratio_predicted"
        for style, column in lines.items():
            shown = label(name) if column == "cosine_membrane" else None
            values = [_drawn(row, column) for row in result.rows]
            axes.plot(depth, values, style, color=colour, alpha=alpha, markersize=3.5, label=shown)
    axes.set_xticks(range(1, len(longest.rows) + 1), [label(row.name) for row in longest.rows])
    axes.tick_params(axis="x", labelrotation=90 if len(longest.rows) > 3 else 0)
    axes.set_xlabel("layer of neurons, from input to output")
    axes.set_ylabel("cosine of online and STBP gradient")
    claimed = any(row.identity_claimed for result in results for row in result.rows)
    for style, meaning in (
        ("-o", "membrane"),
        ("--s", "weight"),
        *([(":.", "membrane, by (i)")] if claimed else []),
    ):
        axes.plot([], [], style, color="grey", markersize=3.5, label=meaning)
    axes.grid(alpha=0.3)


def _shades(results: Sequence[CoherenceResult], colours: Any) -> list[tuple[Any, float]]:
    """A colour and an opacity each: a colour per T, where there are several, earlier ones pale."""
    groups = _by_time(results)
    if len(groups) in (1, len(results)):
        return [(_colour(place, len(results), colours), 1.0) for place in range(len(results))]
    of_time = {t: _colour(place, len(groups), colours) for place, t in enumerate(groups)}
    return [(of_time[r.timesteps], 1.0 if r is groups[r.timesteps][-1] else 0.4) for r in results]


def _colour(place: int, count: int, colours: Any) -> Any:
    return colours(0.9 * place / max(1, count - 1))


def _name(result: CoherenceResult, alone: bool) -> str:
    """Its label, T, or both where the results differ in T."""
    time = f"T = {result.timesteps}"
    if result.label is None:
        return time
    return result.label if alone else f"{time}, {result.label}"


def _against_time(axes: Any, results: Sequence[CoherenceResult], colours: Any) -> None:
    ordered = sorted(results, key=lambda result: result.timesteps)
    for column, style, colour in (
        ("cosine_membrane", "-o", "tab:blue"),
        ("cosine_weight", "--s", "tab:orange"),
    ):
        points = [(result.timesteps, _sorted(result, column)) for result in ordered]
        _median_and_range(axes, points, style, colour, column.removeprefix("cosine_"))
    axes.set_xscale("log", base=2)
    times = sorted({result.timesteps for result in ordered})
    axes.set_xticks(times, [str(t) for t in times])
    axes.set_xlabel("time steps T")
    _finish(axes, results)


def _against_epoch(axes: Any, results: Sequence[CoherenceResult], colours: Any) -> None:
    groups = _by_time(results)
    for place, (timesteps, group) in enumerate(groups.items()):
        colour = _colour(place, len(groups), colours)
        for column, style in (("cosine_membrane", "-o"), ("cosine_weight", "--s")):
            points = [(r.epoch or 0, _sorted(r, column)) for r in _by_epoch(group)]
            shown = f"T = {timesteps}" if column == "cosine_membrane" else None
            _median_and_range(axes, points, style, colour, shown)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epochs of training")
    _finish(axes, results)


_AGAINST: dict[str, Callable[[Any, Sequence[CoherenceResult], Any], None]] = {
    "timesteps": _against_time,
    "epoch": _against_epoch,
}


def _sorted(result: CoherenceResult, column: str) -> list[float]:
    return sorted(v for row in result.rows if (v := getattr(row, column)) is not None)


def _median_and_range(
    axes: Any,
    points: Sequence[tuple[int, list[float]]],
    style: str,
    colour: Any,
    label: str | None,
) -> None:
    """A line through the medians, and a band from the least to the largest value."""
    places = [place for place, found in points if found]
    values = [found for _, found in points if found]
    middle = [statistics.median(found) for found in values]
    axes.plot(places, middle, style, color=colour, markersize=3.5, label=label)
    lowest, highest = [found[0] for found in values], [found[-1] for found in values]
    axes.fill_between(places, lowest, highest, color=colour, alpha=0.15, linewidth=0)


def _finish(axes: Any, results: Sequence[CoherenceResult]) -> None:
    if any(len(result.rows) > 1 for result in results):
        axes.set_title("median and range of the layers", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)


def _drawn(row: LayerCoherence, column: str) -> float:
    """The value; nan, which is a gap in a line, where there is none."""
    value: float | None = getattr(row, column)
    return float("nan") if value is None else value

"""Firing rates, SOPs and energy by layer, in the width of a paper's column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.energy.pricing import price
from snnprof.render.figures import COLUMN_STYLE, COLUMN_WIDTH, drawn, label, picture
from snnprof.render.quantities import COUNT, JOULES, Quantity
from snnprof.render.row_names import differing_names
from snnprof.render.scaling_figure import draw_scaling, is_over_time
from snnprof.results import CountResult, EnergyResult, NeuronRate, Report

_INCH_PER_LAYER = 0.13
_INCH_PER_BAR = 0.09
_AROUND = 0.8  # inches of axes and labels around a panel
_LONGEST = 22  # letters of a layer's name
_USUAL_PRICE = "operands"


@dataclass(frozen=True)
class LayerFigures:
    """What is drawn of one row, per sample.

    Attributes:
        name: of the row.
        synops, energy_j: by layer.
        heading: of the energy.
        neurons: firing rates.
    """

    name: str
    synops: Mapping[str, float]
    energy_j: Mapping[str, float]
    heading: str
    neurons: tuple[NeuronRate, ...] = ()


def layer_figures(
    name: str, counts: CountResult, energies: Sequence[EnergyResult] = ()
) -> LayerFigures:
    """The figures of counts, and of the first of their prices; without one, of ``operands``."""
    energy = energies[0] if energies else price(counts, _USUAL_PRICE)
    synops = {row.name: row.synops / counts.samples for row in counts.rows}
    return LayerFigures(name, synops, energy.by_layer(), energy.heading, counts.neurons)


def layer_picture(rows: Sequence[LayerFigures], suffix: str) -> bytes:
    """Bars of SOPs and energy by layer; of a single row, its firing rates over time too."""
    return drawn(partial(_draw, rows), suffix, COLUMN_STYLE)


@picture.register
def _(result: CountResult, suffix: str) -> bytes:
    if not result.samples or not (result.rows or result.neurons):
        raise SnnprofError("no picture of these counts: no layer and no neuron was counted")
    return layer_picture([layer_figures("", result)], suffix)


@picture.register
def _(result: EnergyResult, suffix: str) -> bytes:
    if not result.rows:
        raise SnnprofError(f"no picture of this energy: {result.table} bills no layer of it")
    return layer_picture([LayerFigures("", {}, result.by_layer(), result.heading)], suffix)


@picture.register
def _(report: Report, suffix: str) -> bytes:
    """Time and memory over T, where steps were measured at several T; else the layers."""
    if is_over_time(report):
        return drawn(partial(draw_scaling, report), suffix, COLUMN_STYLE)
    counted = [row for row in report.rows if row.counts is not None and row.counts.samples]
    if not any(row.counts and (row.counts.rows or row.counts.neurons) for row in counted):
        raise SnnprofError(
            "nothing to draw: no row has counts by layer, and a picture of time and memory over T "
            "needs steps measured at several T: --timesteps 1,2,4,8 --repeats 20"
        )
    figures = [
        layer_figures(name, row.counts, row.energies)
        for name, row in zip(differing_names(counted), counted, strict=True)
        if row.counts is not None
    ]
    return layer_picture(figures, suffix)


def _draw(rows: Sequence[LayerFigures], pyplot: Any) -> Any:
    neurons = rows[0].neurons if len(rows) == 1 else ()
    layers = [*dict.fromkeys(name for row in rows for name in (*row.synops, *row.energy_j))]
    of_layer = max(_INCH_PER_LAYER, _INCH_PER_BAR * len(rows) + 0.04)
    heights = [
        *([_AROUND + _INCH_PER_LAYER * len(neurons)] if neurons else []),
        *([_AROUND + of_layer * len(layers)] if layers else []),
    ]
    legend = 0.0 if len(rows) == 1 else 0.12 * math.ceil(len(rows) / 2)
    figure = pyplot.figure(figsize=(COLUMN_WIDTH, sum(heights) + legend), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    if neurons:
        _heat_map(figure, figure.add_subplot(grid[0]), neurons)
    if layers:
        _bars(figure, grid[len(heights) - 1], rows, layers)
    return figure


def _heat_map(figure: Any, axes: Any, neurons: Sequence[NeuronRate]) -> None:
    """Firing rate of each layer of neurons at each time step; of all steps where T is unknown."""
    by_step = [row.firing_rate_by_step for row in neurons]
    steps = max((len(rates) for rates in by_step if rates), default=0)
    if steps:
        rates = [[*(row or ()), *[math.nan] * (steps - len(row or ()))] for row in by_step]
    else:
        rates = [[row.firing_rate] for row in neurons]
    percent = [[100 * rate for rate in row] for row in rates]
    image = axes.imshow(percent, aspect="auto", cmap="viridis", vmin=0, interpolation="none")
    axes.set_yticks(range(len(neurons)), [_short(row.name) for row in neurons])
    axes.set_xlabel("time step")
    if steps:
        axes.set_xticks(range(0, steps, math.ceil(steps / 16)))
        axes.xaxis.set_major_formatter(lambda place, _: f"{place + 1:.0f}")
    else:
        axes.set_xticks([0], ["all"])
    figure.colorbar(image, ax=axes, label="firing rate (%)", pad=0.02)


def _bars(figure: Any, place: Any, rows: Sequence[LayerFigures], layers: Sequence[str]) -> None:
    energies = ", ".join(dict.fromkeys(row.heading for row in rows))
    drawn_kinds = [
        ("SOPs", COUNT, [row.synops for row in rows]),
        (_short(energies, _LONGEST + 8), JOULES, [row.energy_j for row in rows]),
    ]
    panels = [panel for panel in drawn_kinds if any(panel[2])]
    grid = place.subgridspec(1, len(panels))
    first = None
    for number, (heading, quantity, values) in enumerate(panels):
        axes = figure.add_subplot(grid[number], sharey=first)
        if first is None:
            first = axes
            axes.set_yticks(range(len(layers)), [_short(name) for name in layers])
            axes.set_ylim(len(layers) - 0.5, -0.5)  # the first layer on top
        else:
            axes.tick_params(axis="y", labelleft=False)
        _panel(axes, heading, quantity, values, layers, [row.name for row in rows])
    if len(rows) > 1 and first is not None:
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


def _panel(
    axes: Any,
    heading: str,
    quantity: Quantity,
    values: Sequence[Mapping[str, float]],
    layers: Sequence[str],
    names: Sequence[str],
) -> None:
    factor, symbol = quantity.unit([value for of_row in values for value in of_row.values()])
    height = 0.8 / len(values)
    for number, (of_row, name) in enumerate(zip(values, names, strict=True)):
        places = [place - 0.4 + height * (number + 0.5) for place in range(len(layers))]
        lengths = [of_row.get(layer, math.nan) / factor for layer in layers]  # nan: no bar
        axes.barh(places, lengths, height=height, label=label(name))
    axes.set_xlabel(f"{heading}\n{f'({symbol} per sample)' if symbol else 'per sample'}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _short(name: str, longest: int = _LONGEST) -> str:
    """The name, its middle left out where it is too long for the column."""
    shown = label(name)
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}…{shown[-half + 1 :]}"

"""Firing rates, SOPs and energy by layer, in the width of a paper's column."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.energy.pricing import price
from snnprof.render.figures import COLUMN_STYLE, COLUMN_WIDTH, drawn, label, picture
from snnprof.render.quantities import COUNT, JOULES, Quantity
from snnprof.render.scaling_figure import draw_scaling, is_over_time
from snnprof.render.table_lines import line_names, table_lines
from snnprof.results import CountResult, EnergyResult, NeuronRate, Report, ReportRow
from snnprof.results.summary import counted_rows

_INCH_PER_LAYER = 0.13
_INCH_PER_BAR = 0.09
_AROUND = 0.8  # inches of axes and labels around a panel
_LONGEST = 22  # letters of a layer's name
_USUAL_PRICE = "operands"
_WHISKERS = {"elinewidth": 0.5}


@dataclass(frozen=True)
class LayerFigures:
    """What is drawn of one row, per sample; of several seeds, mean and sample deviation (n - 1).

    Attributes:
        name: of the row.
        synops, energy_j: by layer, a figure for each seed.
        heading: of the energy.
        neurons: firing rates.
    """

    name: str
    synops: Mapping[str, Sequence[float]]
    energy_j: Mapping[str, Sequence[float]]
    heading: str
    neurons: tuple[NeuronRate, ...] = ()


def layer_figures(name: str, measured: Sequence[tuple[CountResult, EnergyResult]]) -> LayerFigures:
    """The figures of counts and their price, of a row's seeds under one convention."""
    synops: dict[str, list[float]] = {}
    energies: dict[str, list[float]] = {}
    for counts, energy in measured:
        for layer in counts.rows:
            synops.setdefault(layer.name, []).append(layer.synops / counts.samples)
        for layer_name, energy_j in energy.by_layer().items():
            energies.setdefault(layer_name, []).append(energy_j)
    neurons = measured[0][0].neurons if len(measured) == 1 else ()
    return LayerFigures(name, synops, energies, measured[0][1].heading, neurons)


def layer_picture(rows: Sequence[LayerFigures], suffix: str) -> bytes:
    """Bars of SOPs and energy by layer; of a single row, its firing rates over time too."""
    return drawn(partial(_draw, rows), suffix, COLUMN_STYLE)


def counts_picture(
    counts: CountResult, suffix: str, energies: Sequence[EnergyResult] = ()
) -> bytes:
    """The layers of one measurement, under the first of its prices; without one, ``operands``."""
    energy = energies[0] if energies else price(counts, _USUAL_PRICE)
    return layer_picture([layer_figures("", [(counts, energy)])], suffix)


def rows_picture(rows: Sequence[ReportRow], suffix: str) -> bytes:
    """Bars of counted rows by layer: a bar for rows that differ in their seed alone."""
    return layer_picture(figures_of_rows(rows), suffix)


def figures_of_rows(rows: Sequence[ReportRow]) -> list[LayerFigures]:
    """What is drawn of counted rows, all under one convention.

    It is the first that every row was priced by, else ``operands``.
    """
    lines = table_lines(rows)
    convention = _shared_convention(rows)
    return [
        layer_figures(
            name,
            [(row.counts, _priced(row, convention)) for row in line if row.counts is not None],
        )
        for name, line in zip(line_names(lines), lines, strict=True)
    ]


def _shared_convention(rows: Sequence[ReportRow]) -> str:
    shared = [energy.table for energy in rows[0].energies]
    for row in rows[1:]:
        of_row = {energy.table for energy in row.energies}
        shared = [table for table in shared if table in of_row]
    return shared[0] if shared else _USUAL_PRICE


def _priced(row: ReportRow, convention: str) -> EnergyResult:
    """The row's energy under the convention; priced here where the row does not have it."""
    found = [energy for energy in row.energies if energy.table == convention]
    assert row.counts is not None
    return found[0] if found else price(row.counts, convention)


@picture.register
def _(result: CountResult, suffix: str) -> bytes:
    if not result.samples or not (result.rows or result.neurons):
        raise SnnprofError("no picture of these counts: no layer and no neuron was counted")
    return counts_picture(result, suffix)


@picture.register
def _(result: EnergyResult, suffix: str) -> bytes:
    if not result.rows:
        raise SnnprofError(f"no picture of this energy: {result.table} bills no layer of it")
    energies = {name: [energy_j] for name, energy_j in result.by_layer().items()}
    return layer_picture([LayerFigures("", {}, energies, result.heading)], suffix)


@picture.register
def _(report: Report, suffix: str) -> bytes:
    """Time and memory over T, where steps were measured at several T; else the layers."""
    if is_over_time(report):
        return drawn(partial(draw_scaling, report), suffix, COLUMN_STYLE)
    counted = counted_rows(report)
    if not any(row.counts and (row.counts.rows or row.counts.neurons) for row in counted):
        raise SnnprofError(
            "nothing to draw: no row has counts by layer, and a picture of time and memory over T "
            "needs steps measured at several T: --timesteps 1,2,4,8 --repeats 20"
        )
    return rows_picture(counted, suffix)


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
    drawn_kinds = [
        ("SOPs", COUNT, [row.synops for row in rows]),
        (_short(rows[0].heading, _LONGEST + 8), JOULES, [row.energy_j for row in rows]),
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
    values: Sequence[Mapping[str, Sequence[float]]],
    layers: Sequence[str],
    names: Sequence[str],
) -> None:
    means = [{layer: statistics.fmean(seeds) for layer, seeds in row.items()} for row in values]
    factor, symbol = quantity.unit([value for of_row in means for value in of_row.values()])
    height = 0.8 / len(values)
    for number, (of_row, of_seeds, name) in enumerate(zip(means, values, names, strict=True)):
        places = [place - 0.4 + height * (number + 0.5) for place in range(len(layers))]
        lengths = [of_row.get(layer, math.nan) / factor for layer in layers]  # nan: no bar
        spread = [_deviation(of_seeds.get(layer, ())) / factor for layer in layers]
        whiskers = {"xerr": spread, "error_kw": _WHISKERS} if any(spread) else {}
        axes.barh(places, lengths, height=height, label=label(name), **whiskers)
    axes.set_xlabel(f"{heading}\n{f'({symbol} per sample)' if symbol else 'per sample'}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _deviation(seeds: Sequence[float]) -> float:
    return statistics.stdev(seeds) if len(seeds) > 1 else 0.0


def _short(name: str, longest: int = _LONGEST) -> str:
    """The name, its middle left out where it is too long for the column."""
    shown = label(name)
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}…{shown[-half + 1 :]}"

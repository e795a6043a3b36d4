"""A model's modules as a tree, and the layers of a report's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from snnprof.render.count_table import not_counted_notes
from snnprof.render.energy_table import energy_notes
from snnprof.render.figures import picture
from snnprof.render.layer_figure import counts_picture, rows_picture
from snnprof.render.number_format import integer, percent, relative
from snnprof.render.quantities import COUNT, JOULES, Quantity
from snnprof.render.row_names import differing_names
from snnprof.render.table import View, records, view
from snnprof.results import (
    COUNT_COLUMNS,
    LayerCount,
    Layers,
    MacCheck,
    ModelSummary,
    NeuronRate,
    ReportRow,
)
from snnprof.results.module_tree import Figures, Node, figures_of, module_tree
from snnprof.results.summary import counted_rows

# Left out on a narrow screen, the first first.
_SPARE = ("nominal MACs", "input density", "input x weight", "output shape", "event", "parameters")


# --- one model -------------------------------------------------------------------------------


@records.register
def _(result: ModelSummary) -> list[dict[str, Any]]:
    return [
        {
            "module": node.name,
            "kind": node.kind,
            "depth": depth,
            "output_shape": node.output_shape,
            "parameters": node.parameters,
            "firing_rate": figures.firing_rate,
            "input_density": figures.input_density,
            "input_x_weight": ", ".join(figures.kinds) or None,
            "event": ", ".join(figures.events) or None,
            "synops": figures.synops,
            "nominal_macs": figures.nominal_macs,
            **{f"energy_{table}_j": joules for table, joules in figures.energy_j.items()},
        }
        for depth, node, figures in _shown(result)
    ]


@view.register
def _(result: ModelSummary) -> View:
    shown = [*_shown(result)]
    figures = [each for _, _, each in shown]
    columns = [
        ("module", [_module_cell(node) for _, node, _ in shown]),
        ("output shape", [node.output_shape or "" for _, node, _ in shown]),
        ("parameters", [integer(node.parameters) for _, node, _ in shown]),
        *_figure_columns(figures),
    ]
    counts = result.counts
    steps = "" if counts.timesteps is None else f", T = {counts.timesteps}"
    return View(
        title=f"{result.name}: its modules, per sample ({counts.samples} samples{steps})",
        columns=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        notes=tuple(_notes(result)),
        tree=tuple(depth for depth, _, _ in shown),
        spare=tuple(
            heading for name in _SPARE for heading, _ in columns if heading.startswith(name)
        ),
    )


@picture.register
def _(result: ModelSummary, suffix: str) -> bytes:
    return counts_picture(result.counts, suffix, result.energies)


def _shown(result: ModelSummary) -> Iterator[tuple[int, Node, Figures]]:
    """Depth, module and figures, of the modules that are not folded."""

    def walk(node: Node, depth: int) -> Iterator[tuple[int, Node, Figures]]:
        yield depth, node, node.figures(result.counts, result.energies)
        if result.depth is None or depth < result.depth:
            for child in node.children:
                yield from walk(child, depth + 1)

    yield from walk(module_tree(result.name, result.modules, result.counts), 0)


def _module_cell(node: Node) -> str:
    return f"{node.name} ({node.kind})" if node.kind and node.kind != node.name else node.name


def _figure_columns(figures: Sequence[Figures]) -> Iterator[tuple[str, list[str]]]:
    """Headings and cells of what was counted."""
    yield "firing rate (%)", [percent(each.firing_rate) for each in figures]
    yield "input density (%)", [percent(each.input_density) for each in figures]
    yield _scaled("SOPs", COUNT, [each.synops for each in figures])
    yield "input x weight", [_words(each.kinds) for each in figures]
    yield "event", [", ".join(each.events) for each in figures]
    yield _scaled("nominal MACs", COUNT, [each.nominal_macs for each in figures])
    for table in dict.fromkeys(table for each in figures for table in each.energy_j):
        joules = [each.energy_j.get(table) for each in figures]
        yield _scaled(f"energy, {table}", JOULES, joules)


def _scaled(
    heading: str, quantity: Quantity, values: Sequence[float | None]
) -> tuple[str, list[str]]:
    """A column in one unit."""
    factor, symbol = quantity.unit([value for value in values if value is not None])
    cells = ["" if value is None else quantity.cell([value], factor) for value in values]
    return f"{heading} ({symbol})" if symbol else heading, cells


def _words(kinds: Sequence[str]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{len(kinds)} kinds" if kinds else ""


def _notes(result: ModelSummary) -> Iterator[str]:
    yield (
        "A module's figures are of it and all modules in it; firing rates are of neurons' outputs, "
        "input densities of layers' inputs (of several layers without the stem's)."
    )
    if any(row.output_shape for row in result.modules):
        yield "Output shapes are of the first call: B is the batch, T the time steps."
    yield from result.notes
    yield from _check_notes(result.check)
    yield from not_counted_notes(result.counts.not_counted)
    for energy in result.energies:
        yield from energy_notes(energy)


def _check_notes(check: MacCheck | None) -> Iterator[str]:
    """The agreement with fvcore, or where there is none, and why."""
    if check is None:
        yield "Nominal MACs were not held against fvcore's here: that needs the model itself."
        return
    if check.fvcore_macs is None:
        yield f"Nominal MACs, {check.macs:,.0f}: fvcore could not count them ({check.failure})."
        return
    if not check.differing:
        yield (
            f"Nominal MACs: fvcore counts the same {check.macs:,.0f} per sample, and the same in "
            f"each of the {check.modules} modules that have any."
        )
        return
    yield (
        f"Nominal MACs: {check.macs:,.0f} per sample, {check.fvcore_macs:,.0f} by fvcore; they "
        f"differ in {len(check.differing)} of {check.modules} modules:"
    )
    for each in check.differing:
        yield (
            f"{each.name}: {each.macs:,.0f}, by fvcore {each.fvcore_macs:,.0f} "
            f"({each.reason or 'it is not known why'})."
        )


# --- the layers of a report ------------------------------------------------------------------

_IDENTITY = ("model", "neuron", "weights", "mode", "timesteps", "seed")


@records.register
def _(result: Layers) -> list[dict[str, Any]]:
    lines = [*_lines(result)]
    tables = dict.fromkeys(energy.table for line in lines for energy in line.row.energies)
    return [_record(line, [*tables]) for line in lines]


@view.register
def _(result: Layers) -> View:
    lines = [*_lines(result)]
    names = dict.fromkeys(line.name for line in lines)
    columns = [
        *([("row", [line.name for line in lines])] if len(names) > 1 else []),
        ("layer", [line.layer.name for line in lines]),
        ("operation", [line.operation for line in lines]),
        ("output shape", [line.node.output_shape or "" for line in lines]),
        ("parameters", [integer(line.node.parameters) for line in lines]),
        *_figure_columns([line.figures for line in lines]),
    ]
    return View(
        title="Layers, per sample",
        columns=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        notes=tuple(_layers_notes(result)),
        caption=f"Every layer: {lines[0].name}." if len(names) == 1 else "",
    )


@picture.register
def _(result: Layers, suffix: str) -> bytes:
    return rows_picture(counted_rows(result.report), suffix)


@dataclass(frozen=True)
class _Line:
    """A layer, or a layer of neurons, of one row.

    Attributes:
        name: what the row differs from others in.
        row: of the report.
        samples: that were counted.
        node: the module that it is, or stands under.
        layer: its counts.
    """

    name: str
    row: ReportRow
    samples: int
    node: Node
    layer: LayerCount | NeuronRate

    @property
    def linear(self) -> LayerCount | None:
        """The layer, where it is none of neurons."""
        return self.layer if isinstance(self.layer, LayerCount) else None

    @property
    def operation(self) -> str:
        return self.linear.op if self.linear else "neuron"

    @property
    def figures(self) -> Figures:
        layers = [] if self.linear is None else [self.linear]
        neurons = [] if isinstance(self.layer, LayerCount) else [self.layer]
        return figures_of(layers, neurons, self.samples, self.row.energies)


def _lines(result: Layers) -> Iterator[_Line]:
    """What was counted in every row, in the order of its modules."""
    rows = counted_rows(result.report)
    for name, row in zip(differing_names(rows), rows, strict=True):
        if row.counts is not None:
            for node in module_tree(row.name, row.modules, row.counts).walk():
                found: list[LayerCount | NeuronRate] = [*node.layers, *node.neurons]
                for layer in found:
                    yield _Line(name, row, row.counts.samples, node, layer)


def _record(line: _Line, tables: Sequence[str]) -> dict[str, Any]:
    figures, linear = line.figures, line.linear
    return {
        **{name: getattr(line.row, name) for name in _IDENTITY},
        "layer": line.layer.name,
        "operation": line.operation,
        "output_shape": line.node.output_shape,
        "parameters": line.node.parameters,
        "firing_rate": figures.firing_rate,
        "input_density": figures.input_density,
        "input_kind": linear and linear.input_kind,
        "weight_kind": linear and linear.weight_kind,
        "event": linear and linear.operation,
        "stem": linear and linear.stem,
        **{c: linear and relative(getattr(linear, c), line.samples) for c in COUNT_COLUMNS},
        **{f"energy_{table}_j": figures.energy_j.get(table) for table in tables},
    }


def _layers_notes(result: Layers) -> Iterator[str]:
    for row in result.report.rows:
        if row.counts is None:
            yield f"No layers of {row.name}: {row.failure or 'it was not counted'}."
        else:
            yield from (f"{row.name}: {note}" for note in not_counted_notes(row.counts.not_counted))
    energies = {energy.table: energy for row in result.report.rows for energy in row.energies}
    for energy in energies.values():
        yield from energy_notes(energy)

"""Synaptic operations, per layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from snnprof.render.number_format import percent, relative
from snnprof.render.quantities import COUNT
from snnprof.render.table import View, records, view
from snnprof.results import COUNT_COLUMNS, CountResult, LayerCount, NeuronRate

# What counts are merged by; for programs, in the JSON.
_RAW = ("values", "second_nonzeros", "second_inputs", "second_values", "gradient")


@records.register
def _(result: CountResult) -> list[dict[str, Any]]:
    rows = []
    looked_at = _has_gradients(result)
    for layer in result.rows:
        row = {name: value for name, value in asdict(layer).items() if name not in _RAW}
        for column in COUNT_COLUMNS:
            row[column] = relative(row[column], result.samples)
        if looked_at:
            row["gradient_density"] = layer.gradient_density
        rows.append(row)
    return rows


_LAYER_HEADINGS = (
    "layer",
    "operation",
    "input",
    "weight",
    "event",
    "input density (%)",
    "firing rate (%)",
)
_HEADINGS = {
    "synops": "SOPs",
    "unrolled_synops": "unrolled SOPs",
    "nnz_synops": "nnz SOPs",
    "rate_synops": "rate SOPs",
    "nominal_macs": "nominal MACs",
    "dense_macs": "dense MACs",
}


_READERS = {
    "c": "the C extension",
    "triton": "Triton's kernel",
    "torch": "torch: the C extension was not built, or not used",
}


def _has_gradients(result: CountResult) -> bool:
    """True where backward passes were looked at; else there is no column of them."""
    return any(row.gradient is not None for row in result.rows)


def _count_columns(result: CountResult) -> tuple[str, ...]:
    """The columns to show; that of products of activations only where there are any."""
    products = any(row.nnz_synops is not None for row in result.rows)
    return tuple(column for column in COUNT_COLUMNS if products or column != "nnz_synops")


@view.register
def _(result: CountResult) -> View:
    shown = _count_columns(result)
    looked_at = _has_gradients(result)
    layers = [_layer_cells(layer) for layer in result.rows]
    neurons = [_neuron_cells(neuron) for neuron in result.neurons]
    rates = percent(result.input_density), percent(result.firing_rate)
    named = [*layers, *neurons, ("total", "", "", "", "", *rates)]
    figures = [
        COUNT.column(_HEADINGS[name], [*_per_sample(result, name), result.per_sample(name)])
        for name in shown
    ]
    if looked_at:
        figures.append(("gradient density (%)", _gradient_cells(result)))
    rows = zip(*zip(*named, strict=True), *(cells for _, cells in figures), strict=True)
    steps = "" if result.timesteps is None else f", T = {result.timesteps}"
    return View(
        title=f"Synaptic operations per sample ({result.samples} samples{steps})",
        columns=(*_LAYER_HEADINGS, *(heading for heading, _ in figures)),
        rows=tuple(rows),
        notes=tuple(count_notes(result)),
    )


def _per_sample(result: CountResult, name: str) -> list[float | None]:
    """The figure of every layer, and none of the layers of neurons, which have none."""
    counted = [relative(getattr(layer, name), result.samples) for layer in result.rows]
    return [*counted, *[None] * len(result.neurons)]


def _layer_cells(layer: LayerCount) -> tuple[str, ...]:
    return (
        layer.name + (" (stem)" if layer.stem else ""),
        layer.op,
        layer.input_kind,
        layer.weight_kind,
        layer.operation,
        percent(layer.input_density),
        "",
    )


def _neuron_cells(neuron: NeuronRate) -> tuple[str, ...]:
    """The row of a layer of neurons: its firing rate alone."""
    return (neuron.name, "neuron", "", "", "", "", percent(neuron.firing_rate))


def _gradient_cells(result: CountResult) -> list[str]:
    """Of every layer, and of the membranes of every layer of neurons; none of the total."""
    of_neurons = (neuron.gradient for neuron in result.neurons)
    return [
        *(percent(layer.gradient_density) for layer in result.rows),
        *("" if gradient is None else percent(gradient.density) for gradient in of_neurons),
        "",
    ]


def count_notes(result: CountResult, *, dense: bool = False) -> Iterator[str]:
    """Sentences on layers that were not counted, and on wrong inputs.

    Args:
        result: the counts.
        dense: of a network that has no neurons, and is not meant to.
    """
    if any(layer.stem for layer in result.rows):
        yield "SOPs include the stem; the total input density leaves it out: its input is no spike."
    elif result.rows:
        first = result.rows[0]
        yield f"No stem: the input of the first layer, {first.name}, is {first.input_kind}."
    if result.rows and result.firing_rate is None and not dense:
        yield (
            "No firing rate: no layer of neurons is known in the model. If it has some, "
            "snnprof.register_neuron(TheirNeuron) makes their class known."
        )
    yield from not_counted_notes(result.not_counted)
    if not result.not_counted:
        yield "Not counted: nothing; every convolution, linear operation and product was seen."
    if result.scan:
        readers = (_READERS[name] for name in result.scan.split(", "))
        yield f"Inputs were read by {'; and by '.join(readers)}."
    if result.non_finite:
        yield f"NaN or infinity in the input of: {', '.join(result.non_finite)}."


def not_counted_notes(not_counted: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line per reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in not_counted:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"Not counted: {', '.join(names)} ({reason})."

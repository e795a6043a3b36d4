"""Synaptic operations, per layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from snnprof.render.number_format import (
    percent,
    relative,
    scaled,
)
from snnprof.render.table import MEGA, View, records, view
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


_HEADINGS = {
    "synops": "SOPs (M)",
    "unrolled_synops": "unrolled SOPs (M)",
    "nnz_synops": "nnz SOPs (M)",
    "rate_synops": "rate SOPs (M)",
    "nominal_macs": "nominal MACs (M)",
    "dense_macs": "dense MACs (M)",
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
    columns = (
        "layer",
        "operation",
        "input",
        "weight",
        "event",
        "input density (%)",
        "firing rate (%)",
        *(_HEADINGS[column] for column in shown),
        *["gradient density (%)"] * looked_at,
    )
    rows = [_layer_cells(layer, result.samples, shown, looked_at) for layer in result.rows]
    rows += [_neuron_cells(neuron, len(shown), looked_at) for neuron in result.neurons]
    totals = [scaled(result.per_sample(column), MEGA) for column in shown]
    rates = percent(result.input_density), percent(result.firing_rate)
    rows.append(("total", "", "", "", "", *rates, *totals, *[""] * looked_at))
    steps = "" if result.timesteps is None else f", T = {result.timesteps}"
    title = f"Synaptic operations per sample ({result.samples} samples{steps})"
    return View(title, columns, tuple(rows), tuple(count_notes(result)))


def _layer_cells(
    layer: LayerCount, samples: int, columns: Sequence[str], looked_at: bool
) -> tuple[str, ...]:
    return (
        layer.name + (" (stem)" if layer.stem else ""),
        layer.op,
        layer.input_kind,
        layer.weight_kind,
        layer.operation,
        percent(layer.input_density),
        "",
        *(scaled(relative(getattr(layer, column), samples), MEGA) for column in columns),
        *[percent(layer.gradient_density)] * looked_at,
    )


def _neuron_cells(neuron: NeuronRate, columns: int, looked_at: bool) -> tuple[str, ...]:
    """The row of a layer of neurons: its firing rate, and its membrane's gradient."""
    density = percent(None if neuron.gradient is None else neuron.gradient.density)
    rate = percent(neuron.firing_rate)
    return (neuron.name, "neuron", "", "", "", "", rate, *[""] * columns, *[density] * looked_at)


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
            "No firing rate: no layer of neurons is known in the model; "
            "@snnprof.register_neuron(TheirNeuron) makes a class known."
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

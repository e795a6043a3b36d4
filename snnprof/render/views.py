"""Each kind of result as a table: formatted for readers, raw as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from snnprof.render.coherence_views import coherence_notes
from snnprof.render.format import (
    integer,
    number,
    percent,
    quartiles,
    ratio,
    relative,
    scaled,
    spread,
)
from snnprof.render.table import View, frame, records, view
from snnprof.results import (
    COUNT_COLUMNS,
    ArmResult,
    CountResult,
    EnergyResult,
    LayerCount,
    Report,
    StepProfile,
)

__all__ = ["View", "coherence_notes", "frame", "records", "view"]

MEGA, MILLI, MIB = 1e6, 1e-3, 2.0**20


# --- synaptic operations, per layer ---------------------------------------------------------


@records.register
def _(result: CountResult) -> list[dict[str, Any]]:
    rows = []
    for layer in result.rows:
        row = asdict(layer)
        for column in COUNT_COLUMNS:
            row[column] = relative(row[column], result.samples)
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


def _count_columns(result: CountResult) -> tuple[str, ...]:
    """The columns to show; that of products of activations only where there are any."""
    products = any(row.nnz_synops is not None for row in result.rows)
    return tuple(column for column in COUNT_COLUMNS if products or column != "nnz_synops")


@view.register
def _(result: CountResult) -> View:
    shown = _count_columns(result)
    columns = (
        "layer",
        "operation",
        "input",
        "weight",
        "event",
        "firing rate (%)",
        *(_HEADINGS[column] for column in shown),
    )
    rows = [_layer_cells(layer, result.samples, shown) for layer in result.rows]
    totals = [scaled(result.per_sample(column), MEGA) for column in shown]
    rows.append(("total", "", "", "", "", percent(result.firing_rate), *totals))
    steps = "" if result.timesteps is None else f", T = {result.timesteps}"
    title = f"Synaptic operations per sample ({result.samples} samples{steps})"
    return View(title, columns, tuple(rows), tuple(count_notes(result)))


def _layer_cells(layer: LayerCount, samples: int, columns: Sequence[str]) -> tuple[str, ...]:
    return (
        layer.name + (" (stem)" if layer.stem else ""),
        layer.op,
        layer.input_kind,
        layer.weight_kind,
        layer.operation,
        percent(layer.firing_rate),
        *(scaled(relative(getattr(layer, column), samples), MEGA) for column in columns),
    )


def count_notes(result: CountResult) -> Iterator[str]:
    """What was not counted, and what was wrong with the inputs."""
    if any(layer.stem for layer in result.rows):
        yield "SOPs include the stem; the total firing rate leaves it out: its input is no spike."
    elif result.rows:
        first = result.rows[0]
        yield f"No stem: the input of the first layer, {first.name}, is {first.input_kind}."
    yield from not_counted_notes(result.not_counted)
    if not result.not_counted:
        yield "Not counted: nothing; every convolution, linear operation and product was seen."
    if result.non_finite:
        yield f"NaN or infinity in the input of: {', '.join(result.non_finite)}."


def not_counted_notes(not_counted: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line per reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in not_counted:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"Not counted: {', '.join(names)} ({reason})."


# --- energy, per layer -----------------------------------------------------------------------


@records.register
def _(result: EnergyResult) -> list[dict[str, Any]]:
    return [{"table": result.table, **asdict(row)} for row in result.rows]


@view.register
def _(result: EnergyResult) -> View:
    columns = ("layer", "event", "events (M)", "energy (mJ)")
    rows = [
        (row.name, row.operation, scaled(row.events, MEGA), scaled(row.energy_j, MILLI))
        for row in result.rows
    ]
    rows.append(("total", "", "", scaled(result.total_j, MILLI)))
    title = f"Energy per sample, convention {result.table}"
    notes = (*energy_notes(result), *not_counted_notes(result.not_counted))
    return View(title, columns, tuple(rows), notes)


def energy_notes(result: EnergyResult) -> Iterator[str]:
    """The convention, its source and what it leaves out."""
    yield (
        f"Energy convention {result.table}: {result.description}. Leaves out: "
        f"{result.leaves_out}. Source: {result.source}."
    )
    if result.not_billed:
        yield f"Counted but not billed by {result.table}: {', '.join(result.not_billed)}."


# --- one training step ----------------------------------------------------------------------


@records.register
def _(result: StepProfile) -> list[dict[str, Any]]:
    row: dict[str, Any] = {
        "mode": result.mode,
        "device": result.device,
        "batch_size": result.batch_size,
        "timesteps": result.timesteps,
    }
    for phase in ("forward", "backward", "optimizer", "step"):
        first, middle, third = quartiles(getattr(result, f"{phase}_s")) or (None, None, None)
        row |= {f"{phase}_median_s": middle, f"{phase}_q1_s": first, f"{phase}_q3_s": third}
    return [
        row
        | {
            "repeats": len(result.step_s),
            "samples_per_s": result.samples_per_s,
            "peak_bytes": result.peak_bytes,
            "reserved_bytes": result.reserved_bytes,
            "static_bytes": result.static_bytes,
            "activation_bytes": result.activation_bytes,
            "backward_passes": result.backward_passes,
            "optimizer_steps": result.optimizer_steps,
        }
    ]


@view.register
def _(result: StepProfile) -> View:
    cells = {
        "mode": result.mode,
        "T": str(result.timesteps),
        "batch": str(result.batch_size),
        "forward (ms)": spread(result.forward_s, MILLI),
        "backward (ms)": spread(result.backward_s, MILLI),
        "optimiser (ms)": spread(result.optimizer_s, MILLI),
        "step (ms)": spread(result.step_s, MILLI),
        "samples/s": number(result.samples_per_s),
        "peak (MiB)": scaled(result.peak_bytes, MIB),
        "reserved (MiB)": scaled(result.reserved_bytes, MIB),
        "static (MiB)": scaled(result.static_bytes, MIB),
        "activation (MiB)": scaled(result.activation_bytes, MIB),
        "backward passes": str(result.backward_passes),
        "optimiser steps": str(result.optimizer_steps),
    }
    notes = (
        f"Time: median (first-third quartile) of {len(result.step_s)} steps, {result.device}.",
        "Memory: allocator bytes of one step of its own. Static: parameters, gradients, optimiser "
        "state. Activation: peak - static, inputs and buffers included.",
    )
    return View("One training step", tuple(cells), (tuple(cells.values()),), notes)


# --- arms side by side -----------------------------------------------------------------------


@records.register
def _(result: Report) -> list[dict[str, Any]]:
    return [_arm_record(arm, result) for arm in result.arms]


def _arm_record(arm: ArmResult, report: Report) -> dict[str, Any]:
    base = report.arms[0]
    first, middle, third = quartiles(arm.step_s) or (None, None, None)
    return {
        "model": arm.model,
        "neuron": arm.neuron,
        "weights": arm.weights,
        "mode": arm.mode,
        "timesteps": arm.timesteps,
        "parameters": arm.parameters,
        "size_bytes": arm.size_bytes,
        "paper_size_bytes": arm.paper_size_bytes,
        "accuracy": arm.accuracy,
        "firing_rate": arm.counts.firing_rate,
        "synops": arm.counts.per_sample("synops"),
        **{f"energy_{energy.table}_j": energy.total_j for energy in arm.energies},
        "neuron_ops": arm.neuron_ops,
        "step_median_s": middle,
        "step_q1_s": first,
        "step_q3_s": third,
        "step_ratio": relative(middle, _median(base)),
        "peak_bytes": arm.peak_bytes,
        "peak_ratio": relative(arm.peak_bytes, base.peak_bytes),
        "epochs": arm.epochs,
        "device": report.environment.get("device"),
    }


def _median(arm: ArmResult) -> float | None:
    found = quartiles(arm.step_s)
    return None if found is None else found[1]


@view.register
def _(result: Report) -> View:
    device = "GPU" if result.environment.get("device", "").startswith("CUDA") else "CPU"
    tables = [energy.table for energy in result.arms[0].energies]
    columns = (
        "model",
        "neuron",
        "weights",
        "mode",
        "T",
        "parameters",
        "size (MB)",
        "size, paper (MB)",
        "accuracy (%)",
        "firing rate (%)",
        "SOPs (M)",
        *(f"energy {table} (mJ)" for table in tables),
        "NOPs (M)",
        f"step time, {device} (ms)",
        "time ratio",
        f"peak memory, {device} (MiB)",
        "memory ratio",
    )
    rows = tuple(_arm_cells(arm, result.arms[0]) for arm in result.arms)
    title = "Training modes side by side (SOPs, NOPs and energy per sample)"
    return View(title, columns, rows, tuple(report_notes(result)))


def _arm_cells(arm: ArmResult, base: ArmResult) -> tuple[str, ...]:
    return (
        arm.model,
        arm.neuron,
        arm.weights,
        arm.mode,
        str(arm.timesteps),
        integer(arm.parameters),
        scaled(arm.size_bytes, MEGA),
        scaled(arm.paper_size_bytes, MEGA),
        percent(arm.accuracy),
        percent(arm.counts.firing_rate),
        scaled(arm.counts.per_sample("synops"), MEGA),
        *(scaled(energy.total_j, MILLI) for energy in arm.energies),
        scaled(arm.neuron_ops, MEGA),
        spread(arm.step_s, MILLI),
        ratio(relative(_median(arm), _median(base))),
        scaled(arm.peak_bytes, MIB),
        ratio(relative(arm.peak_bytes, base.peak_bytes)),
    )


def report_notes(report: Report) -> Iterator[str]:
    """Everything that has to be said under the comparison table."""
    yield from report.notes
    if any(arm.step_s for arm in report.arms):
        yield (
            "Peak memory: allocator bytes of one training step, parameters, buffers, optimiser "
            "state and inputs included. Ratios are to the first row."
        )
    yield (
        "Size: weights and biases, packed (1 bit or a fifth of a byte per quantised weight, and "
        "scales); beside it as the HD-LIF paper accounts: 1/4 byte per 1-bit, 3/8 byte per "
        "1.5-bit weight. Normalisation and neuron parameters excluded."
    )
    yield (
        "NOPs: neuron operations, 3 per neuron and time step (charge, fire, reset), 1 for a "
        "stateless neuron."
    )
    yield from _unique(
        note for arm in report.arms for energy in arm.energies for note in energy_notes(energy)
    )
    yield from _unique(note for arm in report.arms for note in count_notes(arm.counts))
    yield "; ".join(f"{key}: {value}" for key, value in report.environment.items()) + "."


def _unique(values: Iterator[str]) -> Sequence[str]:
    return list(dict.fromkeys(values))

"""One training step; one call in inference."""

from __future__ import annotations

from typing import Any

from snnprof.render.number_format import (
    integer,
    number,
    scaled,
    spread,
)
from snnprof.render.table import MIB, MILLI, View, records, view
from snnprof.results import InferenceProfile, StepProfile, quartiles
from snnprof.training.losses import loss_in_words

_SEEN_FROM_OUTSIDE = (
    "The step was seen from outside. Forward: calls of the model. Backward: from the model's "
    "output on. Optimiser: its step. The rest, such as the loss, is in no phase. Peak counts what "
    "stood before the step only where the step touches it.",
)
_AUTHORS_FIGURES = (
    "Reserved is what SLTT's authors print; HD-LIF's print allocated + reserved after the backward "
    "pass: neither is a peak"
)


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
            "sltt_authors_bytes": result.sltt_authors_bytes,
            "hdlif_authors_bytes": result.hdlif_authors_bytes,
            "static_bytes": result.static_bytes,
            "activation_bytes": result.activation_bytes,
            "backward_passes": result.backward_passes,
            "optimizer_steps": result.optimizer_steps,
            "loss": result.loss,
        }
    ]


@view.register
def _(result: StepProfile) -> View:
    cells = {
        "mode": result.mode or "",
        "T": integer(result.timesteps),
        "batch": integer(result.batch_size),
        "forward (ms)": spread(result.forward_s, MILLI),
        "backward (ms)": spread(result.backward_s, MILLI),
        "optimiser (ms)": spread(result.optimizer_s, MILLI),
        "step (ms)": spread(result.step_s, MILLI),
        "samples/s": number(result.samples_per_s),
        "peak (MiB)": scaled(result.peak_bytes, MIB),
        "reserved (MiB)": scaled(result.reserved_bytes, MIB),
        "as HD-LIF's authors print it (MiB)": scaled(result.hdlif_authors_bytes, MIB),
        "static (MiB)": scaled(result.static_bytes, MIB),
        "activation (MiB)": scaled(result.activation_bytes, MIB),
        "backward passes": integer(result.backward_passes),
        "optimiser steps": integer(result.optimizer_steps),
    }
    notes = (
        f"Time: median (first-third quartile) of {len(result.step_s)} steps, {result.device}.",
        "Memory: allocator bytes of one step of its own. Static: parameters, gradients, optimiser "
        "state. Activation: peak - static, inputs and buffers included.",
        _AUTHORS_FIGURES + (", nor known on the CPU." if result.device == "cpu" else "."),
        *(() if result.loss is None else (f"Loss: {loss_in_words(result.loss)}.",)),
        *(_SEEN_FROM_OUTSIDE if result.mode is None else ()),
        *result.notes,
    )
    return View("One training step", tuple(cells), (tuple(cells.values()),), notes)


@records.register
def _(result: InferenceProfile) -> list[dict[str, Any]]:
    first, middle, third = quartiles(result.latency_s) or (None, None, None)
    return [
        {
            "device": result.device,
            "batch_size": result.batch_size,
            "latency_median_s": middle,
            "latency_q1_s": first,
            "latency_q3_s": third,
            "repeats": len(result.latency_s),
            "samples_per_s": result.samples_per_s,
            "peak_bytes": result.peak_bytes,
        }
    ]


@view.register
def _(result: InferenceProfile) -> View:
    cells = {
        "batch": integer(result.batch_size),
        "latency (ms)": spread(result.latency_s, MILLI),
        "samples/s": number(result.samples_per_s),
        "peak (MiB)": scaled(result.peak_bytes, MIB),
    }
    notes = (
        f"Latency: one call of the model, from rest, in evaluation mode, without gradients; median "
        f"(first-third quartile) of {len(result.latency_s)} calls, {result.device}.",
        "Memory: allocator bytes of one call of its own; parameters, buffers and inputs included.",
    )
    return View("Inference", tuple(cells), (tuple(cells.values()),), notes)

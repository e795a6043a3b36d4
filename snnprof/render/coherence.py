"""Online against STBP, per layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from snnprof.render.format import (
    number,
    percent,
)
from snnprof.render.table import View, records, view
from snnprof.results import (
    CoherenceResult,
    LayerCoherence,
)


@records.register
def _(result: CoherenceResult) -> list[dict[str, Any]]:
    shared = {"label": result.label, "timesteps": result.timesteps, "batch": result.batch}
    rows = []
    for layer in result.rows:
        row = {**shared, **asdict(layer)}
        row["weights"] = " ".join(layer.weights)
        rows.append(row)
    return rows


@view.register
def _(result: CoherenceResult) -> View:
    columns = (
        "layer",
        "neuron",
        "fired (%)",
        "identity residual",
        "claimed",
        "separability",
        "ratio (i)",
        "measured",
        "cosine, membrane",
        "cosine, weight",
        "relative error",
        "norm, STBP",
        "norm, online",
    )
    rows = tuple(_coherence_cells(row) for row in result.rows)
    label = "" if result.label is None else f", {result.label}"
    title = f"Online against STBP gradients (T = {result.timesteps}, batch {result.batch}{label})"
    return View(title, columns, rows, tuple(coherence_notes(result)))


def _coherence_cells(row: LayerCoherence) -> tuple[str, ...]:
    return (
        row.name,
        row.neuron,
        percent(row.fired),
        number(row.identity_residual),
        "yes" if row.identity_claimed else "no",
        number(row.separability),
        number(row.ratio_predicted),
        number(row.ratio_measured),
        number(row.cosine_membrane),
        number(row.cosine_weight),
        number(row.relative_error),
        number(row.stbp_norm_membrane),
        number(row.online_norm_membrane),
    )


def coherence_notes(result: CoherenceResult) -> Iterator[str]:
    """What is compared, and what has to be said about it."""
    mode = "training" if result.training else "evaluation"
    losses = result.loss
    if result.online_loss != result.loss:
        losses = f"{result.loss} (STBP), {result.online_loss} (online)"
    yield (
        "Both arms run the same forward pass; online detaches every membrane between time steps. "
        f"Loss: {losses}; {result.dtype} on {result.device}; network in {mode} mode."
    )
    yield (
        "Identity (Theorem 4.2): dL/dm_t is the gradient of the next spike times the leaks on the "
        "way; its residual is relative to autograd's STBP gradient. Separability: how far that "
        "next spike's gradient is from the silent step's own (0: Definition 4.1). Ratio (i): "
        "norm of online / norm of STBP, as the theorem has it and as measured. Relative error and "
        "norms: of the membranes' gradients."
    )
    reasons: dict[str, list[str]] = {}
    for row in result.rows:
        if row.reason is not None:
            reasons.setdefault(f"{row.neuron} ({row.reason})", []).append(row.name)
    for reason, names in reasons.items():
        yield f"The identity is not claimed for {reason}: {', '.join(names)}."
    yield from result.remarks

"""Tables of coherence: online against STBP, per layer, per T and per epoch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from snnprof.render.number_format import integer, number, percent
from snnprof.render.table import View, records, view
from snnprof.results import CoherenceResult, CoherenceSweep, LayerCoherence

LAYER_COLUMNS: tuple[str, ...] = (
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
EPOCH_COLUMNS: tuple[str, ...] = (
    "T",
    "epoch",
    "training loss",
    "cosine, membrane (median)",
    "cosine, membrane (least)",
    "cosine, weight (median)",
    "fired (%, median)",
    "identity residual (largest)",
)
# The same for a terminal of 80 columns, where the rows are still to come.
LINE_COLUMNS = (
    "   T",
    "epoch",
    "     loss",
    "cos membrane",
    "    least",
    "cos weight",
    "fired (%)",
    " residual",
)


# --- one measurement -------------------------------------------------------------------------


@records.register
def _(result: CoherenceResult) -> list[dict[str, Any]]:
    shared = {
        "label": result.label,
        "timesteps": result.timesteps,
        "batch": result.batch,
        "epoch": result.epoch,
        "training_loss": result.training_loss,
    }
    rows = []
    for layer in result.rows:
        row = {**shared, **asdict(layer)}
        row["weights"] = " ".join(layer.weights)
        rows.append(row)
    return rows


@view.register
def _(result: CoherenceResult) -> View:
    rows = tuple(_layer_cells(row) for row in result.rows)
    label = "" if result.label is None else f", {result.label}"
    title = f"Online against STBP gradients (T = {result.timesteps}, batch {result.batch}{label})"
    return View(title, LAYER_COLUMNS, rows, tuple(coherence_notes(result)))


def _layer_cells(row: LayerCoherence) -> tuple[str, ...]:
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
    """Sentences under the table: the comparison, and remarks on it."""
    yield from _meaning(result)
    yield from result.remarks


def _meaning(result: CoherenceResult) -> Iterator[str]:
    """The meaning of the figures."""
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


# --- one measurement in a line ---------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The layers of one measurement in a line; None where no layer has a figure.

    Attributes:
        timesteps, epoch, training_loss: as in the result.
        cosine_membrane, least_membrane: median and least of the layers.
        cosine_weight, fired: medians of the layers.
        identity_residual: the largest of the layers.
    """

    timesteps: int
    epoch: int | None
    training_loss: float | None
    cosine_membrane: float | None
    least_membrane: float | None
    cosine_weight: float | None
    fired: float | None
    identity_residual: float | None

    def cells(self) -> tuple[str, ...]:
        """The line under :data:`EPOCH_COLUMNS`."""
        return (
            integer(self.timesteps),
            integer(self.epoch),
            number(self.training_loss),
            number(self.cosine_membrane),
            number(self.least_membrane),
            number(self.cosine_weight),
            percent(self.fired),
            number(self.identity_residual),
        )


def summary(result: CoherenceResult) -> Summary:
    """The layers of one measurement in a line; every layer counts alike."""
    membrane = _present(row.cosine_membrane for row in result.rows)
    return Summary(
        timesteps=result.timesteps,
        epoch=result.epoch,
        training_loss=result.training_loss,
        cosine_membrane=_median(membrane),
        least_membrane=min(membrane, default=None),
        cosine_weight=_median(_present(row.cosine_weight for row in result.rows)),
        fired=_median([row.fired for row in result.rows]),
        identity_residual=max(_present(row.identity_residual for row in result.rows), default=None),
    )


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


# --- several measurements --------------------------------------------------------------------


@records.register
def _(result: CoherenceSweep) -> list[dict[str, Any]]:
    # "neuron" and "weights" are the layer's own.
    shared = {"model": result.model, "model_weights": result.weights, "mode": result.mode}
    return [{**shared, **row} for one in result.results for row in records(one)]


@view.register
def _(result: CoherenceSweep) -> View:
    """A row per layer and T; of a training that was followed, a row per T and epoch."""
    if result.followed:
        columns, rows = EPOCH_COLUMNS, tuple(summary(one).cells() for one in result.results)
    else:
        columns = ("T", *LAYER_COLUMNS)
        rows = tuple(
            (integer(one.timesteps), *_layer_cells(row))
            for one in result.results
            for row in one.rows
        )
    return View(_title(result), columns, rows, tuple(sweep_notes(result)))


def _title(sweep: CoherenceSweep) -> str:
    named = [name for name in (sweep.model, sweep.neuron, sweep.weights) if name is not None]
    batches = dict.fromkeys(f"batch {result.batch}" for result in sweep.results)
    during = " during training" if sweep.followed else ""
    return f"Online against STBP gradients{during} ({', '.join([*named, *batches])})"


def tables_by_time(sweep: CoherenceSweep) -> Iterator[View]:
    """A table per T, of its last epoch; the notes of all stand under the last table."""
    last = {result.timesteps: result for result in sweep.results}
    for place, result in enumerate(last.values(), 1):
        notes = sweep_notes(sweep) if place == len(last) else ()
        yield replace(view(result), notes=tuple(notes))


def sweep_notes(sweep: CoherenceSweep) -> Iterator[str]:
    """Sentences under the table: the run, the meaning of the figures, remarks on some of them."""
    yield from sweep.notes
    if sweep.followed:
        yield "Medians, least and largest: over the layers. Each layer is in the .csv and .json."
    yield from dict.fromkeys(note for result in sweep.results for note in _meaning(result))
    said: dict[str, list[str]] = {}
    for result in sweep.results:
        for remark in result.remarks:
            said.setdefault(remark, []).append(_which(result))
    for remark, where in said.items():
        everywhere = len(where) == len(sweep.results)
        yield remark if everywhere else f"{remark} ({'; '.join(where)})"
    if sweep.environment:
        yield "; ".join(f"{key}: {value}" for key, value in sweep.environment.items()) + "."


def _which(result: CoherenceResult) -> str:
    label = "" if result.label is None else f", {result.label}"
    return f"T = {result.timesteps}{label}"

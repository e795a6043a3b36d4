"""Synaptic operations, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snnprof.results.base import Numbered

# The product of softmax weights and values in scaled_dot_product_attention.
SOFTMAX_PRODUCT = "sdpa.av"


@dataclass(frozen=True)
class LayerCount:
    """Raw totals of one layer over a whole measurement (all samples, all time steps).

    Attributes:
        name: the layer's name in the model, wrappers' prefixes stripped.
        op: the linear operation: ``"linear"``, ``"conv2d"``, ``"conv_transpose1d"``, ...
        input_kind: BINARY, TERNARY, INTEGER or REAL, the widest seen.
        weight_kind: likewise, judged per output channel.
        operation: AC or MAC, the work of one synaptic event of this layer.
        stem: True for the first counted layer when its input is REAL (the image).
        calls: how often the operation ran.
        firing_rate: share of non-zero elements in the input.
        synops: synaptic events, sum over inputs of 1[x != 0] * fan-out; exact.
        unrolled_synops: sum of abs(x) / step * fan-out, as if value k were k spikes;
            equal to ``synops`` for BINARY and TERNARY inputs, None for REAL ones.
        nnz_synops: of a product of two activations, the events if b had no zero: non-zero
            elements of a times the output columns that each feeds; None for other layers.
        rate_synops: firing_rate * nominal_macs (the Spikformer paper's formula).
        nominal_macs: textbook multiply-accumulates, padded taps included (as fvcore).
        dense_macs: events if every input had been active: padded taps and zero weights
            left out.
        nonzeros: non-zero input elements.
        inputs: input elements.
        firing_rate_by_step: firing rate of each time step, where T is known.
    """

    name: str
    op: str
    input_kind: str
    weight_kind: str
    operation: str
    stem: bool
    calls: int
    firing_rate: float
    synops: int
    unrolled_synops: int | None
    rate_synops: float
    nominal_macs: int
    dense_macs: int
    nonzeros: int
    inputs: int
    firing_rate_by_step: tuple[float, ...] | None = None
    nnz_synops: int | None = None


COUNT_COLUMNS = (
    "synops",
    "unrolled_synops",
    "nnz_synops",
    "rate_synops",
    "nominal_macs",
    "dense_macs",
)


@dataclass(frozen=True)
class CountResult(Numbered):
    """Synaptic operations of a model over a measurement.

    Attributes:
        rows: one :class:`LayerCount` per layer, in order of first call.
        samples: samples that went through the model.
        timesteps: T, or None where it is not known.
        not_counted: (name, reason) of every module and operation that was not counted.
        non_finite: names of the layers that received NaN or infinity.
        scan: what read the operands, "c" (the extension) or "torch"; None where nothing did. No
            part of the count: both find the same.
    """

    rows: tuple[LayerCount, ...]
    samples: int
    timesteps: int | None = None
    not_counted: tuple[tuple[str, str], ...] = ()
    non_finite: tuple[str, ...] = ()
    scan: str | None = field(default=None, compare=False)

    def total(self, column: str) -> Any:
        """Raw sum of a column over the layers that have a value; None if none has."""
        values = [getattr(row, _column(column)) for row in self.rows]
        present = [value for value in values if value is not None]
        return sum(present) if present or not values else None

    def per_sample(self, column: str) -> float | None:
        """``total`` divided by the number of samples; None without samples."""
        total = self.total(column)
        return None if total is None or not self.samples else total / self.samples

    def by_layer(self) -> dict[str, LayerCount]:
        """The rows by name."""
        return {row.name: row for row in self.rows}

    @property
    def firing_rate(self) -> float | None:
        """Share of non-zero elements in all counted inputs; None if none.

        The stem's input, which is no spike, and softmax weights, which are not seen, are
        left out.
        """
        spiking = [row for row in self.rows if not row.stem and row.op != SOFTMAX_PRODUCT]
        inputs = sum(row.inputs for row in spiking)
        return sum(row.nonzeros for row in spiking) / inputs if inputs else None


def _column(name: str) -> str:
    numbers = {"calls", "nonzeros", "inputs", *COUNT_COLUMNS}
    if name not in numbers:
        raise ValueError(f"unknown count column {name!r}; known: {', '.join(sorted(numbers))}")
    return name

"""What was measured: frozen dataclasses, base units, ``None`` for what was not measured.

Everything a command prints or writes comes from these. They import nothing of ours; the
views (:meth:`CountResult.to_frame`, :meth:`CountResult.save`) are fetched when asked for.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

SCHEMA_VERSION = 1
# The product of softmax weights and values in scaled_dot_product_attention.
SOFTMAX_PRODUCT = "sdpa.av"


class _Viewed:
    """The views that every result has."""

    __slots__ = ()

    def to_frame(self: Any) -> pd.DataFrame:
        """The result as a pandas DataFrame, one row per layer or arm."""
        from snnprof.render import views

        return views.frame(self)

    def save(self: Any, path: str | Path) -> None:
        """Write .md, .csv, .tex or .json, chosen by suffix.

        Raises:
            SnnprofError: unknown suffix, or the file cannot be written.
        """
        from snnprof.render import files

        files.save(self, path)


@dataclass(frozen=True)
class LayerCount:
    """Raw totals of one layer over a whole measurement (all samples, all time steps).

    Attributes:
        name: the layer's name in the model, wrappers' prefixes stripped.
        op: the linear operation: ``"linear"``, ``"conv2d"``, ``"conv_transpose1d"``, ...
        input_kind: BINARY, TERNARY, INTEGER or REAL, the widest seen.
        weight_kind: likewise, judged per output channel.
        operation: AC or MAC: what one synaptic event of this layer is.
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
class CountResult(_Viewed):
    """Synaptic operations of a model over a measurement.

    Attributes:
        rows: one :class:`LayerCount` per layer, in order of first call.
        samples: samples that went through the model.
        timesteps: T, or None where it is not known.
        not_counted: (name, reason) of every module and operation that was not counted.
        non_finite: names of the layers that received NaN or infinity.
    """

    rows: tuple[LayerCount, ...]
    samples: int
    timesteps: int | None = None
    not_counted: tuple[tuple[str, str], ...] = ()
    non_finite: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one layer, per sample.

    Attributes:
        name: the layer.
        operation: what was billed: AC or MAC.
        events: how many of them per sample.
        energy_j: joules per sample.
    """

    name: str
    operation: str
    events: float
    energy_j: float


@dataclass(frozen=True)
class EnergyResult(_Viewed):
    """Counts priced under one named convention.

    Attributes:
        table: the convention's name.
        rows: one per billed layer.
        total_j: joules per sample.
        description: the convention in one line.
        source: where its constants and its formula come from.
        leaves_out: what it does not bill.
        not_billed: names of counted layers that the convention leaves out.
        not_counted: as in the counts: what no energy is given for.
    """

    table: str
    rows: tuple[EnergyRow, ...]
    total_j: float
    description: str
    source: str
    leaves_out: str
    not_billed: tuple[str, ...] = ()
    not_counted: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ArmResult:
    """One model trained in one mode, or only counted (``epochs`` 0).

    Attributes:
        model, neuron, weights, mode: what was run.
        timesteps: T.
        parameters: number of trainable parameters.
        size_bytes: bytes of the weights packed, as they would be stored.
        accuracy: share of test samples classified correctly.
        counts: synaptic operations on the test samples.
        energies: the counts priced, one per convention.
        neuron_ops: neuron operations per sample.
        step_s: every timed training step, seconds.
        peak_bytes: peak allocator bytes of one training step.
        epochs: epochs trained.
        loss: mean training loss of the last epoch.
        paper_size_bytes: bytes of the weights as the HD-LIF paper accounts for them.
        checkpoint: file that the weights came from before any training.
    """

    model: str
    neuron: str
    weights: str
    mode: str
    timesteps: int
    parameters: int
    size_bytes: float
    accuracy: float | None
    counts: CountResult
    energies: tuple[EnergyResult, ...]
    neuron_ops: float | None
    step_s: tuple[float, ...]
    peak_bytes: int | None
    epochs: int
    loss: float | None
    paper_size_bytes: float | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class Growth:
    """How a quantity of one neuron and mode grows with T: a straight line through the arms.

    Attributes:
        neuron, mode: of the arms.
        quantity: ``"peak_bytes"``, or ``"step_s"`` (the medians).
        timesteps: the T that the line is through.
        slope: per time step.
        intercept: at T = 0.
        r_squared: share of the variance that the line explains; None where there is none, or
            for two points.
        ratio: value at the largest T / at the smallest.
    """

    neuron: str
    mode: str
    quantity: str
    timesteps: tuple[int, ...]
    slope: float
    intercept: float
    r_squared: float | None
    ratio: float


@dataclass(frozen=True)
class Report(_Viewed):
    """Arms side by side, and what has to be said about them.

    Attributes:
        arms: in the order asked for.
        environment: device, processor, versions.
        notes: what was assumed, left out or not measured.
        growth: of time and memory with T, where there was more than one T.
    """

    arms: tuple[ArmResult, ...]
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    growth: tuple[Growth, ...] = ()


@dataclass(frozen=True)
class StepProfile(_Viewed):
    """What one training step costs.

    Attributes:
        mode: the training mode.
        device: "cpu" or "cuda".
        batch_size: samples per step.
        timesteps: T.
        forward_s, backward_s, optimizer_s: seconds of the phases (loss and detaching are
            forward, freeing the gradients is the optimiser's), one value per repetition.
        step_s: seconds of the whole step, one value per repetition.
        peak_bytes: most bytes allocated during a step: parameters, buffers, optimiser state
            and inputs included.
        reserved_bytes: most bytes that CUDA's allocator held; None on the CPU.
        static_bytes: parameters, gradients and optimiser state.
        activation_bytes: peak_bytes - static_bytes; buffers and inputs included.
        backward_passes, optimizer_steps: how many the last step took.
    """

    mode: str
    device: str
    batch_size: int
    timesteps: int
    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    optimizer_s: tuple[float, ...]
    step_s: tuple[float, ...]
    peak_bytes: int
    reserved_bytes: int | None
    static_bytes: int
    activation_bytes: int
    backward_passes: int
    optimizer_steps: int

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second at the median step; None where no time has passed."""
        median = statistics.median(self.step_s) if self.step_s else 0.0
        return self.batch_size / median if median else None


@dataclass(frozen=True)
class LayerCoherence:
    """Online against STBP in one layer of neurons; norms are Euclidean, over all its
    (sample, neuron, step).

    m_t is the membrane potential before the reset, delta_t the gradient that reaches spike t
    from the layers above, t* the first step >= t that fires.

    Attributes:
        name: the layer of neurons.
        neuron: its kind, variants included.
        identity_claimed: whether Theorem 4.2 makes a claim on this kind of neuron.
        reason: why it does not; None where it does.
        fired: share of (sample, neuron, step) that fire.
        identity_residual: norm of dL/dm_t (STBP, by autograd) minus delta_{t*} * product of
            the leaks, relative to the larger norm of the two.
        identity_largest: largest absolute difference of the same two.
        separability: norm of delta_{t*} - delta_t, relative to that of delta_{t*}, where a
            step is silent and a later one fires; 0 is a separable gradient (Definition 4.1).
            None where there is no such step.
        ratio_predicted: norm of the online gradient / norm of the STBP gradient by part (i);
            also the cosine that (i) predicts.
        ratio_measured: the same as measured.
        ratio_residual: norm of online minus (i)'s ratio * STBP, relative to online's.
        cosine_membrane, cosine_weight: cosine of online and STBP gradient, of the membranes
            and of the weights that feed them. None where a gradient is 0 or there is none.
        relative_error, relative_error_weight: norm of their difference / norm of STBP's.
        stbp_norm_membrane, online_norm_membrane, stbp_norm_weight, online_norm_weight: norms.
        weights: names of the parameters behind the figures on weights.
    """

    name: str
    neuron: str
    identity_claimed: bool
    reason: str | None
    fired: float
    identity_residual: float | None = None
    identity_largest: float | None = None
    separability: float | None = None
    ratio_predicted: float | None = None
    ratio_measured: float | None = None
    ratio_residual: float | None = None
    cosine_membrane: float | None = None
    cosine_weight: float | None = None
    relative_error: float | None = None
    relative_error_weight: float | None = None
    stbp_norm_membrane: float | None = None
    online_norm_membrane: float | None = None
    stbp_norm_weight: float | None = None
    online_norm_weight: float | None = None
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoherenceResult(_Viewed):
    """Theorem 4.2 on a live network: online against STBP gradients, layer by layer.

    Attributes:
        rows: one per layer of neurons, in order of first call.
        timesteps: T.
        batch: samples.
        loss, online_loss: names of the losses of the two arms.
        dtype, device: of the membranes.
        training: whether the network was in training mode.
        remarks: what was assumed or not measured.
        label: which of several measurements this is, "epoch 3" say.
        epoch: epochs of training before the measurement; None where that is not known.
        training_loss: mean loss of the last of these epochs.
    """

    rows: tuple[LayerCoherence, ...]
    timesteps: int
    batch: int
    loss: str
    online_loss: str
    dtype: str
    device: str
    training: bool
    remarks: tuple[str, ...] = ()
    label: str | None = None
    epoch: int | None = None
    training_loss: float | None = None

    def by_layer(self) -> dict[str, LayerCoherence]:
        """The rows by name."""
        return {row.name: row for row in self.rows}


@dataclass(frozen=True)
class CoherenceSweep(_Viewed):
    """Coherence of one kind of network at several T, or over the epochs of its training.

    Attributes:
        results: in the order measured.
        model, neuron, weights: what was built; None where that is not known.
        mode: that the network was trained in; None where it was not trained.
        followed: whether the results of each T are those of the epochs of one training.
        environment: device, processor, versions.
        notes: what was assumed or not measured, of all results.
    """

    results: tuple[CoherenceResult, ...]
    model: str | None = None
    neuron: str | None = None
    weights: str | None = None
    mode: str | None = None
    followed: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Result = CoherenceResult | CoherenceSweep | CountResult | EnergyResult | Report | StepProfile

"""Online against STBP gradients."""

from __future__ import annotations

from dataclasses import dataclass, field

from snnprof.results.base import Viewed


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
class CoherenceResult(Viewed):
    """Theorem 4.2 on a live network: online against STBP gradients, layer by layer.

    Attributes:
        rows: one per layer of neurons, in order of first call.
        timesteps: T.
        batch: samples.
        loss, online_loss: names of the losses of STBP and of online training.
        dtype, device: of the membranes.
        training: whether the network was in training mode.
        remarks: assumptions, and figures that were not measured.
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
class CoherenceSweep(Viewed):
    """Coherence of one kind of network at several T, or over the epochs of its training.

    Attributes:
        results: in the order measured.
        model, neuron, weights: of the network; None where that is not known.
        mode: that the network was trained in; None where it was not trained.
        followed: whether the results of each T are those of the epochs of one training.
        environment: device, processor, versions.
        notes: assumptions and figures that were not measured, of all results.
    """

    results: tuple[CoherenceResult, ...]
    model: str | None = None
    neuron: str | None = None
    weights: str | None = None
    mode: str | None = None
    followed: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

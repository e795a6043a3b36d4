"""Theorem 4.2 on live networks: how far the gradients of online training are from STBP's.

Both run the same forward pass, with the same loss; online training detaches every membrane
between time steps. docs/gradient-coherence.md says what is compared and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from snnprof.coherence.gradient_pair import GradientPair, MeasuredLayer
from snnprof.coherence.neuron_layers import NeuronLayer, neuron_layers
from snnprof.core.errors import SnnprofError
from snnprof.results import CoherenceResult
from snnprof.training.adapters import adapt
from snnprof.training.layouts import LAYOUTS, laid_out
from snnprof.training.losses import CROSS_ENTROPIES, LOSSES, OutputsLoss, check_classes
from snnprof.training.stepped_model import SteppedModel, first_of


def coherence(
    model: nn.Module | SteppedModel,
    x: Tensor,
    y: Tensor,
    *,
    layout: str | None = None,
    layers: str | None = None,
    loss: str | OutputsLoss = "sum",
    online_loss: str | OutputsLoss | None = None,
    one_layer_at_a_time: bool = False,
    label: str | None = None,
) -> CoherenceResult:
    """Compare the gradients of online training with those of STBP, layer by layer.

    The model is left as it was: parameters, gradients, buffers, membranes, torch's random
    numbers. It is measured in the mode (training or evaluation) that it is in.

    Args:
        model: a network with neurons of ours, of a library that is known (docs/libraries.md),
            or with others that :func:`~snnprof.register_neuron` knows, each run from rest over T
            time steps by one call of the model; of several outputs, the first counts.
        x: the model's input.
        y: targets, for the loss.
        layout: how a model is run over x = [T, B, ...] that one call does not run: "step" for
            one that takes a time step [B, ...] a call. A model of :func:`~snnprof.stepwise` is
            run so in any case.
        layers: names of the neuron layers to report, a pattern ("blocks.*"); None for all.
        loss: "sum" (cross-entropy of the outputs summed over time), "step", or a function
            of (the model's output, y).
        online_loss: of the online gradient; None for the same, which isolates the theorem's claim.
        one_layer_at_a_time: two passes for each layer, which keeps the records of
            that layer only.
        label: kept with the result.

    Raises:
        SnnprofError: no neuron layer that is known or that the pattern names; a loss that is
            no finite scalar or not computed from the network; a target that does not fit.
    """
    _check_given(x, y, layers)
    model, run = _runner(model, layout)
    found = neuron_layers(model)
    chosen = chosen_layers(found, layers)
    given = (loss, loss if online_loss is None else online_loss)
    pair = GradientPair(model, run, found, x, y, *map(_function, given))
    groups = [[name] for name in chosen] if one_layer_at_a_time else [chosen]
    measured = sorted(
        (layer for group in groups for layer in pair.measure(group)), key=lambda layer: layer.order
    )
    if not measured:
        raise SnnprofError(f"layers {', '.join(chosen)}: none ran in a call of the model with x")
    longest = max(measured, key=lambda layer: layer.timesteps)
    return CoherenceResult(
        rows=tuple(layer.row for layer in measured),
        timesteps=longest.timesteps,
        batch=longest.batch,
        loss=_name(given[0]),
        online_loss=_name(given[1]),
        dtype=longest.dtype,
        device=longest.device,
        training=model.training,
        remarks=(*_remarks(measured, chosen, given[0] is given[1]), *_of_the_model(pair)),
        label=label,
    )


def _runner(
    model: nn.Module | SteppedModel, layout: str | None
) -> tuple[nn.Module, Callable[[Tensor], Any]]:
    """The module, and what runs it over x from rest."""
    if layout is None and isinstance(model, nn.Module):
        module = model
        return module, lambda x: first_of(module(x))
    stepped = adapt(model)
    if layout is not None:
        stepped = laid_out(stepped, layout, LAYOUTS.find(layout).output_dim)

    def run(x: Tensor) -> Tensor:
        stepped.reset()
        return stepped.run_sequence(x)

    return stepped.model, run


def _check_given(x: Tensor, y: Tensor, layers: str | None) -> None:
    for name, given in (("x", x), ("y", y)):
        if not isinstance(given, Tensor):
            raise SnnprofError(f"{name} is a {type(given).__name__}, not a torch.Tensor")
        if not given.numel():
            raise SnnprofError(f"{name} of shape {tuple(given.shape)} is empty")
    if layers is not None and not isinstance(layers, str):
        raise SnnprofError(f"layers={layers!r}: give a pattern, as 'blocks.*'")


def coherence_sweep(
    build: Callable[[int], nn.Module],
    x: Tensor | Callable[[int], Tensor],
    y: Tensor,
    timesteps: int | Sequence[int] = (4, 8, 16),
    *,
    layers: str | None = None,
    loss: str | OutputsLoss = "sum",
    online_loss: str | OutputsLoss | None = None,
    one_layer_at_a_time: bool = False,
) -> tuple[CoherenceResult, ...]:
    """:func:`coherence` for several T.

    Args:
        build: makes the network for T time steps. Seed it, so that the weights are the same.
        x: an image batch that the network repeats, or what makes the input of T time steps.
        y: targets.
        timesteps: the T to measure.
        layers, loss, online_loss, one_layer_at_a_time: as :func:`coherence`.

    Raises:
        SnnprofError: a T below 1, none at all, or as :func:`coherence`.
    """
    timesteps = (timesteps,) if isinstance(timesteps, int) else timesteps
    if not timesteps:
        raise SnnprofError("timesteps: none given, there is nothing to measure")
    for steps in timesteps:
        if steps < 1:
            raise SnnprofError(f"timesteps={steps}: must be at least 1")
    return tuple(
        coherence(
            build(steps),
            x if isinstance(x, Tensor) else x(steps),
            y,
            layers=layers,
            loss=loss,
            online_loss=online_loss,
            one_layer_at_a_time=one_layer_at_a_time,
        )
        for steps in timesteps
    )


def chosen_layers(layers: Mapping[str, NeuronLayer], pattern: str | None) -> list[str]:
    """The names of the layers of neurons that a pattern names; None names all.

    Raises:
        SnnprofError: none of them.
    """
    spiking = [name for name, layer in layers.items() if layer.equations.spiking]
    chosen = [name for name in spiking if pattern is None or fnmatchcase(name, pattern)]
    if not chosen:
        raise SnnprofError(
            f"layers={pattern!r} matches no neuron layer; known: {', '.join(spiking)}"
        )
    return chosen


def _function(loss: str | OutputsLoss) -> OutputsLoss:
    if not isinstance(loss, str):
        return loss
    of_outputs, needs_classes = LOSSES.find(loss), loss in CROSS_ENTROPIES

    def checked(outputs: Tensor, target: Tensor) -> Tensor:
        if needs_classes:
            check_classes(outputs, target)
        return of_outputs(outputs, target)

    return checked


def _name(loss: str | OutputsLoss) -> str:
    if isinstance(loss, str):
        return loss
    return str(getattr(loss, "__name__", type(loss).__name__))


# Relative residuals of the identity that rounding explains.
_BOUNDS = {"float64": 1e-10, "float32": 1e-4}
_LOOSE = 0.1


def _remarks(measured: Sequence[MeasuredLayer], chosen: Sequence[str], same: bool) -> Iterator[str]:
    """Remarks on the figures."""
    if all(layer.timesteps == 1 for layer in measured):
        yield (
            "With one time step there is none to go back to: online and STBP are the same gradient "
            "and coherence is trivially 1."
        )
    if not same:
        yield "The two arms have different losses: their gradients differ for that reason, too."
    ran = {layer.row.name for layer in measured}
    silent = [name for name in chosen if name not in ran]
    if silent:
        yield f"Never called: {', '.join(silent)}."
    lost = [layer.row.name for layer in measured if layer.row.stbp_norm_membrane is None]
    if lost:
        yield f"No gradient of the loss reaches {', '.join(lost)}."
    silent = [layer.row.name for layer in measured if layer.row.stbp_norm_membrane == 0]
    if silent:
        yield f"Gradients of 0, so no cosine, in {', '.join(silent)}: silent, or not connected."
    for layer in measured:
        residual, bound = layer.row.identity_residual, _BOUNDS.get(layer.dtype, _LOOSE)
        if layer.row.identity_claimed and residual is not None and residual > bound:
            yield (
                f"The identity is claimed for {layer.row.name}, and does not hold: residual "
                f"{residual:.2g}. Is its run() overridden, or the layer called more than once per "
                "time step?"
            )
    for layer in measured:
        if layer.sequences > 1:
            yield (
                f"{layer.row.name} was called with {layer.sequences} sequences: a layer of neurons "
                "that stands in several places has the figures of none of them."
            )
    if len({layer.timesteps for layer in measured}) > 1:
        counts = ", ".join(f"{layer.row.name} {layer.timesteps}" for layer in measured)
        yield f"The layers ran different numbers of time steps, figures may mislead: {counts}."
    broken = [layer.row.name for layer in measured if not layer.finite]
    if broken:
        yield f"NaN or infinity in the gradients of {', '.join(broken)}: no figures."
    apart = [layer.row.name for layer in measured if not layer.same_spikes]
    if apart:
        yield (
            f"The spikes of {', '.join(apart)} differ between the two arms: the network is not "
            "deterministic, and its gradients are not comparable."
        )


def _of_the_model(pair: GradientPair) -> Iterator[str]:
    """Remarks on the parts of the model that are not compared."""
    if pair.uncut:
        yield (
            f"Not cut between time steps: what {', '.join(pair.uncut)} keeps of the graph. If it "
            "is a membrane, the online arm is a mixture: name it by snnprof.register_neuron."
        )
    elsewhere = pair.without_figures()
    if elsewhere:
        yield (
            f"No figures for {', '.join(elsewhere)}: no weights of a convolution or linear layer."
        )

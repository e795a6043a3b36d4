"""Two gradients of one network: STBP's, and the same with every membrane detached between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from snnprof.coherence.firing_record import FiringRecord, joined
from snnprof.coherence.neuron_layers import NeuronLayer
from snnprof.coherence.neuron_probe import GradientPlace, LayerRecord
from snnprof.coherence.restore import undisturbed
from snnprof.coherence.theorem import Identity, check_identity, check_ratio, likeness
from snnprof.core.errors import SnnprofError
from snnprof.core.module_names import module_names, strip_wrappers
from snnprof.results import LayerCoherence
from snnprof.spiking.neuron import reset
from snnprof.training.kept_graphs import graphs_held
from snnprof.training.losses import OutputsLoss

_LINEAR = (_ConvNd, nn.Linear)


@dataclass(frozen=True)
class MeasuredLayer:
    """A row of the result, with the facts that the remarks are made of.

    Attributes:
        row: the figures.
        order: of the layer's first call.
        timesteps, batch, dtype, device: of its membranes.
        sequences: how many of several time steps it was called with; 0 where it is called once
            per time step.
        finite: whether its gradients were.
        same_spikes: whether both passes had the same spikes.
    """

    row: LayerCoherence
    order: int
    timesteps: int
    batch: int
    dtype: str
    device: str
    sequences: int
    finite: bool
    same_spikes: bool


@dataclass(frozen=True)
class LayerGradients:
    """One layer's gradients by STBP or by online training.

    A gradient is None where the loss does not depend on it. No part of the graph is held,
    which would keep the layers below in memory.
    """

    order: int
    firing: FiringRecord
    sequences: int
    membranes: Tensor | None
    delta: Tensor | None
    weights: dict[str, Tensor]
    dtype: torch.dtype
    device: torch.device

    def tensors(self) -> Iterator[Tensor]:
        yield from (t for t in (self.membranes, self.delta) if t is not None)
        yield from self.weights.values()


class GradientPair:
    """Gradients of one network by STBP and by online training, of one forward pass each.

    Args:
        model: the network, left as it is.
        run: the network over x, from rest.
        layers: its layers of neurons.
        x, y: input and targets.
        stbp_loss, online_loss: of (the model's output, y).

    Attributes:
        uncut: modules that are no known neurons and held a part of the graph after a run.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[Tensor], Any],
        layers: dict[str, NeuronLayer],
        x: Tensor,
        y: Tensor,
        stbp_loss: OutputsLoss,
        online_loss: OutputsLoss,
    ) -> None:
        self.model = model
        self.run = run
        self.layers = layers
        self.x = x
        self.y = y
        self.losses = {False: stbp_loss, True: online_loss}
        self.uncut: dict[str, None] = {}
        self.names = {id(p): strip_wrappers(name) for name, p in model.named_parameters()}

    def measure(self, names: Sequence[str]) -> list[MeasuredLayer]:
        """Run both passes, and compare them in these layers; those that do not run are left out.

        Raises:
            SnnprofError: as :func:`snnprof.coherence`.
        """
        stbp = self._run(names, cut=False)
        identities = {name: _identity(seen) for name, seen in stbp.items()}
        stbp = {name: replace(seen, delta=None) for name, seen in stbp.items()}
        online = self._run(names, cut=True)
        return [
            _compare(name, self.layers[name], seen, online[name], identities[name])
            for name, seen in stbp.items()
        ]

    def _run(self, names: Sequence[str], *, cut: bool) -> dict[str, LayerGradients]:
        records = {name: LayerRecord() for name in names}
        calls: list[str] = []
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            undisturbed(self.model),
            self._probed(records, cut, calls),
        ):
            reset(self.model)
            loss = self.losses[cut](self.run(self.x), self.y)
            _check(loss)
            self._note_uncut()
            ran = {name: kept for name, kept in records.items() if kept.firing}
            order = {name: place for place, name in enumerate(calls)}
            return self._gradients(loss, ran, order, with_delta=not cut)

    @contextmanager
    def _probed(
        self, records: dict[str, LayerRecord], cut: bool, calls: list[str]
    ) -> Iterator[None]:
        """Put probes before all neurons, note their calls and which weights run before each.

        All of them, reported or not: online training cuts every membrane.
        """
        since: list[nn.Parameter] = []

        def ran(module: nn.Module, args: object) -> None:
            since.extend(p for p in module.parameters() if p.requires_grad and p.dim() > 1)

        def fed(name: str, kept: LayerRecord | None) -> Callable[[nn.Module, object], None]:
            def note(module: nn.Module, args: object) -> None:
                if name not in calls:
                    calls.append(name)
                    if kept is not None:
                        kept.weights += {id(p): p for p in since}.values()
                since.clear()

            return note

        handles = [
            module.register_forward_pre_hook(ran)
            for module in self.model.modules()
            if isinstance(module, _LINEAR) and not self._inside_a_neuron(module)
        ]
        try:
            for name, layer in self.layers.items():
                handles.append(layer.module.register_forward_pre_hook(fed(name, records.get(name))))
                probe = layer.probe(cut, records.get(name))
                vars(layer.module)["forward"] = probe.forward
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note_uncut(self) -> None:
        """State that is not cut between time steps would make the online gradient a mixture."""
        for module, name in module_names(self.model).items():
            if graphs_held(module) and not self._inside_a_neuron(module):
                self.uncut[name] = None

    def without_figures(self) -> list[str]:
        """Weights that neither a convolution, nor a linear layer, nor a neuron holds."""
        return [
            strip_wrappers(f"{prefix}.{name}" if prefix else name)
            for prefix, module in self.model.named_modules()
            if not isinstance(module, _LINEAR) and not self._inside_a_neuron(module)
            for name, p in module.named_parameters(recurse=False)
            if p.requires_grad and p.dim() > 1
        ]

    def _inside_a_neuron(self, module: nn.Module) -> bool:
        return any(m is module for layer in self.layers.values() for m in layer.module.modules())

    def _gradients(
        self, loss: Tensor, ran: dict[str, LayerRecord], order: dict[str, int], *, with_delta: bool
    ) -> dict[str, LayerGradients]:
        """All gradients in one backward pass."""
        if not ran:
            return {}
        places = [s for kept in ran.values() for s in kept.membranes]
        if with_delta:
            places += [s for kept in ran.values() for s in kept.spikes]
        weights = [p for kept in ran.values() for p in kept.weights]
        wanted = [*(s.edge for s in places), *weights]
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss,
            wanted,  # type: ignore[arg-type]  # tensors and edges mixed: torch takes them
            allow_unused=True,
        )
        if all(gradient is None for gradient in found[: len(places)]):
            raise SnnprofError(
                "the loss is not computed from the network: no gradient reaches "
                f"{', '.join(ran)}; compute it from the first argument, the model's output"
            )
        at = {id(place): g for place, g in zip(places, found[: len(places)], strict=True)}
        of = {id(p): g for p, g in zip(weights, found[len(places) :], strict=True)}
        return {
            name: LayerGradients(
                order=order[name],
                firing=joined(kept.firing),
                sequences=sum(len(record.fired) > 1 for record in kept.firing),
                membranes=_sequence(kept.membranes, at, kept.firing[0].fired.dim()),
                delta=_sequence(kept.spikes, at, kept.firing[0].fired.dim()),
                weights={
                    self.names[id(p)]: gradient
                    for p in kept.weights
                    if (gradient := of[id(p)]) is not None
                },
                dtype=kept.membranes[0].empty.dtype,
                device=kept.membranes[0].device,
            )
            for name, kept in ran.items()
        }


def _check(loss: object) -> None:
    """Raise SnnprofError for what is no loss."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise SnnprofError(f"the loss is {what}: it must be a tensor of one number")
    if not loss.requires_grad:
        raise SnnprofError(
            "the loss is not computed from the network: it has no graph; compute it from the "
            "first argument, the model's output, without detach() or item()"
        )
    if not bool(loss.isfinite()):
        raise SnnprofError(f"the loss is {loss.item()}: look for NaN in the input or the weights")


def _sequence(
    places: Sequence[GradientPlace], at: dict[int, Tensor | None], dim: int
) -> Tensor | None:
    """The gradients of all pieces as [T, B, ...]; None if there is none at all."""
    found = [at.get(id(place)) for place in places]
    if all(gradient is None for gradient in found):
        return None
    pieces = [
        torch.zeros_like(place.empty, device=place.device) if gradient is None else gradient
        for place, gradient in zip(places, found, strict=True)
    ]
    whole = [piece if piece.dim() == dim else piece.unsqueeze(0) for piece in pieces]
    return whole[0] if len(whole) == 1 else torch.cat(whole)


def _identity(seen: LayerGradients) -> Identity | None:
    if seen.membranes is None:
        return None
    delta = torch.zeros_like(seen.membranes) if seen.delta is None else seen.delta
    return check_identity(seen.membranes, delta, seen.firing.passes, seen.firing.leak)


def _compare(
    name: str,
    layer: NeuronLayer,
    stbp: LayerGradients,
    online: LayerGradients,
    identity: Identity | None,
) -> MeasuredLayer:
    """The row of one layer."""
    finite = all(bool(t.isfinite().all()) for seen in (stbp, online) for t in seen.tensors())
    fired = stbp.firing.fired
    row = LayerCoherence(
        name=name,
        neuron=layer.neuron,
        identity_claimed=layer.unclaimed is None,
        reason=layer.unclaimed,
        fired=int(fired.sum()) / fired.numel(),
        weights=tuple(stbp.weights),
    )
    if finite:
        row = _with_weights(_with_membranes(row, stbp, online, identity), stbp, online)
    return MeasuredLayer(
        row=row,
        order=stbp.order,
        timesteps=fired.shape[0],
        batch=fired.shape[1],
        dtype=str(stbp.dtype).removeprefix("torch."),
        device=str(stbp.device),
        sequences=stbp.sequences,
        finite=finite,
        same_spikes=torch.equal(fired, online.firing.fired),
    )


def _with_membranes(
    row: LayerCoherence, stbp: LayerGradients, online: LayerGradients, identity: Identity | None
) -> LayerCoherence:
    if stbp.membranes is None or identity is None:
        return row
    cut = torch.zeros_like(stbp.membranes) if online.membranes is None else online.membranes
    alike = likeness(zip(stbp.membranes, cut, strict=True))
    assert alike is not None, "a layer has at least one time step"
    ratio = check_ratio(stbp.membranes, cut, stbp.firing.passes, stbp.firing.leak)
    return replace(
        row,
        identity_residual=identity.residual,
        identity_largest=identity.largest,
        separability=identity.separability,
        ratio_predicted=ratio.predicted,
        ratio_measured=alike.online / alike.stbp if alike.stbp else None,
        ratio_residual=ratio.residual,
        cosine_membrane=alike.cosine,
        relative_error=alike.relative_error,
        stbp_norm_membrane=alike.stbp,
        online_norm_membrane=alike.online,
    )


def _with_weights(
    row: LayerCoherence, stbp: LayerGradients, online: LayerGradients
) -> LayerCoherence:
    pairs = (
        (gradient, online.weights.get(name, torch.zeros_like(gradient)))
        for name, gradient in stbp.weights.items()
    )
    alike = likeness(pairs)
    if alike is None:
        return row
    return replace(
        row,
        cosine_weight=alike.cosine,
        relative_error_weight=alike.relative_error,
        stbp_norm_weight=alike.stbp,
        online_norm_weight=alike.online,
    )

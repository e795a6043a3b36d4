"""Probes of a layer of neurons in a running network: where m_t and s_t lie in autograd's graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from snnprof.coherence.firing_record import FiringRecord, follow
from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import NeuronEquations


@dataclass(frozen=True)
class GradientPlace:
    """A place in autograd's graph where a gradient arrives; holds no values.

    Attributes:
        edge: for torch.autograd.grad.
        empty: a tensor without memory, of the gradient's shape and type.
        device: of the gradient.
    """

    edge: GradientEdge
    empty: Tensor
    device: torch.device


def place_of(tensor: Tensor) -> GradientPlace:
    """Where the gradient of a tensor arrives."""
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return GradientPlace(get_gradient_edge(tensor), empty, tensor.device)


@dataclass
class LayerRecord:
    """One layer of neurons in one run, piece by piece in order of time.

    Attributes:
        membranes: where dL/dm arrives: pieces [K, B, ...], or [B, ...] of one step each.
        spikes: where dL/ds arrives from the layers above: pieces [K, B, ...].
        firing: who fired.
        weights: parameters of the linear operations that ran since the layer of neurons
            before.
    """

    membranes: list[GradientPlace] = field(default_factory=list)
    spikes: list[GradientPlace] = field(default_factory=list)
    firing: list[FiringRecord] = field(default_factory=list)
    weights: list[nn.Parameter] = field(default_factory=list)


class NeuronProbe(ABC):
    """Takes the place of a neuron layer's ``forward`` for one run of the network.

    Args:
        cut: True to detach the membrane between time steps, as online training does.
        record: to write to; None for none.
    """

    def __init__(self, cut: bool, record: LayerRecord | None) -> None:
        self.cut = cut
        self.record = record

    @abstractmethod
    def forward(self, *given: object, **named: object) -> object:
        """Stands in for the neuron's own."""


def currents_alone(given: tuple[object, ...], named: dict[str, object]) -> Tensor:
    """The one tensor that a layer of neurons was called with.

    Raises:
        SnnprofError: it was called with anything else.
    """
    if not named and len(given) == 1 and isinstance(given[0], Tensor):
        return given[0]
    what = ", ".join([*(type(g).__name__ for g in given), *(f"{n}=" for n in named)])
    raise SnnprofError(
        f"a layer of neurons was called with ({what}): coherence follows neurons that take "
        "one tensor, the current, and give one, the spikes; NeuronEquations.call states another way"
    )


def alias(tensor: Tensor) -> Tensor:
    """A graph node of its own with the same values, which needs a gradient."""
    if not tensor.requires_grad:
        tensor = tensor.detach().requires_grad_()
    return tensor.view_as(tensor)


class RunProbe(NeuronProbe):
    """A layer of neurons that runs its own code, the one that trains.

    dL/dm_t is dL/dI_t: the current enters m_t = leak * m + I_t as it is, and nothing else.

    Args:
        neuron: the layer.
        equations: that it states.
        cut, record: as :class:`NeuronProbe`.
    """

    def __init__(
        self, neuron: Neuron, equations: NeuronEquations, cut: bool, record: LayerRecord | None
    ) -> None:
        super().__init__(cut, record)
        self.neuron = neuron
        self.equations = equations
        self.run = neuron.forward
        self.observed = neuron.observed()

    def forward(self, *given: object, **named: object) -> Tensor:
        currents = currents_alone(given, named)
        if self.record is None:
            return self._run(currents)
        first, before = self.neuron.steps_run, self.neuron.membrane
        if self.observed is None:
            currents = alias(currents)
            self.record.membranes.append(place_of(currents))
            seen, spikes = currents, self._run(currents)
        else:
            steps: list[Tensor] = []
            handle = self.observed.register_forward_hook(_keep_in(steps))
            try:
                spikes = self._run(currents)
            finally:
                handle.remove()
            self.record.membranes += [place_of(step) for step in steps]
            seen = torch.stack([step.detach() for step in steps])
        self.record.spikes.append(place_of(spikes))
        with torch.no_grad():
            self.record.firing.append(follow(self.equations, seen, before, first))
        return spikes

    def _run(self, currents: Tensor) -> Tensor:
        if not self.cut:
            return self.run(currents)
        spikes = []
        for current in currents.split(1):
            self.neuron.detach()
            spikes.append(self.run(current))
        return torch.cat(spikes)


def _keep_in(steps: list[Tensor]) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """A forward hook that keeps each output, made a node of its own."""

    def hook(module: nn.Module, args: object, out: Tensor) -> Tensor:
        steps.append(alias(out))
        return steps[-1]

    return hook

"""A layer of another library's neurons, replayed by the step equation that it states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnprof.coherence.firing_record import firing_record
from snnprof.coherence.neuron_probe import (
    LayerRecord,
    NeuronProbe,
    alias,
    currents_alone,
    place_of,
)
from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron_equations import NeuronEquations


class ReplayProbe(NeuronProbe):
    """A neuron replayed by its equations, from rest; its own ``forward`` does not run.

    Args:
        equations: of the neuron.
        cut, record: as :class:`NeuronProbe`.
    """

    def __init__(self, equations: NeuronEquations, cut: bool, record: LayerRecord | None) -> None:
        super().__init__(cut, record)
        self.equations = equations
        self.state: Tensor | None = None
        self.steps_run = 0

    def forward(self, *given: Any, **named: Any) -> Any:
        called = self.equations.called
        if self.equations.call is None:
            currents_alone(given, named)
        sequence, handed = called.take(*given, **named)
        if not called.keeps_state:
            self.state = handed
        first = self.steps_run
        stepped = [self._step(current) for current in sequence]
        spikes = torch.stack([spike for _, spike in stepped])
        if not spikes.requires_grad:
            raise SnnprofError(
                "the spike of a registered neuron has no gradient: its NeuronEquations.step must "
                "make it from the membrane by operations that autograd follows"
            )
        if self.record is not None:
            self.record.membranes += [place_of(m) for m, _ in stepped]
            self.record.spikes.append(place_of(spikes))
            detached = ((m.detach(), spike.detach()) for m, spike in stepped)
            self.record.firing.append(
                firing_record(self.equations, detached, slice(first, self.steps_run))
            )
        assert self.state is not None, "an input has at least one time step"
        return called.give(spikes, self.state)

    def _step(self, current: Tensor) -> tuple[Tensor, Tensor]:
        last = self.state
        if self.cut and last is not None:
            last = last.detach()
        assert self.equations.step is not None, "looked at when the layer was found"
        made = self.equations.step(last, alias(current), self.steps_run)
        if not (
            isinstance(made, tuple | list) and len(made) == 3 and all(map(torch.is_tensor, made))
        ):
            raise SnnprofError(
                "NeuronEquations.step must return three tensors: the membrane before the reset, "
                "the spike, the membrane after the reset"
            )
        charged, spike, self.state = made
        self.steps_run += 1
        return charged, spike

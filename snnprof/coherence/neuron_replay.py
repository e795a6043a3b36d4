"""A layer of another library's neurons, replayed by the step equation that it states."""

from __future__ import annotations

import torch
from torch import Tensor

from snnprof.coherence.firing_record import firing_record
from snnprof.coherence.neuron_probe import LayerRecord, NeuronProbe, alias, place_of
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
        self.membrane: Tensor | None = None
        self.steps_run = 0

    def fire(self, currents: Tensor) -> Tensor:
        first = self.steps_run
        sequence = currents if self.equations.multi_step else currents.unsqueeze(0)
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
        return spikes if self.equations.multi_step else spikes[0]

    def _step(self, current: Tensor) -> tuple[Tensor, Tensor]:
        last = self.membrane
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
        charged, spike, self.membrane = made
        self.steps_run += 1
        return charged, spike

"""Spiking neurons: the step equations as pure functions, and modules that run them.

Every module takes [T, B, ...] and returns [T, B, ...], one result per time step, and goes on
from the membrane potential that the last call left. :func:`reset` forgets it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from snnprof.errors import SnnprofError, known
from snnprof.spiking.surrogates import triangle_spike


def lif_step(
    membrane: Tensor | None, current: Tensor, leak: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """One step of the leaky integrate-and-fire neuron with soft reset.

    m = leak * m + I;  s = threshold * H(m - threshold);  m = m - s.

    Returns:
        The spike (0 or threshold) and the membrane potential after the reset.
    """
    charged = current if membrane is None else leak * membrane + current
    spike = threshold * triangle_spike(charged - threshold)
    return spike, charged - spike


def hdlif_step(
    membrane: Tensor | None, current: Tensor, leak: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of the hybrid-driven LIF neuron, whose spike is a floating-point number.

    m = leak * m + I;  s = ReLU(m - threshold);  m = m - s, so that a fired membrane is left
    at the threshold. Its derivatives are ds/dm = 1 where it fires and dm/dm_before = 0 after
    a spike, leak otherwise (seed, Eq. S1): no surrogate is needed.

    Returns:
        The spike and the membrane potential after the reset.
    """
    charged = current if membrane is None else leak * membrane + current
    spike = torch.relu(charged - threshold)
    return spike, charged - spike


class Neuron(nn.Module, ABC):
    """A layer of neurons with a membrane potential.

    Attributes:
        membrane: potential after the last time step, or None at rest.
        operations_per_step: neuron operations per neuron and time step (NOPs): charge,
            fire, reset.
        steps_run: time steps since the last reset.
        last_steps: time steps of the present or, after a reset, of the last sequence.
        neurons: neurons per sample, as of the last call; None before it.
    """

    operations_per_step = 3

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.membrane: Tensor | None = None
        self.steps_run = 0
        self.last_steps = 0
        self.neurons: int | None = None

    @abstractmethod
    def step(self, membrane: Tensor | None, current: Tensor) -> tuple[Tensor, Tensor]:
        """Spike and next membrane potential at time step ``steps_run``; [B, ...] each."""

    def forward(self, currents: Tensor) -> Tensor:
        """Run all T time steps of ``currents``, [T, B, ...]."""
        self.neurons = currents[0, 0].numel()
        spikes = []
        for current in currents:
            spike, self.membrane = self.step(self.membrane, current)
            self.steps_run += 1
            spikes.append(spike)
        self.last_steps = self.steps_run
        return torch.stack(spikes)

    def reset(self) -> None:
        """Back to rest; the next call starts at time step 0."""
        self.membrane = None
        self.steps_run = 0

    def detach(self) -> None:
        """Cut the membrane potential from the graph of the steps before."""
        if self.membrane is not None:
            self.membrane = self.membrane.detach()


class LIF(Neuron):
    """Leaky integrate-and-fire, triangle surrogate of width 1, soft reset.

    Args:
        timesteps: T (not used: the parameters are the same at every step).
        leak: factor on the membrane per time step.
        threshold: firing threshold and height of a spike.
    """

    def __init__(self, timesteps: int, leak: float = 0.5, threshold: float = 1.0) -> None:
        super().__init__(timesteps)
        self.leak = leak
        self.threshold = threshold

    def step(self, membrane: Tensor | None, current: Tensor) -> tuple[Tensor, Tensor]:
        return lif_step(membrane, current, self.leak, self.threshold)


class HDLIF(Neuron):
    """Hybrid-driven LIF: leak and threshold are learnt, one of each per time step.

    leak_t = sigmoid(leak_logit[t]) and threshold_t = sigmoid(threshold_logit[t]), both 0.5
    at the start.

    Args:
        timesteps: T.
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__(timesteps)
        self.leak_logit = nn.Parameter(torch.zeros(timesteps))
        self.threshold_logit = nn.Parameter(torch.zeros(timesteps))

    def step(self, membrane: Tensor | None, current: Tensor) -> tuple[Tensor, Tensor]:
        t = self.steps_run
        if t >= len(self.leak_logit):
            raise SnnprofError(
                f"time step {t + 1} of neurons made for {len(self.leak_logit)}: call "
                "snnprof.reset(model) before the next sequence"
            )
        leak, threshold = self.leak_logit[t].sigmoid(), self.threshold_logit[t].sigmoid()
        return hdlif_step(membrane, current, leak, threshold)


class NeuronMaker(Protocol):
    """Makes one layer of neurons, as the networks ask for them."""

    def __call__(self, channels: int, *, second: bool = False) -> Neuron:
        """A layer of neurons.

        Args:
            channels: channels (features of a linear layer) of its input, dimension 2 of
                [T, B, C, ...].
            second: True for the second neuron of a block, which is the one that the
                parallel variant replaces.
        """
        ...


NEURONS: dict[str, type[Neuron]] = {"lif": LIF, "hdlif": HDLIF}


def neuron_maker(name: str, timesteps: int, **variants: object) -> NeuronMaker:
    """What makes the neurons of a network.

    Raises:
        SnnprofError: an unknown neuron or variant.
    """
    if name not in NEURONS:
        raise known("neuron", name, NEURONS)
    for variant in variants:
        raise SnnprofError(f"unknown variant {variant!r}: {name!r} has no variants yet")
    kind = NEURONS[name]

    def make(channels: int, *, second: bool = False) -> Neuron:
        return kind(timesteps)

    return make


def neurons_of(model: nn.Module) -> list[Neuron]:
    """Every neuron layer of ours in the model."""
    return [module for module in model.modules() if isinstance(module, Neuron)]


def reset(model: nn.Module) -> None:
    """Put every neuron of ours in the model back to rest."""
    for neuron in neurons_of(model):
        neuron.reset()


def detach(model: nn.Module) -> None:
    """Cut every neuron of ours from the graph of the time steps before."""
    for neuron in neurons_of(model):
        neuron.detach()


def neuron_ops(model: nn.Module) -> int | None:
    """Neuron operations (NOPs) per sample of the last run.

    3 per neuron and time step: charge, fire, reset. None if the model has no neuron of ours
    or has not run.
    """
    run = [(n, n.neurons) for n in neurons_of(model) if n.neurons is not None]
    if not run:
        return None
    return sum(n.operations_per_step * count * n.last_steps for n, count in run)

"""The base class of a layer of neurons: currents in, spikes out, a membrane potential between."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron_equations import (
    NEURON_EQUATIONS,
    NeuronEquations,
    register_neuron,
)


class Neuron(nn.Module, ABC):
    """A layer of neurons.

    It takes [K, B, ...] and returns [K, B, ...], one result per time step, for K = 1 (one
    time step) as for K = T (the whole sequence), to the same last bit. It goes on from the
    membrane potential that the last call left; :func:`reset` forgets it.

    Args:
        timesteps: T.

    Attributes:
        membrane: potential after the last time step, or None at rest.
        operations_per_step: neuron operations per neuron and time step (NOPs): charge,
            fire, reset.
        binary: True if every spike is 0 or 1.
        steps_run: time steps since the last reset.
        last_steps: time steps of the present or, after a reset, of the last sequence.
        neurons: neurons per sample, as of the last call; None before it.
    """

    operations_per_step = 3
    binary = False

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.membrane: Tensor | None = None
        self.steps_run = 0
        self.last_steps = 0
        self.neurons: int | None = None

    @abstractmethod
    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Spikes [K, B, ...] and the last membrane, from time step ``steps_run`` on."""

    def forward(self, currents: Tensor) -> Tensor:
        """Run the K time steps of ``currents``, [K, B, ...]."""
        steps = len(currents)
        self.neurons = math.prod(currents.shape[2:])
        if torch.compiler.is_compiling():  # which writes into no strided place
            currents = currents.contiguous()
        spikes, self.membrane = self.run(currents, self.membrane)
        self.steps_run += steps
        self.last_steps = self.steps_run
        return spikes

    def equations(self) -> NeuronEquations:
        """Its step equation, leak and threshold; where nothing is stated, no more is known.

        Coherence needs them, and ``ottt`` and ``ndot`` the leak. Operations and membrane are
        added by :func:`equations_of`.
        """
        return NeuronEquations()

    def observed(self) -> nn.Module | None:
        """The module inside whose output, step by step, is the current of :meth:`equations`.

        None: the layer's own input is.
        """
        return None

    @property
    def operations(self) -> int | None:
        """Neuron operations per sample of the last run, None before it.

        Operations per neuron and step * neurons * time steps.
        """
        if self.neurons is None:
            return None
        return self.operations_per_step * self.neurons * self.last_steps

    def reset(self) -> None:
        """Back to rest; the next call starts at time step 0."""
        self.membrane = None
        self.steps_run = 0

    def detach(self) -> None:
        """Cut the membrane potential from the graph of the steps before."""
        if self.membrane is not None:
            self.membrane = self.membrane.detach()

    def check_steps_left(self, steps: int) -> None:
        """Raise SnnprofError where parameters per time step run out."""
        if self.steps_run + steps > self.timesteps:
            raise SnnprofError(
                f"time step {self.steps_run + steps} of neurons made for {self.timesteps}: call "
                "snnprof.reset(model) before the next sequence"
            )


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


def check_leak(leak: float) -> None:
    """Raise SnnprofError for what is no share of the membrane potential that a time step keeps."""
    if not 0 <= leak <= 1:
        raise SnnprofError(
            f"leak={leak}: must be from 0 (nothing of the membrane potential is kept from one time "
            "step to the next) to 1 (all of it)"
        )


@register_neuron(Neuron)
def _stated_by_itself(neuron: Neuron) -> NeuronEquations:
    return replace(
        neuron.equations(),
        operations=neuron.operations,
        operations_per_step=neuron.operations_per_step,
        membrane=neuron.membrane,
        reset_per_spike=1.0,  # a spike of ours is as high as what the reset takes off
    )


def states_itself(module: nn.Module) -> TypeGuard[Neuron]:
    """Whether it is a neuron of ours whose class nobody has registered otherwise."""
    return NEURON_EQUATIONS.nearest(module) is Neuron

"""What every layer of neurons is: currents in, spikes out, a membrane potential between."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByClass


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


OpsFormula = Callable[[Any], int | None]
_Formula = TypeVar("_Formula", bound=OpsFormula)
NEURON_OPS: ByClass[OpsFormula] = ByClass("neuron with operations")


def register_neuron_ops(kind: type[nn.Module]) -> Callable[[_Formula], _Formula]:
    """Decorator by which another library's neuron states its operations.

    The function gets a module of that class (or of a class derived from it) and returns its
    neuron operations per sample in its last run, or None if it has not run.

    Raises:
        ValueError: the class has stated its operations already.
    """
    return cast("Callable[[_Formula], _Formula]", NEURON_OPS.register(kind))


@register_neuron_ops(Neuron)
def _own_operations(neuron: Neuron) -> int | None:
    """Operations per neuron and step * neurons * time steps."""
    if neuron.neurons is None:
        return None
    return neuron.operations_per_step * neuron.neurons * neuron.last_steps


def neuron_ops(model: nn.Module) -> int | None:
    """Neuron operations (NOPs) per sample of the last run.

    3 per neuron and time step (charge, fire, reset), 1 for a stateless (parallel) neuron;
    neurons of other libraries count what :func:`register_neuron_ops` states. None if the
    model has no neuron that is known, or has not run.
    """
    formulas = (
        (NEURON_OPS[kind], module)
        for module in model.modules()
        if (kind := NEURON_OPS.nearest(module)) is not None
    )
    stated = [ops for formula, module in formulas if (ops := formula(module)) is not None]
    return sum(stated) if stated else None

"""Neurons of other libraries, replayed by the equations that :func:`register_membrane` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from snnprof.coherence.firing_record import Kind, Trace
from snnprof.coherence.neuron_probe import Records, Watch, alias, spot
from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByClass

UNSTATED = "its registered equations do not claim it (NeuronEquations.identity)"


@dataclass(frozen=True)
class NeuronEquations:
    """A neuron of another library, as its equations.

    Attributes:
        step: (membrane after the last reset or None at rest, current, time step) to (membrane
            before the reset, spike, membrane after the reset), in torch operations that
            autograd follows, surrogate included.
        threshold: it fires where the membrane before the reset is at least this.
        leak: dm_t/dm_{t-1} where step t-1 is silent.
        multi_step: it takes [T, B, ...]; False if it is called once per time step with
            [B, ...].
        identity: True if ds/dm is 1 where it fires and 0 elsewhere, and no gradient passes a
            reset, as Theorem 4.2 needs.
        name: of the neuron; None for its class.
    """

    step: Callable[[Tensor | None, Tensor, int], tuple[Tensor, Tensor, Tensor]]
    threshold: float = 1.0
    leak: float | Tensor = 0.5
    multi_step: bool = True
    identity: bool = False
    name: str | None = None


EquationsOf = Callable[[Any], NeuronEquations]
_EquationsOf = TypeVar("_EquationsOf", bound=EquationsOf)
MEMBRANES: ByClass[EquationsOf] = ByClass("neuron with a membrane")


def register_membrane(kind: type[nn.Module]) -> Callable[[_EquationsOf], _EquationsOf]:
    """Decorator by which another library's neuron names its membrane and its spike.

    The function gets a module of that class (or of a class derived from it) and returns its
    :class:`NeuronEquations`.

    Raises:
        ValueError: the class has been registered already.
    """
    return cast("Callable[[_EquationsOf], _EquationsOf]", MEMBRANES.register(kind))


def equations_of(module: nn.Module) -> NeuronEquations | None:
    """The registered equations of the module's class; None if there are none."""
    kind = MEMBRANES.nearest(module)
    if kind is None:
        return None
    equations = MEMBRANES[kind](module)
    if not isinstance(equations, NeuronEquations):
        raise SnnprofError(
            f"register_membrane({kind.__name__}): its function returned "
            f"{type(equations).__name__}, not snnprof.NeuronEquations"
        )
    return equations


def kind_of_equations(module: nn.Module, equations: NeuronEquations) -> Kind:
    """The neuron's name, and whether its equations claim the identity."""
    name = equations.name or type(module).__name__
    return Kind(name, None if equations.identity else UNSTATED)


def _number(leak: float | Tensor) -> float:
    """A leak as a number; a learnt one is a tensor of one element."""
    value = torch.as_tensor(leak).detach()
    if value.numel() != 1:
        raise SnnprofError(
            f"the leak of a registered neuron has shape {tuple(value.shape)}: NeuronEquations "
            "takes one number for the whole layer"
        )
    return float(value)


class ReplayWatch(Watch):
    """A neuron replayed by its equations, from rest; its own ``forward`` does not run.

    Args:
        equations: of the neuron.
        cut, records: as :class:`Watch`.
    """

    def __init__(self, equations: NeuronEquations, cut: bool, records: Records | None) -> None:
        super().__init__(cut, records)
        self.equations = equations
        self.membrane: Tensor | None = None
        self.steps_run = 0

    def fire(self, currents: Tensor) -> Tensor:
        sequence = currents if self.equations.multi_step else currents.unsqueeze(0)
        stepped = [self._step(current) for current in sequence]
        charged = [m.detach() for m, _ in stepped]
        spikes = torch.stack([spike for _, spike in stepped])
        if not spikes.requires_grad:
            raise SnnprofError(
                "the spike of a registered neuron has no gradient: its NeuronEquations.step must "
                "make it from the membrane by operations that autograd follows"
            )
        if self.records is not None:
            fired = torch.stack(charged) >= self.equations.threshold
            leak = charged[0].new_full((len(charged),), _number(self.equations.leak))
            self.records.membranes += [spot(m) for m, _ in stepped]
            self.records.spikes.append(spot(spikes))
            self.records.traces.append(Trace(fired, fired, leak))
        return spikes if self.equations.multi_step else spikes[0]

    def _step(self, current: Tensor) -> tuple[Tensor, Tensor]:
        last = self.membrane
        if self.cut and last is not None:
            last = last.detach()
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

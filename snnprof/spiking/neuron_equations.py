"""The description of a layer of neurons, and the one registration by which a class states it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByClass

# (membrane after the last reset or None at rest, current, time step) to (charged membrane,
# spike, membrane after the reset)
StepEquation = Callable[[Tensor | None, Tensor, int], tuple[Tensor, Tensor, Tensor]]
# One number for all time steps, or a function from a slice of them to [K], one number each.
StepParameter = float | Tensor | Callable[[slice], Tensor]


@dataclass(frozen=True)
class NeuronEquations:
    """A layer of neurons: its equations, and what its last run left.

    State what is known. Gradient coherence needs ``step`` and ``leak``, the modes ``ottt`` and
    ``ndot`` need ``leak`` (``ndot`` also ``membrane``), NOPs need ``operations``; whichever is
    missing is named by the one who needs it.

    Attributes:
        step: (membrane after the last reset or None at rest, current, time step) to (membrane
            before the reset, spike, membrane after the reset), in torch operations that
            autograd follows, surrogate included.
        threshold: it fires where the membrane before the reset is at least this: a number, or
            a function from a slice of time steps to [K]. None: where its spike is not 0.
        leak: dm_t/dm_{t-1} where step t-1 is silent: a number, or a function from a slice of
            time steps to [K]; 0 for a stateless neuron. None: not stated.
        multi_step: it takes [T, B, ...]; False if it is called once per time step with
            [B, ...].
        identity: True if ds/dm is 1 where it fires (or ``passes``) and 0 elsewhere, and no
            gradient passes a reset, as Theorem 4.2 needs.
        name: of the neuron; None for its class.
        operations: neuron operations (NOPs) per sample of the last run; None before it, or
            if not stated.
        membrane: the present membrane potential, after the reset, as many numbers as spikes
            of one time step; None at rest, or if not stated.
        passes: from the membrane before the reset to where ds/dm is 1, booleans; None: where
            it fires.
        reason: why the identity is not claimed; None for no reason given.
    """

    step: StepEquation | None = None
    threshold: StepParameter | None = 1.0
    leak: StepParameter | None = None
    multi_step: bool = True
    identity: bool = False
    name: str | None = None
    operations: int | None = None
    membrane: Tensor | None = None
    passes: Callable[[Tensor], Tensor] | None = None
    reason: str | None = None


EquationsOf = Callable[[Any], NeuronEquations]
_EquationsOf = TypeVar("_EquationsOf", bound=EquationsOf)
NEURON_EQUATIONS: ByClass[EquationsOf] = ByClass("neuron")


def register_neuron(kind: type[nn.Module]) -> Callable[[_EquationsOf], _EquationsOf]:
    """Decorator by which a class of neuron layers, another library's too, states its equations.

    The function gets a module of that class (or of a class derived from it) and returns its
    :class:`NeuronEquations`.

    Raises:
        ValueError: the class has been registered already.
    """
    return cast("Callable[[_EquationsOf], _EquationsOf]", NEURON_EQUATIONS.register(kind))


def equations_of(module: nn.Module) -> NeuronEquations | None:
    """The equations that the module's class states; None if it states none.

    Raises:
        SnnprofError: the registered function returned something else.
    """
    kind = NEURON_EQUATIONS.nearest(module)
    if kind is None:
        return None
    equations = NEURON_EQUATIONS[kind](module)
    if not isinstance(equations, NeuronEquations):
        raise SnnprofError(
            f"register_neuron({kind.__name__}): its function returned "
            f"{type(equations).__name__}, not snnprof.NeuronEquations"
        )
    return equations


def not_stated(module: nn.Module, what: str, who: str) -> SnnprofError:
    """The error for equations that lack a field.

    Args:
        module: the layer of neurons.
        what: the field of :class:`NeuronEquations`.
        who: needs it.
    """
    name = type(module).__name__
    return SnnprofError(
        f"{name} states no {what}, which {who} needs: return NeuronEquations({what}=...) from the "
        f"function that @snnprof.register_neuron({name}) registers"
    )


def numbers(value: StepParameter, steps: slice, like: Tensor, what: str) -> Tensor:
    """A threshold or a leak at each of these time steps, [K], without gradient.

    Raises:
        SnnprofError: more than one number for the whole layer.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise SnnprofError(
                f"the {what} of a registered neuron has shape {tuple(value.shape)}: "
                "NeuronEquations takes one number for the whole layer, or a function from a slice "
                "of time steps"
            )
        value = value.item()
    if callable(value):
        return value(steps).detach()
    return like.new_full((steps.stop - steps.start,), value)


def number(value: StepParameter, step: int) -> float | Tensor:
    """A threshold or a leak at one time step, without gradient."""
    if isinstance(value, Tensor):
        return value.detach()
    return value(slice(step, step + 1))[0].detach() if callable(value) else value


def neuron_ops(model: nn.Module) -> int | None:
    """Neuron operations (NOPs) per sample of the last run.

    3 per neuron and time step (charge, fire, reset), 1 for a stateless (parallel) neuron;
    neurons of other libraries count what they state by :func:`register_neuron`. None if the
    model has no neuron that states them, or has not run.
    """
    equations = (equations_of(module) for module in model.modules())
    stated = [e.operations for e in equations if e is not None and e.operations is not None]
    return sum(stated) if stated else None

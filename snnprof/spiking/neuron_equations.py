"""The description of a layer of neurons, and the one registration by which a class states it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByClass, Registry

# (state after the last reset or None at rest, current, time step) to (charged membrane, spike,
# state after the reset)
StepEquation = Callable[[Tensor | None, Tensor, int], tuple[Tensor, Tensor, Tensor]]
# One number for all time steps, or a function from a slice of them to [K], one number each.
StepParameter = float | Tensor | Callable[[slice], Tensor]


@dataclass(frozen=True)
class NeuronCall:
    """How a layer of neurons is called that takes more, or something else, than [T, B, ...].

    Attributes:
        take: from the arguments of a call to its currents [K, B, ...] and the state it is handed,
            None at rest and where ``keeps_state``.
        give: from the spikes [K, B, ...] and the state after them to what the call returns.
        keeps_state: the layer keeps its state between calls; False where it is handed it.
        returns_state: the call returns the state beside the spikes.
    """

    take: Callable[..., tuple[Tensor, Tensor | None]]
    give: Callable[[Tensor, Tensor], Any]
    keeps_state: bool = True
    returns_state: bool = False


SEQUENCES = NeuronCall(lambda x: (x, None), lambda spikes, state: spikes)
SINGLE_STEPS = NeuronCall(lambda x: (x.unsqueeze(0), None), lambda spikes, state: spikes[0])


@dataclass(frozen=True)
class NeuronEquations:
    """A layer of neurons: its equations, and what its last run left.

    State what is known. Gradient coherence needs ``step`` and ``leak``, the modes ``ottt`` and
    ``ndot`` and their like need ``leak`` (those of ``ndot`` also ``membrane``), NOPs need
    ``operations``; whichever is missing is named by the one who needs it.

    Attributes:
        step: (membrane after the last reset or None at rest, current, time step) to (membrane
            before the reset, spike, membrane after the reset), in torch operations that
            autograd follows, surrogate included. A neuron with more state than its membrane
            stacks it behind the membrane, [states, B, ...], in what it returns last and is given
            next.
        threshold: it fires where the membrane before the reset is at least this: a number, or
            a function from a slice of time steps to [K]. None: where its spike is not 0.
        leak: dm_t/dm_{t-1} where step t-1 is silent: a number, or a function from a slice of
            time steps to [K]; 0 for a stateless neuron. None: not stated.
        multi_step: it takes [T, B, ...]; False if it is called once per time step with
            [B, ...].
        call: how it is called, where neither of these says it.
        identity: True if ds/dm is 1 where it fires (or ``passes``) and 0 elsewhere, and no
            gradient passes a reset, as Theorem 4.2 needs.
        name: of the neuron; None for its class.
        operations: neuron operations (NOPs) per sample of the last run; None before it, or
            if not stated.
        operations_per_step: NOPs per neuron and time step, for
            :class:`~snnprof.spiking.neuron_operations.NeuronOperations` to count them; None if
            not stated.
        membrane: the present membrane potential, after the reset, as many numbers as spikes
            of one time step, or a function from what its last call returned to that; None at
            rest, or if not stated.
        reset_per_spike: what a soft reset takes off the membrane for a spike of 1, for
            ``ndot-code``: a number, or a function as ``leak``; None: the threshold, for spikes of
            0 and 1.
        watch_reset: a block that gives a function to what the last time step's reset took off,
            where spikes do not tell it, being rounded behind it; None where they do.
        passes: from the membrane before the reset to where ds/dm is 1, booleans; None: where
            it fires.
        reason: why the identity is not claimed; None for no reason given.
        spiking: False for an integrator whose output is its membrane: its state is cut with
            those of the neurons, but it has no trace and no row.
        unknown: why a field is not stated, for the error that asks for it.
    """

    step: StepEquation | None = None
    threshold: StepParameter | None = 1.0
    leak: StepParameter | None = None
    multi_step: bool = True
    call: NeuronCall | None = None
    identity: bool = False
    name: str | None = None
    operations: int | None = None
    operations_per_step: int | None = None
    membrane: Tensor | Callable[[Any], Tensor] | None = None
    reset_per_spike: StepParameter | None = None
    watch_reset: Callable[[], AbstractContextManager[Callable[[], Tensor]]] | None = None
    passes: Callable[[Tensor], Tensor] | None = None
    reason: str | None = None
    spiking: bool = True
    unknown: str | None = None

    @property
    def called(self) -> NeuronCall:
        """How it is called."""
        if self.call is not None:
            return self.call
        return SEQUENCES if self.multi_step else SINGLE_STEPS


EquationsOf = Callable[[Any], NeuronEquations]
_EquationsOf = TypeVar("_EquationsOf", bound=EquationsOf)
NEURON_EQUATIONS: ByClass[EquationsOf] = ByClass("neuron")


@dataclass(frozen=True)
class NamedEquations:
    """The equations of another library's class, known without loading the library.

    Attributes:
        equations_of: from a module of the class to its equations.
        methods: what computes them. They hold for a derived class that defines none anew.
    """

    equations_of: EquationsOf
    methods: frozenset[str]


# By "module.Class", as the class itself says: snnprof loads no library to know its neurons.
NAMED_EQUATIONS: Registry[NamedEquations] = Registry("neuron class")


def equations_of_class(
    *names: str, methods: Iterable[str] = ("forward",)
) -> Callable[[_EquationsOf], _EquationsOf]:
    """Decorator that states the equations of another library's classes by their names.

    Args:
        *names: "module.Class" as the class says itself.
        methods: what computes the equations in that class.

    Raises:
        ValueError: a class has been registered already.
    """

    def add(equations: _EquationsOf) -> _EquationsOf:
        for name in names:
            NAMED_EQUATIONS.register(name)(NamedEquations(equations, frozenset(methods)))
        return equations

    return add


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

    The nearest class that is registered says it, by itself or by its name. What a library's class
    says holds for a derived one as long as that defines nothing anew of what computes it.

    Raises:
        SnnprofError: the registered function returned something else.
    """
    derived: list[type] = []
    replaced: str | None = None
    for kind in type(module).__mro__:
        if kind in NEURON_EQUATIONS:
            return _checked(NEURON_EQUATIONS[kind](module), kind)
        named = NAMED_EQUATIONS.get(f"{kind.__module__}.{kind.__qualname__}")
        if named is not None:
            anew = _defined_anew(derived, named.methods)
            if not anew:
                equations = _checked(named.equations_of(module), kind)
                return equations if replaced is None else replace(equations, unknown=replaced)
            # What a more general class says may still hold.
            replaced = replaced or f"{', '.join(anew)} replaces {kind.__name__}'s"
        else:
            derived.append(kind)
    return None if replaced is None else NeuronEquations(unknown=replaced)


def _defined_anew(classes: Iterable[type], methods: frozenset[str]) -> list[str]:
    return [
        f"{kind.__name__}.{name}"
        for kind in classes
        for name in sorted(methods & vars(kind).keys())
    ]


def _checked(equations: object, kind: type) -> NeuronEquations:
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
    equations = equations_of(module)
    why = "" if equations is None or equations.unknown is None else f" ({equations.unknown})"
    return SnnprofError(
        f"{name} states no {what}{why}, which {who} needs: return NeuronEquations({what}=...) "
        f"from the function that @snnprof.register_neuron({name}) registers"
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

    3 per neuron and time step (charge, fire, reset), 1 for a stateless (parallel) neuron. None
    if the model has no neuron that states them, has not run, or has neurons of another library
    that do not keep count: :class:`~snnprof.spiking.neuron_operations.NeuronOperations` counts
    those as they run.
    """
    stated = [(m, e) for m in model.modules() if (e := equations_of(m)) is not None]
    known = [e.operations for _, e in stated if e.operations is not None]
    # Known by name alone: it keeps no count.
    uncounted = any(e.operations is None and NEURON_EQUATIONS.nearest(m) is None for m, e in stated)
    return sum(known) if known and not uncounted else None

"""SpikingJelly: ``activation_based`` (2.0 and 0.0.0.0.14) and ``clock_driven`` (0.0.0.0.12).

The neurons keep v, the membrane potential after the reset. Up to 0.0.0.0.14, and from
``SimpleBaseNode`` of 2.0, a time step is their own ``neuronal_charge``, ``neuronal_fire`` and
``neuronal_reset``, which are run here; 2.0 computes the same in fused operators, from whose outside
the charged membrane is not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.spiking.neuron_equations import (
    SEQUENCES,
    SINGLE_STEPS,
    NeuronCall,
    NeuronEquations,
    StepEquation,
    StepParameter,
    equations_of_class,
)
from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.libraries.held_state import holding
from snnprof.training.stepped_model import SteppedModel, one_of

_BASES = ("spikingjelly.activation_based.base", "spikingjelly.clock_driven.base")
# Layers of ``clock_driven`` take [T, B, ...] where their names say so.
_OVER_TIME = ("MultiStep", "SeqToANN", "MultiStepContainer")


@ADAPTERS.register("spikingjelly")
def spikingjelly(model: nn.Module) -> SteppedModel:
    """SpikingJelly, [B, ...] or [T, B, ...] as its layers are set."""
    bases: tuple[Any, ...] = tuple(
        sys.modules[name].MemoryModule for name in _BASES if name in sys.modules
    )
    stateful = [m for m in model.modules() if isinstance(m, bases)]

    def reset_all() -> None:
        for module in stateful:
            module.reset()

    def detach_all() -> None:
        for module in stateful:
            module.detach()

    if any(_over_time(module) for module in model.modules()):
        return SteppedModel(model, reset_all, detach_all, one_of(model), model, model, "time-first")
    return SteppedModel(model, reset_all, detach_all, model, None, model, "step")


def _over_time(module: nn.Module) -> bool:
    """Whether a layer of theirs takes [T, B, ...]."""
    if vars(module).get("_step_mode", vars(module).get("step_mode")) == "m":
        return True
    return any(
        kind.__module__.startswith("spikingjelly.clock_driven")
        and kind.__name__.startswith(_OVER_TIME)
        for kind in type(module).__mro__
    )


_METHODS = ("forward", "single_step_forward", "multi_step_forward")
_DYNAMICS = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
_FUNCTIONAL = (*_METHODS, "single_step_functional_forward", "multi_step_functional_forward")
_OLD = "spikingjelly.clock_driven.neuron", "spikingjelly.activation_based.neuron"
_NEW = "spikingjelly.activation_based.neuron"


def _old(*names: str) -> list[str]:
    return [f"{package}.{name}" for name in names for package in _OLD]


def _by_methods(neuron: Any) -> StepEquation:
    """A time step by the neuron's own methods, a derived class's too."""

    def step(state: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        with holding(neuron, v=_at_rest(neuron, current) if state is None else state):
            neuron.neuronal_charge(current)
            charged: Tensor = neuron.v
            spike: Tensor = neuron.neuronal_fire()
            neuron.neuronal_reset(spike)
            return charged, spike, neuron.v

    return step


def _at_rest(neuron: Any, current: Tensor) -> Tensor:
    return torch.full_like(current.detach(), neuron._memories_rv["v"])


def _by_charge(neuron: Any, charge: Callable[[Tensor, Tensor], Tensor]) -> StepEquation:
    """A time step as in ``functional.lif_step`` and its like: charge, fire, reset."""

    def step(state: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        charged = charge(_at_rest(neuron, current) if state is None else state, current)
        spike: Tensor = neuron.surrogate_function(charged - neuron.v_threshold)
        fired = spike.detach() if neuron.detach_reset else spike
        if neuron.v_reset is None:
            return charged, spike, charged - fired * neuron.v_threshold
        return charged, spike, (1.0 - fired) * charged + fired * neuron.v_reset

    return step


def _equations(neuron: Any, step: StepEquation, leak: StepParameter | None) -> NeuronEquations:
    return NeuronEquations(
        step,
        threshold=None,  # it fires where its spike is not 0
        leak=leak,
        multi_step=_over_time(neuron),
        operations_per_step=3,
        membrane=neuron.v if isinstance(neuron.v, Tensor) else None,
        unknown=None if leak is not None else "snnprof does not know this neuron's charge",
    )


# Any neuron: what it computes is its own methods', what its leak is they do not say.
@equations_of_class(*_old("BaseNode"), f"{_NEW}.base_node.SimpleBaseNode", methods=_METHODS)
def _some_neuron(neuron: Any) -> NeuronEquations:
    return _equations(neuron, _by_methods(neuron), None)


@equations_of_class(f"{_NEW}.base_node.BaseNode", methods=())
def _unknown_dynamics(neuron: Any) -> NeuronEquations:
    unknown = "snnprof does not know this neuron"
    return NeuronEquations(operations_per_step=3, call=_call(neuron), unknown=unknown)


def _call(neuron: Any) -> NeuronCall | None:
    """How a neuron is called whose ``forward`` is the library's; else it is not known."""
    if type(neuron).forward.__module__.partition(".")[0] != "spikingjelly":
        return None
    return SEQUENCES if _over_time(neuron) else SINGLE_STEPS


@equations_of_class(
    *(f"{_NEW}.{name}" for name in ("flexsn.FlexSN", "FlexSN")),
    *(f"{_NEW}.{name}" for name in ("inter_layer_connection.ILCBaseNode", "ILCBaseNode")),
    methods=(),
)
def _more_than_a_neuron(neuron: Any) -> NeuronEquations:
    return NeuronEquations(unknown="snnprof does not know this neuron")


@equations_of_class(
    *(
        f"{_NEW}.{name}"
        for file, names in {
            "dsr": ("DSRIFNode", "DSRLIFNode"),
            "few_spike": ("FewSpikeNode",),
            "integrate_and_fire": ("ActivationAwareIFNode",),
            "lif_variants": ("GatedLIFNode",),
            "noisy": ("NoisyBaseNode",),
            "psn": ("PSN", "MaskedPSN", "SlidingPSN"),
            "spikezip": ("STBIFNode",),
        }.items()
        for own in names
        for name in (f"{file}.{own}", own)
    ),
    methods=(),
)
def _unknown_neuron(neuron: Any) -> NeuronEquations:
    return NeuronEquations(call=_call(neuron), unknown="snnprof does not know this neuron")


@equations_of_class(
    *_old("IFNode", "MultiStepIFNode"),
    f"{_NEW}.integrate_and_fire.SimpleIFNode",
    methods=(*_METHODS, *_DYNAMICS),
)
def _if(neuron: Any) -> NeuronEquations:
    return _equations(neuron, _by_methods(neuron), 1.0)


@equations_of_class(
    *_old("LIFNode", "MultiStepLIFNode"),
    f"{_NEW}.lif.SimpleLIFNode",
    methods=(*_METHODS, *_DYNAMICS),
)
def _lif(neuron: Any) -> NeuronEquations:
    return _equations(neuron, _by_methods(neuron), 1.0 - 1.0 / neuron.tau)


@equations_of_class(
    *_old("ParametricLIFNode", "MultiStepParametricLIFNode"), methods=(*_METHODS, *_DYNAMICS)
)
def _plif(neuron: Any) -> NeuronEquations:
    return _equations(neuron, _by_methods(neuron), 1.0 - neuron.w.sigmoid())


@equations_of_class(f"{_NEW}.integrate_and_fire.IFNode", methods=_FUNCTIONAL)
def _fused_if(neuron: Any) -> NeuronEquations:
    return _equations(neuron, _by_charge(neuron, lambda v, x: v + x), 1.0)


@equations_of_class(f"{_NEW}.lif.LIFNode", methods=_FUNCTIONAL)
def _fused_lif(neuron: Any) -> NeuronEquations:
    def charge(v: Tensor, x: Tensor) -> Tensor:
        above: Tensor = v if neuron.v_reset is None else v - neuron.v_reset
        tau: float = neuron.tau
        return v + (x - above) / tau if neuron.decay_input else v - above / tau + x

    return _equations(neuron, _by_charge(neuron, charge), 1.0 - 1.0 / neuron.tau)


@equations_of_class(f"{_NEW}.plif.ParametricLIFNode", methods=_FUNCTIONAL)
def _fused_plif(neuron: Any) -> NeuronEquations:
    def charge(v: Tensor, x: Tensor) -> Tensor:
        above: Tensor = v if neuron.v_reset is None else v - neuron.v_reset
        rate: Tensor = neuron.w.sigmoid()
        return v + (x - above) * rate if neuron.decay_input else v - above * rate + x

    return _equations(neuron, _by_charge(neuron, charge), 1.0 - neuron.w.sigmoid())

"""Norse.

A cell takes ``(current, state)`` and gives ``(spikes, state)``; ``Lift``, and neurons such as
``LIF``, run over [T, B, ...]. LIF with a synapse: i' = i + I, v' = v + dt tau_mem_inv
(v_leak - v + i'), then i = i' - dt tau_syn_inv i' and v = (1 - s) v' + s v_reset.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron_equations import NeuronCall, NeuronEquations, equations_of_class
from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.stepped_model import SteppedModel, first_of, one_of, wrong_output

_LIFT = "norse.torch.module.lift.Lift"
# Run over time by themselves: [T, B, ...].
_SEQUENCES = {_LIFT, "norse.torch.module.snn.SNN", "norse.torch.module.snn.SNNRecurrent"}


def _names(module: nn.Module) -> set[str]:
    return {f"{kind.__module__}.{kind.__name__}" for kind in type(module).__mro__}


@ADAPTERS.register("norse")
def norse(model: nn.Module) -> SteppedModel:
    """Norse: ``out, state = model(x, state)``, as its SequentialState.

    With a ``Lift`` or a neuron that runs over time, such as ``LIF``, x is [T, B, ...]; with cells
    only, [B, ...].
    """
    held: list[Any] = [None]
    handed = "state" in signature(model.forward).parameters
    if not handed and _LIFT not in _names(model):
        return _without_state(model)

    def run(x: Tensor) -> Tensor:
        # A Lift takes its state in a tuple with x, and none at rest.
        given = (x, held[0]) if handed else (x if held[0] is None else (x, held[0]),)
        result = model(*given)
        if not isinstance(result, tuple) or len(result) != 2:
            raise wrong_output(result, "(output, state)", x)
        out: Tensor = result[0]
        held[0] = result[1]
        return out

    def forget() -> None:
        held[0] = None

    def cut() -> None:
        held[0] = tree_map(lambda s: s.detach() if isinstance(s, Tensor) else s, held[0])

    if any(not _SEQUENCES.isdisjoint(_names(module)) for module in model.modules()):
        step = _no_step if _restarts(model) else one_of(run)
        return SteppedModel(model, forget, cut, step, run, run, "time-first")
    return SteppedModel(model, forget, cut, run, None, run, "step")


def _without_state(model: nn.Module) -> SteppedModel:
    """A model that hands its cells their states in a loop of its own, from rest at every call."""

    def nothing() -> None:
        pass

    return SteppedModel(
        model, nothing, nothing, None, lambda x: first_of(model(x[0])), model, "inside"
    )


def _restarts(model: nn.Module) -> bool:
    """Whether a Lift inside is never handed its state: no other module knows that it has one."""
    return any(
        module is not model and _LIFT in _names(module) and module.is_stateful
        for module in model.modules()
    )


def _no_step(x: Tensor) -> Tensor:
    raise SnnprofError(
        "norse.torch.Lift around a neuron starts from rest at every call, so that this model "
        "cannot be trained step by step: use mode 'stbp', or Lift(SequentialState(...)) around the "
        "cells"
    )


_MODULE, _FUNCTIONAL = "norse.torch.module", "norse.torch.functional"
_METHODS = ("forward", "initial_state")
# (parameters, dt, state [states, B, ...] and current) to (charged membrane, the other states)
Charge = Callable[[Any, float, Tensor, Tensor], tuple[Tensor, list[Tensor]]]
# (parameters, spike, charged membrane) to the membrane after the reset
Reset = Callable[[Any, Tensor, Tensor], Tensor]


@equations_of_class(
    f"{_MODULE}.snn.SNN",
    f"{_MODULE}.snn.SNNCell",
    f"{_MODULE}.snn.SNNRecurrent",
    f"{_MODULE}.snn.SNNRecurrentCell",
    methods=(),
)
def _unknown(neuron: Any) -> NeuronEquations:
    return NeuronEquations(operations_per_step=3, unknown="snnprof does not know this neuron")


@equations_of_class(
    f"{_MODULE}.lif.LIFRecurrent", f"{_MODULE}.lif.LIFRecurrentCell", methods=_METHODS
)
def _recurrent(neuron: Any) -> NeuronEquations:
    return NeuronEquations(operations_per_step=3, unknown="it has recurrent weights inside it")


def _synaptic_charge(p: Any, dt: float, state: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    v, i = state
    i_new = i + x
    charged = v + dt * p.tau_mem_inv * (p.v_leak - v + i_new)
    return charged, [i_new + -dt * p.tau_syn_inv * i_new]


def _box_charge(p: Any, dt: float, state: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    charged: Tensor = state[0] + dt * p.tau_mem_inv * (x + p.v_leak - state[0])
    return charged, []


def _to_value(p: Any, spike: Tensor, charged: Tensor) -> Tensor:
    left: Tensor = (1 - spike) * charged + spike * p.v_reset
    return left


@equations_of_class(f"{_MODULE}.lif.LIF", f"{_MODULE}.lif.LIFCell", methods=_METHODS)
def _lif(neuron: Any) -> NeuronEquations:
    if neuron.p.method == "adjoint":
        return NeuronEquations(operations_per_step=3, unknown="method 'adjoint'")
    state = "lif.LIFFeedForwardState"
    return _equations(neuron, state, neuron.p.v_leak, _leak(neuron), _synaptic_charge, _to_value)


@equations_of_class(f"{_MODULE}.lif_box.LIFBoxCell", methods=_METHODS)
def _lif_box(neuron: Any) -> NeuronEquations:
    def reset(p: Any, spike: Tensor, charged: Tensor) -> Tensor:
        left: Tensor = p.reset_method(spike, charged, p.v_reset, p.v_th)
        return left

    state = "lif_box.LIFBoxFeedForwardState"
    return _equations(neuron, state, neuron.p.v_leak, _leak(neuron), _box_charge, reset)


@equations_of_class(f"{_MODULE}.iaf.IAF", f"{_MODULE}.iaf.IAFCell", methods=_METHODS)
def _iaf(neuron: Any) -> NeuronEquations:
    def charge(p: Any, dt: float, state: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return state[0] + x, []

    state = "iaf.IAFFeedForwardState"
    return _equations(neuron, state, neuron.p.v_reset, 1.0, charge, _to_value)


@equations_of_class(
    f"{_MODULE}.leaky_integrator.LI", f"{_MODULE}.leaky_integrator.LICell", methods=_METHODS
)
def _li(neuron: Any) -> NeuronEquations:
    state = "leaky_integrator.LIState"
    return _equations(neuron, state, neuron.p.v_leak, _leak(neuron), _synaptic_charge, None)


def _leak(neuron: Any) -> Tensor:
    leak: Tensor = 1 - neuron.dt * torch.as_tensor(neuron.p.tau_mem_inv)
    return leak


def _equations(
    neuron: Any,
    state: str,
    rest: Tensor,
    leak: float | Tensor,
    charge: Charge,
    reset: Reset | None,
) -> NeuronEquations:
    """The equations of a neuron.

    Args:
        neuron: the layer.
        state: its class of states, ``file.Class``, the membrane potential v first.
        rest: its membrane potential at rest; its other states are 0 there.
        leak: of the membrane potential.
        charge, reset: its equations; no reset for an integrator, whose output is its membrane.
    """
    file, _, kind = state.partition(".")
    states: Any = getattr(sys.modules[f"{_FUNCTIONAL}.{file}"], kind)
    threshold: Any = sys.modules[f"{_FUNCTIONAL}.threshold"]
    over_time = not _SEQUENCES.isdisjoint(_names(neuron))
    if over_time and neuron.record_states:
        return NeuronEquations(operations_per_step=3, unknown="record_states=True")

    def step(kept: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        if kept is None:
            kept = current.new_zeros(len(states._fields), *current.shape)
            kept[0] = rest.detach()
        charged, others = charge(neuron.p, neuron.dt, kept, current)
        if reset is None:
            return charged, charged, torch.stack([charged, *others])
        p = neuron.p
        spike: Tensor = threshold.threshold(charged - p.v_th, p.method, p.alpha)
        return charged, spike, torch.stack([reset(p, spike, charged), *others])

    def take(current: Tensor, given: Any = None) -> tuple[Tensor, Tensor | None]:
        sequence = current if over_time else current.unsqueeze(0)
        if given is None:
            return sequence, None
        return sequence, torch.stack([one.expand_as(sequence[0]) for one in given])

    def give(spikes: Tensor, left: Tensor) -> Any:
        return spikes if over_time else spikes[0], states(*left)

    return NeuronEquations(
        step,
        threshold=None,  # it fires where its spike is not 0
        leak=leak,
        call=NeuronCall(take, give, keeps_state=False, returns_state=True),
        operations_per_step=1 if reset is None else 3,
        membrane=lambda out: out[1].v,
        spiking=reset is not None,
    )

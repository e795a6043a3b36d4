"""snnTorch.

A neuron keeps ``mem``, the membrane potential before the reset, which comes a time step later
(``reset_delay``): mem_t = beta mem_(t-1) + I_t - reset(mem_(t-1)), the reset without a gradient. A
time step here is the neuron's own ``state_function``, ``fire`` and ``mem_reset``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.spiking.neuron_equations import (
    NeuronCall,
    NeuronEquations,
    StepParameter,
    equations_of_class,
)
from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.kept_graphs import detach_held
from snnprof.training.libraries.held_state import holding
from snnprof.training.stepped_model import SteppedModel, first_of


@ADAPTERS.register("snntorch")
def snntorch(model: nn.Module) -> SteppedModel:
    """snnTorch; of several outputs, as (spikes, membranes), the first.

    Neurons with ``init_hidden=True`` keep their state between calls of the model. The others are
    handed it, which a model does that loops over T in its forward, as in snnTorch's tutorials.
    Its own ``utils.reset`` looks at the top level of the model only, and resets the neurons of
    every other model too; here every neuron of this model is reset, and no other.
    """
    library: Any = sys.modules["snntorch"]
    neurons = [m for m in model.modules() if isinstance(m, library.SpikingNeuron)]

    def reset_all() -> None:
        for neuron in neurons:
            detach_held(neuron)
            neuron.reset_mem()

    def detach_all() -> None:
        for neuron in neurons:
            detach_held(neuron)

    if all(neuron.init_hidden for neuron in neurons):
        return SteppedModel(
            model, reset_all, detach_all, lambda x: first_of(model(x)), None, model, "step"
        )
    return SteppedModel(
        model, reset_all, detach_all, None, lambda x: first_of(model(x[0])), model, "inside"
    )


_METHODS = (
    *("forward", "fire", "fire_inhibition", "mem_reset"),
    *("_base_state_function", "_base_sub", "_base_zero", "_base_int"),
)
_NEURONS = "snntorch._neurons"


@equations_of_class(f"{_NEURONS}.neurons.SpikingNeuron", methods=())
def _unknown(neuron: Any) -> NeuronEquations:
    return NeuronEquations(operations_per_step=3, unknown="snnprof does not know this neuron")


@equations_of_class(f"{_NEURONS}.leaky.Leaky", methods=_METHODS)
def _leaky(neuron: Any) -> NeuronEquations:
    return _equations(neuron, neuron.beta.clamp(0, 1), "mem")


@equations_of_class(f"{_NEURONS}.lapicque.Lapicque", methods=_METHODS)
def _lapicque(neuron: Any) -> NeuronEquations:
    return _equations(neuron, 1 - neuron.time_step / (neuron.R * neuron.C), "mem")


@equations_of_class(f"{_NEURONS}.synaptic.Synaptic", methods=(*_METHODS, "_base_state_reset_zero"))
def _synaptic(neuron: Any) -> NeuronEquations:
    return _equations(neuron, neuron.beta.clamp(0, 1), "mem", "syn")


@equations_of_class(f"{_NEURONS}.rleaky.RLeaky", f"{_NEURONS}.rsynaptic.RSynaptic", methods=())
def _recurrent(neuron: Any) -> NeuronEquations:
    return NeuronEquations(operations_per_step=3, unknown="it has recurrent weights inside it")


def _equations(neuron: Any, leak: StepParameter, *states: str) -> NeuronEquations:
    """The equations of a neuron that keeps these states, its membrane potential first."""

    def step(state: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        kept = current.new_zeros(len(states), *current.shape) if state is None else state
        with holding(neuron, reset=None, **dict(zip(states, kept, strict=True))):
            neuron.reset = neuron.mem_reset(neuron.mem)
            made = neuron.state_function(current)
            # state_function gives the membrane last, and alone if there is nothing else
            synapses, charged = ((), made) if isinstance(made, Tensor) else (made[:-1], made[-1])
            if neuron.state_quant:
                charged = neuron.state_quant(charged)
                synapses = tuple(map(neuron.state_quant, synapses))
            if neuron.inhibition:
                spike = neuron.fire_inhibition(len(charged), charged)
            else:
                spike = neuron.fire(charged)
            left = _reset_now(neuron, charged, spike)
        return charged, spike, torch.stack([left, *synapses])

    return NeuronEquations(
        step,
        threshold=None,  # it fires where its spike is not 0
        leak=leak,
        call=_call(neuron, states),
        operations_per_step=3,
        membrane=_left(neuron),
    )


def _delays(neuron: Any) -> bool:
    """Whether it resets a time step later, as all do that say nothing of it."""
    return bool(vars(neuron).get("reset_delay", True))


def _reset_now(neuron: Any, charged: Tensor, spike: Tensor) -> Tensor:
    """The membrane potential that it keeps: as charged, unless it resets at once."""
    if _delays(neuron):
        return charged
    amount = spike / neuron.graded_spikes_factor - neuron.reset
    by = {"subtract": neuron.threshold, "zero": charged, "none": None}[neuron.reset_mechanism]
    return charged if by is None else charged - amount * by


def _left(neuron: Any) -> Tensor | None:
    """The membrane potential after the reset that is due; None at rest."""
    mem: Tensor = neuron.mem
    if not mem.numel():
        return None
    if not _delays(neuron):
        return mem
    reset = neuron.mem_reset(mem)
    by = {"subtract": neuron.threshold, "zero": mem, "none": None}[neuron.reset_mechanism]
    return mem if by is None else mem - reset * by


def _call(neuron: Any, states: tuple[str, ...]) -> NeuronCall:
    """It takes (current, *states), the membrane last, and gives (spikes, *states)."""
    order = (*range(1, len(states)), 0)
    returns_state: bool = neuron.output or not neuron.init_hidden

    def take(current: Tensor, *handed: Tensor | None, **named: Tensor | None) -> Any:
        given = dict(zip([states[i] for i in order], handed, strict=False)) | named
        if any(one is not None and one.shape == current.shape for one in given.values()):
            zero = torch.zeros_like(current)
            kept = [given.get(name) for name in states]
            whole = [zero if one is None or one.shape != zero.shape else one for one in kept]
            return current.unsqueeze(0), torch.stack(whole)
        return current.unsqueeze(0), None

    def give(spikes: Tensor, state: Tensor) -> Any:
        if not returns_state:
            return spikes[0]
        return (spikes[0], *(state[i] for i in order))

    return NeuronCall(take, give, neuron.init_hidden, returns_state)

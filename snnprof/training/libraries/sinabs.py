"""sinabs: neurons over [B, T, ...], and "squeezed" ones over [B * T, ...].

LIF: i = alpha_syn (i + I) where there is a synapse, else I; v = alpha_mem v + (1 - alpha_mem) i
(``norm_input``) or + i; the spikes are as many as v holds thresholds; then the reset, and v no
lower than ``min_v_mem``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.spiking.neuron_equations import NeuronCall, NeuronEquations, equations_of_class
from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.kept_graphs import detach_held
from snnprof.training.libraries.held_state import holding
from snnprof.training.stepped_model import SteppedModel, first_of


@ADAPTERS.register("sinabs")
def sinabs(model: nn.Module) -> SteppedModel:
    """sinabs: [B, T, ...], or [B * T, ...] where a Sequential has squeezed layers.

    A squeezed layer is told how many samples and time steps each call holds: left to the number it
    was made for, it would take time steps of one sample for another's.
    """
    layers: Any = sys.modules["sinabs.layers"]
    stateful = [m for m in model.modules() if isinstance(m, layers.StatefulLayer)]
    squeezed = [m for m in model.modules() if isinstance(m, layers.SqueezeMixin)]

    def reset_all() -> None:
        detach_all()
        for layer in stateful:
            for name, state in list(layer.named_buffers(recurse=False)):
                setattr(layer, name, torch.zeros_like(state))

    def detach_all() -> None:
        for layer in stateful:
            detach_held(layer)

    def told_samples(samples: int) -> AbstractContextManager[None]:
        return _told(squeezed, samples, steps=-1)  # as many as there are rows of each

    def stepwise(x: Tensor) -> Any:
        with told_samples(len(x)):
            return first_of(model(x.unsqueeze(1))).squeeze(1)

    def sequence(x: Tensor) -> Any:
        with told_samples(x.shape[1]):
            return first_of(model(x.transpose(0, 1))).transpose(0, 1)

    if squeezed and _takes_samples_and_steps_as_one(model, layers):
        return SteppedModel(
            model,
            reset_all,
            detach_all,
            lambda x: _squeezed(model, squeezed, x.unsqueeze(0))[0],
            lambda x: _squeezed(model, squeezed, x),
        )
    return SteppedModel(
        model,
        reset_all,
        detach_all,
        stepwise,
        sequence,
        model,
        "batch-first",
        told_samples=told_samples,
    )


def _takes_samples_and_steps_as_one(model: nn.Module, layers: Any) -> bool:
    """Whether it is a Sequential that nothing in it divides into samples and time steps."""
    if isinstance(model, sys.modules["sinabs.network"].Network):
        model = model.spiking_model
    return isinstance(model, nn.Sequential) and not any(
        isinstance(m, layers.FlattenTime | layers.UnflattenTime | layers.Repeat)
        for m in model.modules()
    )


@contextmanager
def _told(squeezed: list[nn.Module], samples: int, steps: int) -> Iterator[None]:
    with ExitStack() as stack:
        for layer in squeezed:
            stack.enter_context(holding(layer, batch_size=samples, num_timesteps=steps))
        yield


def _squeezed(model: nn.Module, squeezed: list[nn.Module], x: Tensor) -> Tensor:
    """[T, B, ...] to [T, B, classes], through a model from [B * T, ...] to [B * T, classes]."""
    steps, samples = x.shape[:2]
    with _told(squeezed, samples, steps):
        out: Tensor = first_of(model(x.transpose(0, 1).flatten(0, 1)))
    return out.reshape(samples, steps, *out.shape[1:]).transpose(0, 1)


_LAYERS = "sinabs.layers"
_METHODS = ("forward", "alpha_mem_calculated", "alpha_syn_calculated")


@equations_of_class(f"{_LAYERS}.lif.LIFRecurrent", f"{_LAYERS}.alif.ALIF", methods=())
def _unknown(neuron: Any) -> NeuronEquations:
    return NeuronEquations(operations_per_step=3, unknown="snnprof does not know this neuron")


@equations_of_class(f"{_LAYERS}.lif.LIF", f"{_LAYERS}.iaf.IAF", methods=_METHODS)
def _lif(neuron: Any) -> NeuronEquations:
    return _equations(neuron, NeuronCall(_from_batch_first, _to_batch_first))


@equations_of_class(
    f"{_LAYERS}.lif.LIFSqueeze",
    f"{_LAYERS}.iaf.IAFSqueeze",
    f"{_LAYERS}.exp_leak.ExpLeakSqueeze",
    methods=(*_METHODS, "squeeze_forward"),
)
def _squeezed_lif(neuron: Any) -> NeuronEquations:
    def take(x: Tensor) -> tuple[Tensor, None]:
        return _from_batch_first(x.reshape(neuron.batch_size, neuron.num_timesteps, *x.shape[1:]))

    def give(spikes: Tensor, state: Tensor) -> Tensor:
        return _to_batch_first(spikes, state).flatten(0, 1)

    return _equations(neuron, NeuronCall(take, give))


def _from_batch_first(x: Tensor) -> tuple[Tensor, None]:
    return x.transpose(0, 1), None


def _to_batch_first(spikes: Tensor, state: Tensor) -> Tensor:
    return spikes.transpose(0, 1)


def _equations(neuron: Any, call: NeuronCall) -> NeuronEquations:
    def step(kept: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        # A graph of its own for every step: the time constants may be trained.
        alpha_mem, alpha_syn = neuron.alpha_mem_calculated, neuron.alpha_syn_calculated
        states = 1 if alpha_syn is None else 2
        kept = current.new_zeros(states, *current.shape) if kept is None else kept
        synapse = current if alpha_syn is None else alpha_syn * (kept[1] + current)
        charge = (1 - alpha_mem) * synapse if neuron.norm_input else synapse
        charged = alpha_mem * kept[0] + charge
        if neuron.spike_fn is None:
            spike, left = charged, charged
        else:
            spike = neuron.spike_fn.apply(charged, neuron.spike_threshold, neuron.surrogate_grad_fn)
            left = neuron.reset_fn(spike, {"v_mem": charged}, neuron.spike_threshold)["v_mem"]
        if neuron.min_v_mem is not None:
            left = nn.functional.relu(left - neuron.min_v_mem) + neuron.min_v_mem
        return charged, spike, torch.stack([left, *([synapse] if states == 2 else [])])

    return NeuronEquations(
        step,
        threshold=None,  # it fires where its spike is not 0
        leak=neuron.alpha_mem_calculated,
        call=call,
        operations_per_step=3 if neuron.spike_fn is not None else 1,
        membrane=neuron.v_mem if neuron.v_mem.numel() else None,
        spiking=neuron.spike_fn is not None,
    )

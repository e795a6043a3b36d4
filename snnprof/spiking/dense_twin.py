"""The dense twin of a spiking network: a copy with ReLU in the place of its neurons."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron_equations import NeuronEquations, equations_of

_WAY_OUT = "write the dense network as a function of its own (--baseline package.module:function)"


def dense_twin(model: nn.Module) -> nn.Module:
    """A deep copy of a spiking network with ReLU in the place of every layer of neurons.

    Weights are copied, and the model stays as it was. The twin takes the inputs that the network
    takes: run it at T = 1. An integrator, whose output is its membrane, becomes the identity.

    Args:
        model: with neurons that snnprof knows: ours, those of SpikingJelly, snnTorch and sinabs,
            and those of :func:`~snnprof.register_neuron`. Norse's return their state too, which a
            ReLU has none of: they are refused.

    Raises:
        SnnprofError: no such neurons, or some whose call returns more than the spikes.
    """
    if not isinstance(model, nn.Module):
        raise SnnprofError(f"dense_twin takes a torch.nn.Module, not a {type(model).__name__}")
    return twin_of(model, nn.ReLU)


def twin_of(model: nn.Module, activation: Callable[[], nn.Module]) -> nn.Module:
    """As :func:`dense_twin`, with another activation, made anew for every layer of neurons."""
    neurons = {module: (name, equations) for name, module, equations in _outermost(model, "")}
    if not neurons:
        raise SnnprofError(
            f"{type(model).__name__} has no layer of neurons that snnprof knows, so that nothing "
            f"would be replaced: register it (snnprof.register_neuron), or {_WAY_OUT}"
        )
    refused = [
        f"{name or 'the model'} ({type(module).__name__}: {reason})"
        for module, (name, equations) in neurons.items()
        if (reason := _why_not(equations)) is not None
    ]
    if refused:
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise SnnprofError(
            f"no {activation().__class__.__name__} can stand in the place of {refused[0]}{others}: "
            f"{_WAY_OUT}"
        )
    # What stands in the memo is what the copy holds, wherever the network holds the neuron.
    memo: dict[int, nn.Module] = {
        id(module): (activation() if equations.spiking else nn.Identity()).train(module.training)
        for module, (_, equations) in neurons.items()
    }
    try:
        return copy.deepcopy(model, memo)
    except RuntimeError as error:
        raise SnnprofError(
            f"{type(model).__name__} cannot be copied ({error}): reset it first, or make it anew"
        ) from error


def _outermost(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module, NeuronEquations]]:
    """Layers of neurons with their names; what is inside one is part of it."""
    equations = equations_of(module)
    if equations is not None:
        yield name, module, equations
        return
    for child_name, child in module.named_children():
        yield from _outermost(child, f"{name}.{child_name}" if name else child_name)


def _why_not(equations: NeuronEquations) -> str | None:
    """Why no activation takes the place of the neurons one for one; None where one does."""
    call = equations.call
    if call is not None:
        returns_state = call.returns_state or not call.keeps_state
        return "its call returns its state beside the spikes" if returns_state else None
    return None if equations.step is not None else equations.unknown

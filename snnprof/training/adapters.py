"""One way to run models of any library time step by time step.

A training mode needs four things of a model: forget the state, cut the state from the graph,
run one time step, and, where the model can, run a whole sequence at once. An adapter says how
a library does them; it is chosen by the classes of the model's modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from inspect import Parameter, signature

from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron import Neuron, detach, reset
from snnprof.training.adapter_registry import ADAPTERS, OURS
from snnprof.training.kept_graphs import detach_held
from snnprof.training.libraries import norse, sinabs, snntorch, spikingjelly
from snnprof.training.stepped_model import SteppedModel, one_of

__all__ = ["ADAPTERS", "adapt", "norse", "sinabs", "snntorch", "spikingjelly"]


def adapt(model: nn.Module | SteppedModel) -> SteppedModel:
    """The model with the adapter of its library; of several libraries, the first that is known.

    Layers of all of them, and of ours, are reset and detached. A model without a module of a
    known library is called like ours, with [K, B, ...], K = 1 for one time step.
    """
    if isinstance(model, SteppedModel):
        return model
    packages = {
        kind.__module__.partition(".")[0] for m in model.modules() for kind in type(m).__mro__
    }
    foreign = [name for name in ADAPTERS if name != OURS and name in packages]
    if not foreign:
        return _adapted(model, OURS)
    # A model of another library may well hold a layer of ours, or of its owner's.
    parts = [_adapted(model, name) for name in foreign]
    parts.append(_own(model, {"torch", *foreign}))
    return replace(
        parts[0],
        reset=lambda: [part.reset() for part in parts],
        detach=lambda: [part.detach() for part in parts],
    )


def _adapted(model: nn.Module, package: str) -> SteppedModel:
    stepped = ADAPTERS[package](model)
    if not isinstance(stepped, SteppedModel):
        raise SnnprofError(
            f"the adapter of {package!r} returned a {type(stepped).__name__}, not a "
            "snnprof.extend.SteppedModel"
        )
    return stepped


@ADAPTERS.register(OURS)
def own(model: nn.Module) -> SteppedModel:
    """Our networks, and any module of nobody's library.

    Its state is forgotten by the method ``reset()`` of every module that has one without
    arguments, and detached wherever a module keeps tensors with a graph.
    """
    return _own(model, ())


def _own(model: nn.Module, known: Collection[str]) -> SteppedModel:
    """As :func:`own`, but for modules of packages that others look after."""
    foreign = [
        module
        for module in model.modules()
        if not isinstance(module, Neuron | SpikingNetwork)
        and type(module).__module__.partition(".")[0] not in known
    ]
    resets = [method for module in foreign if (method := _reset_of(module)) is not None]

    def reset_all() -> None:
        reset(model)
        for method in resets:
            method()

    def detach_all() -> None:
        detach(model)
        for module in foreign:
            detach_held(module)

    return SteppedModel(model, reset_all, detach_all, one_of(model), model, model, "time-first")


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    """The method ``reset`` of a module, if it has one that needs no argument."""
    method = getattr(module, "reset", None)
    if not callable(method) or type(module).__module__.partition(".")[0] == "torch":
        return None
    needed = [p for p in signature(method).parameters.values() if p.default is p.empty]
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return method if all(p.kind in variable for p in needed) else None

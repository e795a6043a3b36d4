"""One way to run models of any library time step by time step.

A training mode needs four things of a model: forget the state, cut the state from the graph,
run one time step, and, where the model can, run a whole sequence at once. An adapter says how
a library does them; it is chosen by the classes of the model's modules.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron import detach, reset
from snnprof.training.adapter_registry import ADAPTERS, OURS
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
    # Ours last: a model of another library may well hold a layer of ours.
    foreign = [name for name in ADAPTERS if name != OURS and name in packages]
    first, *others = [_adapted(model, name) for name in [*foreign, OURS]]
    if not others:
        return first
    every = (first, *others)
    return replace(
        first,
        reset=lambda: [stepped.reset() for stepped in every],
        detach=lambda: [stepped.detach() for stepped in every],
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
    """Our networks, and any module from [K, B, ...] to [K, B, classes]."""
    return SteppedModel(
        model,
        lambda: reset(model),
        lambda: detach(model),
        one_of(model),
        model,
        model,
        "time-first",
    )

"""snnTorch."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.stepped_model import SteppedModel, first_of


@ADAPTERS.register("snntorch")
def snntorch(model: nn.Module) -> SteppedModel:
    """snnTorch, neurons made with ``init_hidden=True``; the logits are the last one's spikes.

    Its own ``utils.reset`` looks at the top level of the model only, and resets the neurons of
    every other model too; here every neuron of this model is reset, and no other.
    """
    library: Any = sys.modules["snntorch"]
    neurons = [m for m in model.modules() if isinstance(m, library.SpikingNeuron)]
    if not all(neuron.init_hidden for neuron in neurons):
        raise SnnprofError(
            "a snnTorch neuron without init_hidden=True passes its state by hand: give it "
            "init_hidden=True, or wrap the model in snnprof.stepwise(...)"
        )

    def reset_all() -> None:
        for neuron in neurons:
            neuron.reset_mem()

    def detach_all() -> None:
        for neuron in neurons:
            for name, state in list(neuron.named_buffers(recurse=False)):
                if state.requires_grad:
                    setattr(neuron, name, state.detach())

    return SteppedModel(
        model, reset_all, detach_all, lambda x: first_of(model(x)), call=model, layout="step"
    )

"""SpikingJelly 2.0 (``activation_based``)."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.stepped_model import SteppedModel, one_of


@ADAPTERS.register("spikingjelly")
def spikingjelly(model: nn.Module) -> SteppedModel:
    """SpikingJelly, step mode "s" ([B, ...]) or "m" ([T, B, ...]) as its layers are set."""
    base: Any = sys.modules["spikingjelly.activation_based.base"]
    stateful = [m for m in model.modules() if isinstance(m, base.MemoryModule)]

    def reset_all() -> None:
        for module in stateful:
            module.reset()

    def detach_all() -> None:
        for module in stateful:
            module.detach()

    if any(module.step_mode == "m" for module in stateful):
        return SteppedModel(model, reset_all, detach_all, one_of(model), model, model, "time-first")
    return SteppedModel(model, reset_all, detach_all, model, None, model, "step")

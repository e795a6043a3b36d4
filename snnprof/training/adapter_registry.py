"""The registry of adapters: how each library's models run time step by time step."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from snnprof.core.registry import Registry
from snnprof.training.stepped_model import SteppedModel

Adapter = Callable[[nn.Module], SteppedModel]
ADAPTERS: Registry[Adapter] = Registry("adapter")  # by the library's top-level package
OURS = "snnprof"

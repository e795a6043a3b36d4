"""The state that a layer of another library keeps, exchanged for one of its own methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def holding(neuron: nn.Module, **state: object) -> Iterator[None]:
    """The neuron keeps this state inside the block, and its own again afterwards."""
    before = {name: getattr(neuron, name, None) for name in state}
    try:
        for name, value in state.items():
            setattr(neuron, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(neuron, name, value)

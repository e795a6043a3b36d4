"""The state that a layer of another library keeps: cut, or exchanged for one of its methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map


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


def detach_kept(module: nn.Module) -> None:
    """Cut what a layer keeps from its graph: buffers, and tensors in its attributes."""
    for name, kept in [*module.named_buffers(recurse=False), *vars(module).items()]:
        if name not in _TORCHS_OWN and any(map(_has_graph, tree_leaves(kept))):
            setattr(module, name, tree_map(_cut, kept))


def _has_graph(value: object) -> bool:
    return isinstance(value, Tensor) and value.grad_fn is not None


def _cut(value: object) -> object:
    return value.detach() if isinstance(value, Tensor) else value


_TORCHS_OWN = frozenset(vars(nn.Module()))

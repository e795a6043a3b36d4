"""Recompute spikes from the membrane potential in the backward pass, instead of keeping them.

A layer that multiplies spikes keeps them for the gradient of its weight, 4 bytes each, though
the neuron keeps the charged membrane anyway, and a spike is a function of that alone: LIF's
threshold * H(m - threshold), HD-LIF's ReLU(m - threshold). While a network runs, the membrane is
saved in the place of such spikes, and they are computed anew, exactly, when the backward pass asks
for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

# From the charged membrane to its spikes, a new tensor laid out as the membrane is.
Recompute = Callable[[Tensor], Tensor]
_local = threading.local()


class _Recomputable(NamedTuple):
    """Spikes that a membrane determines.

    Attributes:
        storage: of the spikes; while the weak reference lives, no other storage has its number.
        version: of the spikes; a higher one means that something was written over them.
        charged: membrane before the reset, laid out as the spikes are.
        recompute: computes the spikes from it.
    """

    storage: StorageWeakRef
    version: int
    charged: Tensor
    recompute: Recompute


class _KeptMembrane(NamedTuple):
    """The membrane kept in the place of spikes, and their shape."""

    charged: Tensor
    recompute: Recompute
    size: torch.Size
    stride: tuple[int, ...]


class _Spikes:
    """The spikes of one run of a network."""

    def __init__(self) -> None:
        self._recomputable: dict[int, _Recomputable] = {}

    def add(self, spikes: Tensor, charged: Tensor, recompute: Recompute) -> None:
        reference = StorageWeakRef(spikes.untyped_storage())
        self._recomputable[reference.cdata] = _Recomputable(
            reference, spikes._version, charged, recompute
        )

    def pack(self, tensor: Tensor) -> Tensor | _KeptMembrane:
        found = self._recomputable.get(tensor.untyped_storage()._cdata)
        if found is None or tensor._version != found.version or not _is_all(tensor, found.charged):
            return tensor
        return _KeptMembrane(found.charged, found.recompute, tensor.size(), tensor.stride())

    @staticmethod
    def unpack(packed: Tensor | _KeptMembrane) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        return packed.recompute(packed.charged).as_strided(packed.size, packed.stride)


def _is_all(view: Tensor, whole: Tensor) -> bool:
    """Whether a view shows every element of a storage once, in a shape of its own."""
    if view.numel() != whole.numel() or view.storage_offset() != 0:
        return False
    return view.is_contiguous() or (
        view.dim() == 4 and view.is_contiguous(memory_format=torch.channels_last)
    )


@contextmanager
def spikes_from_membranes() -> Iterator[None]:
    """Keep no spikes that a membrane determines, for what runs inside.

    Does nothing where no graph is recorded, and where somebody else (activation offloading,
    checkpointing, a measurement) already decides how tensors are saved.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or _hooked():
        yield
        return
    _local.spikes = spikes = _Spikes()
    try:
        with torch.autograd.graph.saved_tensors_hooks(spikes.pack, spikes.unpack):
            yield
    finally:
        _local.spikes = None


def _hooked() -> bool:
    # torch 2.6 cannot tell: spikes are kept there, gradients are the same.
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


def register_recomputable(spikes: Tensor, charged: Tensor, recompute: Recompute) -> None:
    """Say that spikes = recompute(charged), both laid out alike, to the last bit."""
    if torch.compiler.is_compiling():
        return
    running: _Spikes | None = getattr(_local, "spikes", None)
    if running is not None and spikes.stride() == charged.stride():
        running.add(spikes, charged, recompute)

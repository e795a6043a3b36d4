"""Binary spikes are not kept for the backward pass: the membrane potential tells them again.

A layer that multiplies spikes keeps them for the gradient of its weight, 4 bytes each, though
the neuron keeps the charged membrane anyway, and spike = threshold * H(m - threshold). While a
network runs, tensors to be saved that are such spikes are replaced by a note of where the
membrane is, and computed anew, exactly, when the backward pass asks for them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_local = threading.local()


class _Told(NamedTuple):
    """Spikes that a membrane tells.

    Attributes:
        storage: of the spikes; while the weak reference lives, no other storage has its number.
        charged: membrane before the reset, laid out as the spikes are.
        threshold: firing threshold and height of a spike.
    """

    storage: StorageWeakRef
    charged: Tensor
    threshold: float


class _Note(NamedTuple):
    """What is kept instead of spikes."""

    charged: Tensor
    threshold: float
    size: torch.Size
    stride: tuple[int, ...]


class _Spikes:
    """The spikes of one run of a network."""

    def __init__(self) -> None:
        self._told: dict[int, _Told] = {}

    def add(self, spikes: Tensor, charged: Tensor, threshold: float) -> None:
        reference = StorageWeakRef(spikes.untyped_storage())
        self._told[reference.cdata] = _Told(reference, charged, threshold)

    def pack(self, tensor: Tensor) -> Tensor | _Note:
        told = self._told.get(tensor.untyped_storage()._cdata)
        if told is None or tensor.numel() != told.charged.numel():
            return tensor
        return _Note(told.charged, told.threshold, tensor.size(), tensor.stride())

    @staticmethod
    def unpack(packed: Tensor | _Note) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        charged, threshold = packed.charged, packed.threshold
        spikes = torch.ge(charged, threshold, out=torch.empty_like(charged))
        if threshold != 1:
            spikes.mul_(threshold)
        return spikes.as_strided(packed.size, packed.stride)


@contextmanager
def spikes_from_membranes() -> Iterator[None]:
    """Keep no spikes that a membrane can tell, for what runs inside.

    Does nothing where no graph is recorded, and where somebody else (activation offloading,
    checkpointing, a measurement) already decides how tensors are saved.
    """
    hooked = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    if hooked or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield
        return
    _local.spikes = spikes = _Spikes()
    try:
        with torch.autograd.graph.saved_tensors_hooks(spikes.pack, spikes.unpack):
            yield
    finally:
        _local.spikes = None


def told_by_membrane(spikes: Tensor, charged: Tensor, threshold: float) -> None:
    """Say that spikes = threshold * H(charged - threshold), both laid out alike."""
    running: _Spikes | None = getattr(_local, "spikes", None)
    if running is not None and spikes.stride() == charged.stride():
        running.add(spikes, charged, threshold)

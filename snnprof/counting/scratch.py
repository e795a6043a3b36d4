"""Work buffers, and reading of tensors in pieces whose sums are exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Elements read at a time: bounds the work buffers.
CHUNK_ELEMENTS = 1 << 22
# Rows summed in float32: 2^12 values of at most 2^6 levels, weighted by less than 2^6, have
# sums below 2^24 levels, which are exact.
CHUNK_ROWS = 1 << 12
# Ones that float32 counts without rounding.
EXACT_ROWS = 1 << 24
_ALL = (0, 1, 2)
_MOST_VIEWS = 256


def as_float(x: Tensor) -> Tensor:
    """x in a type that sums of small whole numbers are exact in: float32 or float64."""
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.float() if x.is_floating_point() else x.double()


def rounding(dtype: torch.dtype) -> float:
    """Relative rounding error of numbers of this type; 0 for whole numbers."""
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


class Scratch:
    """A work buffer per device and dtype, reused by every layer of one counter."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._views: dict[tuple[torch.Size, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._slots: dict[torch.dtype, tuple[Tensor, Tensor, Any]] = {}
        with torch.inference_mode(False):
            self._byte = torch.empty((), dtype=torch.uint8, device="cpu")
        self._seen_byte: Any = self._byte.numpy()

    def like(self, x: Tensor) -> Tensor:
        """An uninitialised tensor of x's shape, dtype and device."""
        return self._like(x)[0]

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The tensor, and its bytes."""
        key = (x.shape, x.device, x.dtype)
        if key not in self._views:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            with torch.inference_mode(False), torch.no_grad():
                view = self._buffer(x)[: x.numel()].view(x.shape)
                self._views[key] = (view, view.flatten().view(torch.uint8))
        return self._views[key]

    def _buffer(self, x: Tensor) -> Tensor:
        buffer = self._buffers.get((x.device, x.dtype))
        if buffer is None or buffer.numel() < x.numel():
            self._views.clear()
            buffer = torch.empty(x.numel(), dtype=x.dtype, device=x.device)
            self._buffers[x.device, x.dtype] = buffer
        return buffer

    def all_zero_or_one(self, x: Tensor) -> bool:
        """True if every value is +0 or 1, of a tensor on the host.

        These are the only roots of x - x * x, and no other float rounds to +0: the largest byte
        of all that is left is 0. Two passes where the general way takes four.
        """
        rest, its_bytes = self._like(x)
        torch.addcmul(x, x, x, value=-1, out=rest)
        torch.amax(its_bytes, 0, out=self._byte)
        return int(self._seen_byte) == 0

    def extremes(self, x: Tensor) -> tuple[float, float]:
        """Least and largest value of a tensor on the host, [K, R, P]; NaN where x has one.

        Written to a place that numpy looks at too: to fetch a number from a new tensor takes
        longer than to find it.
        """
        if x.dtype not in self._slots:
            slots = torch.empty(2, dtype=x.dtype, device="cpu")
            self._slots[x.dtype] = (slots[0], slots[1], slots.numpy())
        least, largest, seen = self._slots[x.dtype]
        torch.amin(x, _ALL, out=least)
        torch.amax(x, _ALL, out=largest)
        return float(seen[0]), float(seen[1])


def on_host(x: Tensor) -> bool:
    """True if the numbers are in the host's memory, where numpy reads one without waiting."""
    return x.device.type == "cpu"


def has_no_zero(x: Tensor) -> bool:
    """True if no value is 0, of a tensor on the host."""
    return int(x.count_nonzero().numpy()) == x.numel()

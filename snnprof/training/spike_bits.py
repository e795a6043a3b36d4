"""Spikes kept for the backward pass as bits.

A tensor whose values are all 0 or one other number is kept as one bit each and that number, and
comes back the same to the last bit. All other tensors are kept as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError

_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


class Bits(NamedTuple):
    """Values of a tensor, each 0 or one other number, as bits.

    Attributes:
        bits: bytes of eight values, the first in the lowest bit; the last byte is filled up.
        height: the other number, a scalar tensor of the values' dtype.
        size, stride: of the tensor, which lies in one piece.
    """

    bits: Tensor
    height: Tensor
    size: torch.Size
    stride: tuple[int, ...]


class Whole(NamedTuple):
    """A tensor kept as it is, and the version that was kept."""

    tensor: Tensor
    version: int


def keep(tensor: Tensor) -> Bits | Whole:
    """The tensor as bits where that loses nothing, else the tensor itself."""
    found = to_bits(tensor)
    return Whole(tensor, tensor._version) if found is None else found


def restore(kept: Bits | Whole) -> Tensor:
    """The tensor that :func:`keep` was given.

    Raises:
        SnnprofError: it was written over meanwhile.
    """
    if isinstance(kept, Bits):
        return from_bits(kept)
    check_unchanged(kept.tensor, kept.version)
    return kept.tensor


def check_unchanged(tensor: Tensor, version: int) -> None:
    """Raise SnnprofError for a tensor that was written over since that version."""
    if tensor._version != version:
        raise SnnprofError(
            f"stbp-checkpoint: a tensor of shape {tuple(tensor.shape)} that the backward pass "
            "needs was changed in place after it was used: write x = x + y for x += y, drop "
            "inplace=True, or use mode 'stbp'"
        )


def to_bits(tensor: Tensor) -> Bits | None:
    """The tensor as bits; None where it has other values, or does not lie in one piece.

    Waits for a GPU: the values decide.
    """
    kind = _BITS.get(tensor.dtype)
    if kind is None or type(tensor) is not Tensor or tensor.numel() < 8 or not _dense(tensor):
        return None
    patterns = tensor.as_strided((tensor.numel(),), (1,)).view(kind)
    height = patterns.max()
    fired = patterns == height
    # Patterns, not values: -0 is another number, and NaN is equal to itself.
    zeros = tensor.numel() - torch.count_nonzero(patterns)
    if not bool((fired.sum() + zeros == tensor.numel()) | (height == 0) & (zeros == len(fired))):
        return None
    if not bool(height):
        fired.zero_()
    return Bits(_packed(fired), height.view(tensor.dtype), tensor.size(), tensor.stride())


def from_bits(kept: Bits) -> Tensor:
    """The tensor that was kept, laid out as it was."""
    places = torch.arange(8, dtype=torch.uint8, device=kept.bits.device)
    fired = kept.bits.unsqueeze(1).bitwise_right_shift(places).bitwise_and_(1).view(torch.bool)
    silent = torch.zeros_like(kept.height)
    values = torch.where(fired.view(-1)[: kept.size.numel()], kept.height, silent)
    return values.as_strided(kept.size, kept.stride)


def _packed(fired: Tensor) -> Tensor:
    bytes_, rest = divmod(len(fired), 8)
    if rest:
        fired = torch.cat([fired, fired.new_zeros(8 - rest)])
        bytes_ += 1
    eights = fired.view(torch.uint8).view(bytes_, 8)
    bits = torch.zeros(bytes_, dtype=torch.uint8, device=fired.device)
    for place in range(8):
        bits |= eights[:, place] << place
    return bits


def _dense(tensor: Tensor) -> bool:
    """Whether it shows every element of one piece of memory once."""
    reached = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and step != reached:
            return False
        reached *= size
    return True

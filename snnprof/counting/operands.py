"""What kind of numbers a tensor holds, and what one synaptic event then costs: MAC or AC.

The kind of a layer's input is decided over a whole measurement, call after call, without
ever waiting for the device: :class:`Spectrum` keeps a few running scalars where the tensor
lives, and only :meth:`Spectrum.kind` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

# More levels than this and "multiples of a step" says nothing: an 8-bit image is no spike.
MAX_LEVELS = 64
# Binary fractions are looked for down to 1/1024.
_FINEST = 1024
# Elements looked at in one go: bounds the scratch memory.
CHUNK_ELEMENTS = 1 << 22
# Rows summed in float32: sums of up to 2^12 values of at most 2^6 levels are exact.
CHUNK_ROWS = 1 << 12


class Kind(StrEnum):
    """Kinds of operand, from the narrowest to the widest (design: "Kinds of operand")."""

    BINARY = "BINARY"  # all non-zeros equal one positive value
    TERNARY = "TERNARY"  # non-zeros are +c and -c
    INTEGER = "INTEGER"  # whole multiples of a step, few levels
    REAL = "REAL"

    @property
    def width(self) -> int:
        return list(Kind).index(self)


class Operation(StrEnum):
    """What one synaptic event is: accumulate only, or multiply and accumulate."""

    AC = "AC"
    MAC = "MAC"


def operation(input_kind: str, weight_kind: str, integer: str = "ac") -> Operation:
    """MAC or AC for one event, by the kinds of the two operands.

    Args:
        input_kind: kind of the layer's input.
        weight_kind: kind of its weight.
        integer: what an INTEGER input on a REAL weight is: ``"ac"`` (value k is k spikes,
            each an accumulate) or ``"mac"``.
    """
    spikes = (Kind.BINARY, Kind.TERNARY)
    if input_kind in spikes or weight_kind in spikes:
        return Operation.AC
    if input_kind == Kind.INTEGER and integer == "ac":
        return Operation.AC
    return Operation.MAC


def is_unrolled(input_kind: str, weight_kind: str, integer: str = "ac") -> bool:
    """True where an AC event of value k is billed as k events (INTEGER input, REAL weight)."""
    return (
        input_kind == Kind.INTEGER
        and weight_kind not in (Kind.BINARY, Kind.TERNARY)
        and integer == "ac"
    )


def as_float(x: Tensor) -> Tensor:
    """x in a type that sums of small whole numbers are exact in: float32 or float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class Scratch:
    """A work buffer per device and dtype, reused by every layer of one counter."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """An uninitialised tensor of x's shape, dtype and device."""
        size = x.numel()
        buffer = self._buffers.get((x.device, x.dtype))
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[x.device, x.dtype] = x.new_empty(size)
        return buffer[:size].view(x.shape)


@dataclass(frozen=True)
class Levels:
    """The values a layer received: their kind and, but for REAL ones, their step."""

    kind: Kind
    step: float
    finite: bool = True


class Spectrum:
    """Running extremes of a stream of tensors, kept where the tensors live."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._eps = torch.finfo(dtype).eps
        self._lowest = torch.full((), math.inf, dtype=torch.float64, device=device)
        self._highest = torch.full((), -math.inf, dtype=torch.float64, device=device)

    def observe(self, x: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """Look at one chunk.

        Args:
            x: float32 or float64, shape [K, R, P], R at most ``CHUNK_ROWS``.
            scratch: work buffers.

        Returns:
            ``active`` [K, P], how many of the R values are non-zero, and ``mass`` [P], the
            sum of all magnitudes.
        """
        lowest, highest = torch.aminmax(x)
        torch.minimum(self._lowest, lowest, out=self._lowest)
        torch.maximum(self._highest, highest, out=self._highest)
        work = scratch.like(x)
        mass = (x if _is_known_positive(lowest) else torch.abs(x, out=work)).sum((0, 1))
        active = torch.ne(x, 0, out=work).sum(1)
        return active, mass

    def read(self, sums: Sequence[tuple[Tensor, Tensor]]) -> Levels:
        """The narrowest kind that all values fit. Synchronises.

        No magnitude exceeds the largest, so their sum at a position is (how many are not
        zero) * (the largest) only if each of them is the largest. If all values are whole
        multiples of a step, so are the sums; numbers that are not would have to cancel at
        every single position to hide.

        Args:
            sums: (active, mass) per input position, [P] each, of everything observed.
        """
        lowest, highest = float(self._lowest), float(self._highest)
        largest = max(-lowest, highest)
        if not math.isfinite(largest):
            return Levels(Kind.REAL, math.nan, finite=False)
        spike = Kind.TERNARY if lowest < 0 else Kind.BINARY
        if largest == 0 or all(self._equal(m / largest, n, largest) for n, m in sums):
            return Levels(spike, largest)
        for step in _steps(largest):
            if all(self._equal(m / step, (m / step).round(), step) for _, m in sums):
                return Levels(Kind.INTEGER, step)
        return Levels(Kind.REAL, math.nan)

    def _equal(self, levels: Tensor, expected: Tensor, step: float) -> bool:
        """Equality up to the rounding of the summands: none for a binary fraction."""
        exact = (step * _FINEST).is_integer()
        slack = 0.0 if exact else (4 * self._eps * levels).clamp(max=0.02)
        return bool(((levels - expected).abs() <= slack).all())


def _is_known_positive(lowest: Tensor) -> bool:
    """True if the host knows that no value is negative; it never waits to find out.

    On the CPU the number is already there, and numpy reads it without an operation.
    """
    return lowest.device.type == "cpu" and bool(lowest.numpy() >= 0)


def _steps(largest: float) -> Iterator[float]:
    """Steps to try: whole numbers, binary fractions, and parts of the largest value."""
    for power in range(_FINEST.bit_length()):
        if largest * 2**power <= MAX_LEVELS:
            yield 2.0**-power
    for part in range(2, MAX_LEVELS + 1):
        yield largest / part

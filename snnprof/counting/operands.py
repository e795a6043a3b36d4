"""What kind of numbers a tensor holds, and what one synaptic event then costs: MAC or AC.

The kind of a layer's input is decided over a whole measurement, call after call, without
ever waiting for the device: :class:`Spectrum` keeps a few running scalars where the tensor
lives, and only :meth:`Spectrum.kind` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

# More levels than this and "multiples of a step" says nothing: an 8-bit image is no spike.
MAX_LEVELS = 64
# Steps of which sums are exact: whole numbers and binary fractions, coarse to fine.
_EXACT_STEPS = tuple(2.0**-power for power in range(11))
# Elements looked at in one go: bounds the scratch memory.
CHUNK_ELEMENTS = 1 << 22
# Rows summed in float32: 2^12 values of at most 2^6 levels, weighted by less than 2^6, have
# sums below 2^24 levels, which are exact.
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
        self._eps = rounding(dtype)
        self._lowest = torch.full((), math.inf, dtype=torch.float64, device=device)
        self._highest = torch.full((), -math.inf, dtype=torch.float64, device=device)
        self._least = torch.full((), math.inf, dtype=torch.float64, device=device)
        self._rows = 0
        self._weighted: dict[int, Tensor] = {}  # by width

    def observe(self, x: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """Look at one chunk.

        Args:
            x: float32 or float64, shape [K, R, P], K * R at most ``CHUNK_ROWS``.
            scratch: work buffers.

        Returns:
            ``active`` [K, P], how many of the R values are non-zero, and ``mass`` [P], the
            sum of all magnitudes.
        """
        lowest, highest = torch.aminmax(x)
        work = scratch.like(x)
        signed = not on_host(x) or lowest.numpy() < 0
        mass = (torch.abs(x, out=work) if signed else x).sum((0, 1))
        active = torch.ne(x, 0, out=work).sum(1)
        largest = torch.maximum(-lowest, highest)
        if not on_host(x) or not _all_equal(mass, active.sum(0), largest):
            magnitude = torch.abs(x, out=work)
            self._weigh(magnitude)
            least = torch.threshold_(magnitude, 0.0, math.inf).amin()
            torch.minimum(self._least, least, out=self._least)
        elif largest.numpy() > 0:
            torch.minimum(self._least, largest, out=self._least)
        torch.minimum(self._lowest, lowest, out=self._lowest)
        torch.maximum(self._highest, highest, out=self._highest)
        return active, mass

    def _weigh(self, magnitude: Tensor) -> None:
        """Sum the rows once more, each with another weight, for :meth:`read`."""
        rows = magnitude.flatten(0, 1)
        weights = _row_weights(self._rows, len(rows), rows)
        self._rows += len(rows)
        found = (weights @ rows).double()
        width = rows.shape[1]
        self._weighted[width] = self._weighted.get(width, 0) + found

    def read(self, masses: Sequence[Tensor]) -> Levels:
        """The narrowest kind that all values fit. Synchronises.

        If all values are whole multiples of a step, so are their sums, weighted or not.
        Numbers that are not would have to cancel in both, at every single position.

        Args:
            masses: sums of magnitudes per input position, [P], of everything observed.
        """
        lowest, highest, least = float(self._lowest), float(self._highest), float(self._least)
        largest = max(-lowest, highest)
        if not math.isfinite(largest):
            return Levels(Kind.REAL, math.nan, finite=False)
        if largest == 0 or least == largest:
            return Levels(Kind.TERNARY if lowest < 0 else Kind.BINARY, largest)
        for step in (*_EXACT_STEPS, least):
            if largest <= MAX_LEVELS * step and all(
                self._whole(numbers / step, step)
                for numbers in (*masses, *self._weighted.values(), self._least, self._highest)
            ):
                return Levels(Kind.INTEGER, step)
        return Levels(Kind.REAL, math.nan)

    def _whole(self, levels: Tensor, step: float) -> bool:
        """True if all are whole numbers, up to the rounding of their summands."""
        slack = 0.0 if step in _EXACT_STEPS else (4 * self._eps * levels).clamp(max=0.02)
        return bool(((levels - levels.round()).abs() <= slack).all())


def _row_weights(first: int, count: int, like: Tensor) -> Tensor:
    """Scrambled whole numbers from 1 to 61, row by row; no generator is drawn from."""
    rows = torch.arange(first, first + count, device=like.device)
    return (rows * 2654435761 // 128 % 61 + 1).to(like.dtype)


def on_host(x: Tensor) -> bool:
    """True if the numbers are in the host's memory: to look at one waits for nothing.

    numpy then reads them without an operation of torch.
    """
    return x.device.type == "cpu"


def _all_equal(mass: Tensor, active: Tensor, largest: Tensor) -> bool:
    """True if all non-zeros have the largest magnitude.

    No magnitude exceeds it, so a sum of n of them is n times the largest only then.
    """
    return bool((mass.numpy() == active.numpy() * largest.numpy()).all())

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
        self._least = torch.full((), math.inf, dtype=torch.float64, device=device)

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
        work = scratch.like(x)
        signed = not _on_host(x) or lowest.numpy() < 0
        mass = (torch.abs(x, out=work) if signed else x).sum((0, 1))
        active = torch.ne(x, 0, out=work).sum(1)
        largest = torch.maximum(-lowest, highest)
        if _on_host(x) and _all_equal(mass, active.sum(0), largest):
            least = largest
        else:
            least = torch.threshold_(torch.abs(x, out=work), 0.0, math.inf).amin()
        torch.minimum(self._lowest, lowest, out=self._lowest)
        torch.maximum(self._highest, highest, out=self._highest)
        torch.minimum(self._least, least, out=self._least)
        return active, mass

    def read(self, masses: Sequence[Tensor]) -> Levels:
        """The narrowest kind that all values fit. Synchronises.

        If all values are whole multiples of a step, so are their sums; numbers that are not
        would have to cancel at every single position to hide.

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
            few = largest <= MAX_LEVELS * step
            if few and all(self._whole(mass / step, step) for mass in masses):
                return Levels(Kind.INTEGER, step)
        return Levels(Kind.REAL, math.nan)

    def _whole(self, levels: Tensor, step: float) -> bool:
        """True if all are whole numbers, up to the rounding of their summands."""
        slack = 0.0 if step in _EXACT_STEPS else (4 * self._eps * levels).clamp(max=0.02)
        return bool(((levels - levels.round()).abs() <= slack).all())


def _on_host(x: Tensor) -> bool:
    """True if the numbers are in the host's memory: to look at one waits for nothing.

    numpy then reads them without an operation of torch.
    """
    return x.device.type == "cpu"


def _all_equal(mass: Tensor, active: Tensor, largest: Tensor) -> bool:
    """True if all non-zeros have the largest magnitude.

    No magnitude exceeds it, so a sum of n of them is n times the largest only then.
    """
    return bool((mass.numpy() == active.numpy() * largest.numpy()).all())

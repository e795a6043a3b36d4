"""What the one read is asked, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

from snnprof.counting.tensors import on_host

_CHUNK = 1 << 18  # elements read at a time: they stay in the processor's cache
SMALL = 1 << 15  # elements that a dozen of torch's operations read faster than they start
_TILE = 256  # elements of fan-out at least, so that the loops over them are long


class Tier(IntEnum):
    """How values are verified: by what is known of those before, the narrowest first."""

    SPIKES = 0  # 0, or plus or minus the unit
    EXACT = 1  # multiples of a unit that floats hold without rounding
    ODD = 2  # multiples up to rounding
    REAL = 3  # no unit: only zeros, and whether all are finite


class Rows(NamedTuple):
    """An operand as it lies in memory.

    Attributes:
        x: contiguous, [outer, groups, R, P] in any shape.
        outer: batches whose time steps follow each other; 1 where time comes first.
        groups: time steps, or parts of them, whose non-zeros are counted apart.
        width: P, elements of one row.
        per_step: groups of one time step.
    """

    x: Tensor
    outer: int
    groups: int
    width: int
    per_step: int = 1

    def chunks(self) -> Iterator[Tensor]:
        """Pieces of x as [outer, groups, R, P], and R * P not large."""
        x = self.x.detach().view(self.outer, self.groups, -1, self.width)
        rows = max(1, _CHUNK // max(1, x.numel() // max(1, x.shape[2])))
        return iter(x.split(rows, 2))


class Weights:
    """Whole numbers that elements count as: the fan-out of a row, or one per group of rows.

    Args:
        counts: whole numbers [G, P] on the operand's device: for each of G groups of
            rows, or 1 for all, and each element of a row.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        if on_host(counts):
            self.most = int(counts.amax().numpy())
            if self.most < 1 << 31:
                self.counts = counts = counts.int()  # at 224 x 224 these are many
        # One group's rows may be short: several of them, one after the other.
        groups, width = counts.shape
        repeats = max(1, _TILE // width) if groups == 1 else 1
        self._tile = counts.repeat(1, repeats).contiguous()
        self.pointer = self._tile.data_ptr()
        self.length = width * repeats
        self.stride = width if groups > 1 else 0


class Found(NamedTuple):
    """What one read found; of a misfit only this is valid.

    Attributes:
        nonzeros: per group.
        events: sum of the weights of the non-zero elements.
        levels: sum of weight * magnitude / unit.
        least, largest: non-zero magnitudes; of Tier.REAL only whether largest is finite counts.
        negative: whether one is below 0.
        low, high: magnitude / level, the least and the largest; of Tier.ODD only.
        misfit: a magnitude that is no multiple of the unit, or 0.
    """

    nonzeros: list[int]
    events: int
    levels: int
    least: float
    largest: float
    negative: bool | int
    low: float = math.inf
    high: float = 0.0
    misfit: float = 0.0

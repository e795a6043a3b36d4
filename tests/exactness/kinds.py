"""Kinds of operand from their definition, in whole numbers: no running divisor, no order, no float.

Every float is a whole number over a power of two, so the magnitudes of an operand are whole numbers
on one scale, and everything below is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

import torch

MOST_LEVELS = 64
# By how much the estimates of one unit may differ, of themselves (docs/how-it-counts.md).
TOLERANCES = {
    torch.float32: Fraction(1, 2**20),
    torch.float64: Fraction(1, 2**40),
    torch.float16: Fraction(0),
    torch.bfloat16: Fraction(0),
    torch.int32: Fraction(1, 2**40),
    torch.int64: Fraction(1, 2**40),
}
HALVES = (torch.float16, torch.bfloat16)
NAMES = ("BINARY", "TERNARY", "INTEGER", "REAL")


@dataclass(frozen=True)
class Verdict:
    """The kind of a set of values.

    Attributes:
        kind: BINARY, TERNARY, INTEGER or REAL.
        levels: by magnitude, how many spikes it is; empty for REAL ones.
    """

    kind: str
    levels: dict[float, int]


REAL = Verdict("REAL", {})


def verdict(values: Iterable[float], dtype: torch.dtype) -> Verdict:
    """The narrowest kind that all values of this type fit."""
    seen = {value for value in values if value}
    if not all(map(math.isfinite, seen)):
        return REAL
    magnitudes = sorted({abs(value) for value in seen})
    if not magnitudes:
        return Verdict("BINARY", {})
    tolerance = TOLERANCES[dtype]
    if _apart(magnitudes) > MOST_LEVELS:
        return REAL
    levels = _levels([Fraction(m) for m in magnitudes], tolerance)
    if levels is None:
        return REAL
    by_magnitude = dict(zip(magnitudes, levels, strict=True))
    if levels[-1] == 1:
        return Verdict("TERNARY" if min(seen) < 0 else "BINARY", by_magnitude)
    for power in range(11):
        exact = [m * 2**power for m in magnitudes]  # without rounding
        if all(k.is_integer() for k in exact) and exact[-1] <= MOST_LEVELS:
            return Verdict("INTEGER", dict(zip(magnitudes, map(int, exact), strict=True)))
    if levels[0] == 1 and dtype not in HALVES:
        return Verdict("INTEGER", by_magnitude)
    return REAL


def _apart(magnitudes: list[float]) -> int:
    """How many there are that are no neighbours, within every tolerance."""
    pairs = itertools.pairwise(magnitudes)
    return 1 + sum(b > a * (1 + 2.0**-18) for a, b in pairs)


def _levels(magnitudes: list[Fraction], tolerance: Fraction) -> list[int] | None:
    """The magnitudes as the least whole multiples of one unit, at most 64; None if there is none.

    The largest is tried as one unit, two units and so on: the first that all others fit is the
    greatest common divisor.
    """
    scale = max(m.denominator for m in magnitudes)
    whole = [int(m * scale) for m in magnitudes]
    largest, (over, under) = whole[-1], tolerance.as_integer_ratio()
    for most in range(1, MOST_LEVELS + 1):
        levels = []
        for m in whole:  # its estimate m / k against that of the largest, largest / most
            k = (2 * m * most + largest) // (2 * largest)
            if k == 0 or abs(m * most - largest * k) * under > largest * k * over:
                break
            levels.append(k)
        else:
            estimates = [Fraction(m, k) for m, k in zip(whole, levels, strict=True)]
            if max(estimates) <= min(estimates) * (1 + tolerance):
                return levels
    return None


def weight_verdict(channels: Collection[Collection[float]], dtype: torch.dtype) -> str:
    """The kind of a weight, whose output channels each are judged by themselves."""
    kinds = [verdict(channel, dtype).kind for channel in channels]
    return max(kinds, key=NAMES.index)

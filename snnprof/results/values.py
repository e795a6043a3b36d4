"""What is kept of the values of an operand: a handful of numbers, that join in any order.

Every non-zero magnitude is a whole number, its level, times a unit: the greatest common divisor
of all of them. Where a magnitude is no multiple of the unit so far, the unit becomes their common
divisor, and the earlier levels are multiplied by the whole number that it shrank by. Each
magnitude over its level is an estimate of the unit; the least and the largest estimate are kept,
and if they differ by more than rounding explains there is no unit. All this depends on the set of
values only: not on their order, nor on the calls and the ranks that they came in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from snnprof.results.kinds import MAX_LEVELS, Kind

# By how much the estimates of one unit may differ, of itself: four roundings on either side.
SPREAD = 2.0**-20  # of float32
_SPREAD_OF_DOUBLES = 2.0**-40
_SINGLE = 1e-10  # relative rounding of double precision is below this, of single above
_HALF = 1e-4  # and of every half precision above this
# Steps that are whole numbers and binary fractions, coarse to fine.
_EXACT_STEPS = tuple(2.0**-power for power in range(11))


@dataclass(frozen=True)
class ValueKind:
    """The kind of the values of an operand.

    Attributes:
        kind: the narrowest that all fit.
        step: they are multiples of it; the height of BINARY and TERNARY ones, NaN of REAL ones.
        levels: sum over the events of magnitude / step; None for REAL ones.
        finite: False where NaN or infinity was among them.
    """

    kind: Kind
    step: float
    levels: int | None
    finite: bool = True


@dataclass(frozen=True, slots=True)
class Values:
    """A set of values, of which some were events. Without arguments: no value but 0.

    Attributes:
        least, largest: non-zero magnitudes; infinity and 0 where there is none.
        negative: True if a value is below 0.
        finite: False where NaN or infinity is among them.
        low, high: the least and the largest magnitude / level; 0 where there is no unit.
        levels: sum over the events of the level.
        rounding: the coarsest relative rounding of the types that the values came in.
    """

    least: float = math.inf
    largest: float = 0.0
    negative: bool = False
    finite: bool = True
    low: float = 0.0
    high: float = 0.0
    levels: int = 0
    rounding: float = 0.0

    @staticmethod
    def of(magnitude: float, rounding: float) -> Values:
        """One value that is not 0, of no event."""
        if not math.isfinite(magnitude):
            return Values(1.0, math.inf, finite=False, rounding=rounding)
        return Values(magnitude, magnitude, low=magnitude, high=magnitude, rounding=rounding)

    @property
    def silent(self) -> bool:
        """True as long as every value is 0."""
        return self.largest == 0

    @property
    def real(self) -> bool:
        """True if there is no unit, whatever comes."""
        return self.low == 0 and self.largest > 0

    def settled(self) -> Values:
        """The same for ever: of values without a unit nothing but that is followed to the end."""
        if not self.real:
            return self
        return Values(0.0, math.inf, finite=self.finite, rounding=self.rounding)

    def join(self, other: Values) -> Values:
        """All values of both."""
        if other.silent or self.silent:
            return self if other.silent else other
        both = Values(
            least=min(self.least, other.least),
            largest=max(self.largest, other.largest),
            negative=self.negative or other.negative,
            finite=self.finite and other.finite,
            rounding=max(self.rounding, other.rounding),
        )
        if self.real or other.real:
            return both
        ours = denominator(self.high / other.high)  # units of theirs in this many of ours
        if not ours:
            return both
        theirs, ours = ours, round(self.high / other.high * ours)
        low = min(self.low / ours, other.low / theirs)
        high = max(self.high / ours, other.high / theirs)
        if high > low * (1 + SPREAD) or both.largest > (MAX_LEVELS + 0.5) * low:
            return both
        levels = self.levels * ours + other.levels * theirs
        return replace(both, low=low, high=high, levels=levels)

    def kind(self) -> ValueKind:
        """The narrowest kind that all values fit.

        The step of INTEGER ones is 1, or the largest power of two down to 1/1024, that all are
        exact multiples of; else the unit, if it is itself among the values.
        """
        real = ValueKind(Kind.REAL, math.nan, None, self.finite)
        spread = tolerance(self.rounding)
        if self.real or not self.finite:
            return real
        if self.silent:
            return ValueKind(Kind.BINARY, 0.0, 0)
        if self.high > self.low * (1 + spread):
            return real
        if round(self.largest / self.low) == 1:
            kind = Kind.TERNARY if self.negative else Kind.BINARY
            return ValueKind(kind, self.largest, self.levels)
        if self.low == self.high:
            for step in _EXACT_STEPS:
                units = self.low / step
                if units.is_integer() and self.largest <= MAX_LEVELS * step:
                    return ValueKind(Kind.INTEGER, step, self.levels * int(units))
        if round(self.least / self.low) == 1 and spread:
            return ValueKind(Kind.INTEGER, self.least, self.levels)
        return real


def tolerance(rounding: float) -> float:
    """By how much the estimates of one unit may differ, of itself, in numbers so rounded.

    Not at all in half precision: there 0.9 is no nearer to 3 * 0.3 than its neighbours are.
    """
    if rounding > _HALF:
        return 0.0
    return _SPREAD_OF_DOUBLES if rounding < _SINGLE else SPREAD


def denominator(ratio: float) -> int:
    """The least q of which q * ratio is a whole number, up to rounding; 0 where there is none.

    Both q and q * ratio are at most 64, so that no two such fractions are as near to each
    other as rounding.
    """
    for q in range(1, MAX_LEVELS + 1):
        p = round(q * ratio)
        if p > MAX_LEVELS:
            return 0
        if p and abs(q * ratio / p - 1) <= 2 * SPREAD:
            return q
    return 0

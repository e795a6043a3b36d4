"""Kinds of figures in a table: their units, one chosen for a whole column, and their cells."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from snnprof.render.number_format import Figure, number


@dataclass(frozen=True)
class Quantity:
    """A kind of figure.

    Attributes:
        units: factors and symbols, ascending; the largest that the column's values reach is
            chosen. Empty for what has no unit.
        decimals: of every value; None for four significant digits.
        sign: behind every value: ``"x"``.
        whole: thousands are separated, nothing is scaled.
    """

    units: tuple[tuple[float, str], ...] = ()
    decimals: int | None = None
    sign: str = ""
    whole: bool = False

    def unit(self, values: Sequence[float]) -> tuple[float, str]:
        """Factor and symbol for values that stand under one heading."""
        if not self.units:
            return 1.0, ""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        fitting = [unit for unit in self.units if largest >= unit[0]]
        return fitting[-1] if fitting else self.units[0]

    def cell(self, values: Sequence[float], factor: float = 1.0, setting: bool = False) -> str:
        """A value; of several (a row's seeds) the mean and the sample standard deviation (n - 1).

        Args:
            values: in base units.
            factor: of the unit.
            setting: they say what was run, and equal ones are said once; equal figures that were
                measured have a deviation of 0.
        """
        if not values:
            return ""
        scaled = [value / factor for value in values]
        if len(scaled) == 1 or (setting and len({*scaled}) == 1):
            return self._one(scaled[0])
        mean = statistics.fmean(scaled)
        if not math.isfinite(mean):
            return self._one(mean)
        deviation = statistics.stdev(scaled)
        decimals = self._decimals(mean, deviation)
        shown, around = f"{mean:.{decimals}f}", f"{deviation:.{decimals}f}"
        return Figure(f"{shown}{self.sign} ± {around}", shown, around)

    def column(self, heading: str, values: Sequence[float | None]) -> tuple[str, list[str]]:
        """A heading with its unit, and a cell of each value; None is an empty one."""
        factor, symbol = self.unit([value for value in values if value is not None])
        cells = [self.cell([] if value is None else [value], factor) for value in values]
        return f"{heading} ({symbol})" if symbol else heading, cells

    def _one(self, value: float) -> str:
        if self.whole and math.isfinite(value) and value == int(value):
            return Figure(f"{int(value):,}", str(int(value)))
        text = number(value) if self.decimals is None else f"{value:.{self.decimals}f}"
        return Figure(text + self.sign, text)

    def _decimals(self, mean: float, deviation: float) -> int:
        """As many as show two digits of the deviation, but no more than four of the mean."""
        if self.decimals is not None:
            return self.decimals
        wanted = [
            digits - 1 - math.floor(math.log10(abs(value)))
            for digits, value in ((2, deviation), (4, mean))
            if value
        ]
        return max(0, min(wanted, default=0))


NUMBER = Quantity()
WHOLE = Quantity(whole=True)
SHARE = Quantity(units=((0.01, "%"),), decimals=2)
RATIO = Quantity(decimals=2, sign="x")
FACTOR = Quantity(sign="x")  # of any size: no fixed decimals
COUNT = Quantity(units=((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")))
JOULES = Quantity(
    units=((1e-15, "fJ"), (1e-12, "pJ"), (1e-9, "nJ"), (1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"))
)
SECONDS = Quantity(units=((1e-6, "µs"), (1e-3, "ms"), (1.0, "s")))
SIZE = Quantity(units=((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")))
MEMORY = Quantity(units=((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB")))

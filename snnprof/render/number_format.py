"""Numbers as a reader wants them. ``None`` is empty."""

from __future__ import annotations

import math
from collections.abc import Sequence

from snnprof.results import quartiles


class Figure(str):
    """The text of a number in a table. Text that is no figure is words, whatever it looks like.

    Args:
        text: as a reader sees it: ``"20.00 (15.00-25.00)"``, ``"1.25x"``, ``"12,345"``.
        value: the number alone, where the text has more: the median ``"20.00"``, ``"1.25"``,
            ``"12345"``.
        deviation: behind the mean that ``value`` is; empty without.
    """

    value: str
    deviation: str

    def __new__(cls, text: str, value: str | None = None, deviation: str = "") -> Figure:
        figure = super().__new__(cls, text)
        figure.value = text if value is None else value
        figure.deviation = deviation
        return figure


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, no exponent between 0.0001 and a million."""
    if value is None:
        return ""
    if value == 0:
        return Figure("0")
    if not 1e-4 <= abs(value) < 1e6:
        return Figure(f"{value:.{digits - 1}e}")
    leading = math.floor(math.log10(abs(value)))
    return Figure(f"{value:.{max(0, digits - 1 - leading)}f}")


def scaled(value: float | None, unit: float) -> str:
    """The value in a unit, e.g. bytes in MB."""
    return number(None if value is None else value / unit)


def percent(value: float | None) -> str:
    """A share as a percentage, without its sign."""
    return "" if value is None else Figure(f"{100 * value:.2f}")


def integer(value: int | None) -> str:
    """A whole number with thousands separated."""
    return "" if value is None else Figure(f"{value:,}", str(value))


def ratio(value: float | None) -> str:
    """A factor, as "1.25x"."""
    return "" if value is None else Figure(f"{value:.2f}x", f"{value:.2f}")


def spread(values: Sequence[float], unit: float) -> str:
    """ "median (first quartile-third quartile)" in a unit."""
    found = quartiles(values)
    if found is None:
        return ""
    first, middle, third = (scaled(value, unit) for value in found)
    return Figure(f"{middle} ({first}-{third})", middle)


def relative(value: float | None, base: float | None) -> float | None:
    """value / base, None where either is missing or the base is 0."""
    return None if value is None or not base else value / base

"""Cells and units of a column."""

import math

import pytest

from snnprof.render.quantities import (
    COUNT,
    JOULES,
    MEMORY,
    NUMBER,
    RATIO,
    SECONDS,
    SHARE,
    WHOLE,
    Quantity,
)


@pytest.mark.parametrize(
    ("quantity", "values", "symbol"),
    [
        (JOULES, [3.377e-6], "µJ"),
        (JOULES, [3e-6, 2e-3], "mJ"),  # the largest decides
        (JOULES, [1e-3], "mJ"),
        (JOULES, [0.0], "fJ"),
        (COUNT, [999.0], ""),
        (COUNT, [1000.0], "k"),
        (MEMORY, [2.0**20], "MiB"),
        (SECONDS, [0.02], "ms"),
        (SHARE, [0.0], "%"),
        (RATIO, [2.0], ""),
    ],
)
def test_units(quantity: Quantity, values: list[float], symbol: str) -> None:
    assert quantity.unit(values)[1] == symbol


@pytest.mark.parametrize(
    ("quantity", "values", "factor", "cell"),
    [
        (JOULES, [3.377e-6], 1e-6, "3.377"),
        (SHARE, [0.9833], 0.01, "98.33"),
        (WHOLE, [289482], 1, "289,482"),
        (RATIO, [1.5], 1, "1.50x"),
        # mean 2, deviation sqrt((1 + 0 + 1) / 2) = 1: two digits of it
        (COUNT, [1.0, 2.0, 3.0], 1, "2.0 ± 1.0"),
        # mean 3.2432, deviation 0.031; no more than four digits of the mean
        (COUNT, [3.2354, 3.2432, 3.2510], 1, "3.243 ± 0.008"),
        (COUNT, [3.2122, 3.2432, 3.2742], 1, "3.243 ± 0.031"),
        (SHARE, [0.90, 0.92], 0.01, "91.00 ± 1.41"),  # sqrt(2)
        (RATIO, [1.0, 2.0], 1, "1.50x ± 0.71"),
        (COUNT, [5.0, 5.0], 1, "5.000 ± 0.000"),  # measured twice: that they are equal is said
        (SHARE, [0.9917, 0.9917], 0.01, "99.17 ± 0.00"),
        (COUNT, [0.0, 0.0], 1, "0 ± 0"),
        (COUNT, [], 1, ""),
        (NUMBER, [math.nan, 1.0], 1, "nan"),
        (NUMBER, [math.inf, 1.0], 1, "inf"),
        (WHOLE, [math.nan], 1, "nan"),
    ],
)
def test_cells(quantity: Quantity, values: list[float], factor: float, cell: str) -> None:
    assert quantity.cell(values, factor) == cell


def test_settings_that_are_equal_are_said_once() -> None:
    assert WHOLE.cell([289482, 289482], setting=True) == "289,482"
    assert WHOLE.cell([4, 6], setting=True) == "5.0 ± 1.4"  # sqrt(2)
    assert COUNT.cell([5.0, 5.0], setting=True) == "5.000"

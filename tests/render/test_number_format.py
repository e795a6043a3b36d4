"""Numbers as text."""

import pytest

from snnprof.render.number_format import number, percent, ratio, relative, scaled, spread
from snnprof.results import quartiles


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (1234.56, "1235"),
        (123.456, "123.5"),
        (1.23456, "1.235"),
        (0.00123456, "0.001235"),
        (1.2e-7, "1.200e-07"),
        (3_000_000, "3.000e+06"),
    ],
)
def test_four_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_what_was_not_measured_is_empty_never_zero() -> None:
    assert scaled(None, 1e6) == percent(None) == ratio(None) == spread((), 1e-3) == ""
    assert relative(None, 1) is None
    assert relative(1, None) is None


def test_quartiles() -> None:
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert spread([0.004, 0.001, 0.003, 0.002, 0.005], 1e-3) == "3.000 (2.000-4.000)"

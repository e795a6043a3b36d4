"""Straight lines over T, by hand."""

import pytest

from snnprof.results.scaling import fit


def test_a_line_by_hand() -> None:
    # 10 + 3 T, without T = 1, which lies elsewhere
    found = fit([(1, 99.0), (2, 16.0), (4, 22.0), (8, 34.0)])
    assert found is not None
    timesteps, slope, intercept, r_squared, ratio = found
    assert timesteps == (2, 4, 8)
    assert (slope, intercept, r_squared) == pytest.approx((3, 10, 1))
    assert ratio == 34 / 16


def test_a_bend_is_seen() -> None:

    found = fit([(2, 4.0), (3, 9.0), (4, 16.0)])
    assert found is not None
    # slope (16 - 4) / 2; residuals 1/3, -2/3, 1/3; squares about the mean 29/3: 218/3
    assert found[1] == pytest.approx(6)
    assert found[3] == pytest.approx(1 - (6 / 9) / (218 / 3))


def test_what_says_nothing_is_none() -> None:
    assert fit([(4, 1.0)]) is None
    assert fit([(1, 9.0), (2, 5.0), (4, 5.0)]) == ((2, 4), 0, 5, None, 1)  # T = 1 left out
    two = fit([(1, 5.0), (2, 7.0)])
    assert two is not None
    assert two[1:] == (2, 3, None, 1.4)
    flat = fit([(2, 5.0), (4, 5.0), (8, 5.0)])
    assert flat is not None
    assert flat[1:] == (0, 5, None, 1)

"""Straight lines over T, by hand."""

from dataclasses import replace
from typing import Any

import pytest

from snnprof.results import ReportRow, StepProfile
from snnprof.results.scaling import fit, growth, is_steady, series, series_names

STEP = StepProfile("stbp", "cpu", 8, 4, (), (), (), (), 1000, None, 400, 600, 1, 1)


def row(timesteps: int, peak: int, **given: Any) -> ReportRow:
    step = replace(STEP, peak_bytes=peak, timesteps=timesteps)
    return ReportRow("net", mode="stbp", timesteps=timesteps, profile=step, **given)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": "digits"}, "digits"),
        ({"image_size": 16}, "16 pixels"),
        ({"execution": "bf16"}, "bf16"),
        ({"loss_name": "step"}, "loss step"),
        ({"environment": {"torch": "2.14"}}, "torch 2.14"),
        ({"layout": "inside"}, "inside"),
        ({"more": {"size": "8x8"}}, "size 8x8"),
    ],
)
def test_rows_that_differ_in_more_than_t_are_no_line(other: dict[str, Any], words: str) -> None:
    assert [*growth([row(2, 100), row(4, 200, **other)])] == []
    both = [row(2, 100), row(4, 200), row(2, 100, **other), row(4, 300, **other)]
    plain, apart = growth(both)
    assert (plain.ratio, apart.ratio) == (2, 3)
    assert (plain.conditions, apart.conditions) == (None, words)
    assert series_names(series(both)) == ["stbp", f"{words}, stbp"]


def test_seeds_and_epochs_are_points_of_one_line() -> None:
    rows = [row(2, 100, seed=0), row(2, 300, seed=1), row(4, 400, epochs=3, checkpoint="w.pt")]
    (found,) = growth(rows)
    assert found.ratio == 2  # 400 / the median of 100 and 300
    assert found.conditions is None


def test_a_step_that_touched_nothing_is_no_point() -> None:
    assert [*growth([row(2, 0), row(4, 0)])] == []
    assert [*growth([row(2, 0), row(4, 100)])] == []
    (found,) = growth([row(2, 0), row(4, 100), row(8, 200)])
    assert found.timesteps == (4, 8)
    assert is_steady([0.0] * 4)
    assert not is_steady([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])  # from 0 to 1


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

"""Sentences under a comparison, where whole runs would be a matter of luck."""

from __future__ import annotations

from snnprof.experiment.notes import _guessing, _unsteady
from snnprof.results import CountResult, ReportRow, StepProfile


def row(mode: str, step_s: tuple[float, ...]) -> ReportRow:
    profile = StepProfile(mode, "cpu", 8, 2, step_s, step_s, step_s, step_s, 1, None, 1, 0, 1, 1)
    return ReportRow("vgg5", "lif", "fp32", mode, 2, profile=profile)


def test_times_that_vary_too_much_are_said() -> None:
    steady = row("online", (1.0, 1.1, 1.2, 1.3, 1.4))  # quartiles 1.1 and 1.3
    unsteady = row("stbp", (1.0, 1.0, 1.2, 2.0, 9.0))  # 1.0 and 2.0
    few = row("ottt", (1.0, 9.0))
    (said,) = _unsteady([steady, unsteady, few, ReportRow("vgg5", "lif", "fp32", "ndot", 2)])
    assert said.startswith("Step times of vgg5 lif fp32 stbp T2 say little")
    assert "2.0 times the first" in said
    assert list(_unsteady([steady, few])) == []


def guesses(right: int, images: int, classes: int) -> bool:
    counts = CountResult(rows=(), samples=images, timesteps=2, not_counted=(), non_finite=())
    result = ReportRow("vgg5", "lif", "fp32", "stbp", 2, accuracy=right / images, counts=counts)
    return bool(list(_guessing([result], classes)))


def test_a_guess_is_what_three_standard_errors_do_not_tell_from_one() -> None:
    # 100 images, 10 classes: 10 % and 3 * sqrt(0.1 * 0.9 / 100) = 9 %
    assert guesses(18, 100, 10)
    assert not guesses(20, 100, 10)
    # too few to tell anything
    assert not guesses(0, 1, 10)
    assert not guesses(9, 9, 2)

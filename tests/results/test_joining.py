"""Several reports as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.render.report_notes import growth_notes
from snnprof.results import Report, ReportRow

from .test_comparison import HERE, profile, report, row, steps


def test_merged_reports_of_one_machine() -> None:
    first = report(row(), notes=("Data: digits.", "a"))
    second = report(row(mode="online"), notes=("Data: digits.", "b"), interrupted=True)
    merged = snnprof.merge([first, second])
    assert merged.rows == (*first.rows, *second.rows)
    assert merged.environment == HERE
    assert merged.notes == ("Data: digits.", "a", "b")
    assert merged.interrupted


def test_merged_reports_of_two_machines() -> None:
    first = report(row(profile=steps(1.0)))
    there = {"device": "CPU, two", "torch": "2.13.0"}
    second = Report((row(mode="online", profile=steps(2.0)),), environment=there)
    merged = snnprof.merge([first, second])
    assert merged.environment == {"torch": "2.13.0"}
    assert [each.environment for each in merged.rows] == [HERE, there]
    assert merged.notes[-1].startswith("The rows come from machines or versions that differ (dev")
    found = merged.to_frame()
    assert [*found["device"]] == ["CPU, one", "CPU, two"]
    assert found["step_ratio"].isna().all()  # nothing to compare them with
    again = snnprof.merge([merged, report(row(mode="ottt"))])
    assert [each.environment["device"] for each in again.rows] == [
        "CPU, one",
        "CPU, two",
        "CPU, one",
    ]


def test_growth_of_merged_reports() -> None:
    def of(steps: int, peak: int) -> ReportRow:
        return row(timesteps=steps, profile=replace(profile(peak=peak), timesteps=steps))

    parts = [report(of(2, 1000)), report(of(4, 3000))]
    (found,) = snnprof.merge(parts).growth
    assert (found.ratio, found.conditions) == (3, None)
    there = {"device": "CPU, two", "torch": "2.13.0"}
    second = Report((of(2, 1000), of(4, 2000)), environment=there)
    here, two = snnprof.merge([*parts, second]).growth  # no point of the one in the other's line
    assert (here.ratio, two.ratio) == (3, 2)
    assert (here.conditions, two.conditions) == ("device CPU, one", "device CPU, two")
    (note,) = growth_notes([here, two])
    assert note == (
        "Peak memory over T: stbp device CPU, one: 3.00x from T=2 to T=4; stbp device CPU, two: "
        "2.00x from T=2 to T=4."
    )


def test_merging_nothing_or_the_same_twice() -> None:
    with pytest.raises(SnnprofError, match="no reports to merge"):
        snnprof.merge([])
    with pytest.raises(SnnprofError, match="net stbp T4 is in the reports twice"):
        snnprof.merge([report(row()), report(row())])


def test_notes_of_seeds_that_differ_in_numbers_are_one() -> None:
    reports = [
        report(row(seed=n), notes=(f"Training: epochs 3, seed {n}.", f"net stbp T4: {n} of 5."))
        for n in (0, 1, 2)
    ]
    merged = snnprof.merge(reports)
    assert snnprof.merge([merged, report(row(seed=3))]).notes == merged.notes  # folded once
    assert merged.notes == (
        "Training: epochs 3, seed 0. (Others like it differ in seeds or times alone.)",
        "net stbp T4: 0 of 5.",  # of a row: each is told
        "net stbp T4: 1 of 5.",
        "net stbp T4: 2 of 5.",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "SGD, learning rate 0.1, weight decay 0.0005.",
            "SGD, learning rate 0.001, weight decay 0.1.",
        ),
        ("Weights loaded from ckpt1.pt.", "Weights loaded from ckpt2.pt."),
        ("Data: random images of 3x8x8, seed 0.", "Data: random images of 3x16x16, seed 1."),
    ],
)
def test_notes_that_differ_in_a_setting_are_both_told(first: str, second: str) -> None:
    reports = [report(row(seed=n), notes=(note,)) for n, note in enumerate((first, second))]
    assert snnprof.merge(reports).notes == (first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "Loading a batch took 0.0862 ms (median), for all.",
            "Loading a batch took 1e-05 ms (median), for all.",
        ),
        ("Weights loaded from w/T4-seed0.pt.", "Weights loaded from w/T4-seed1.pt."),
        (
            "Step times say little, up to 1.7 times the first.",
            "Step times say little, up to 2.1 times the first.",
        ),
    ],
)
def test_notes_that_differ_in_seeds_and_times_are_one(first: str, second: str) -> None:
    reports = [report(row(seed=n), notes=(note,)) for n, note in enumerate((first, second))]
    assert snnprof.merge(reports).notes == (
        f"{first} (Others like it differ in seeds or times alone.)",
    )

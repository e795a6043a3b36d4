"""Two reports, figure by figure, and several as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.render.report_notes import growth_notes
from snnprof.results import Comparison, CountResult, LayerCount, Report, ReportRow, StepProfile
from snnprof.results.comparison import HIGHER, LOWER, NO_CHANGE

HERE = {"device": "CPU, one", "torch": "2.13.0"}


def counts(synops: int) -> CountResult:
    layer = LayerCount(
        "a", "linear", "BINARY", "REAL", "AC", False, 1, 0.5, synops, synops, 1.0, 40, 40, 5, 10
    )
    return CountResult((layer,), samples=2)


def profile(*seconds: float, peak: int = 1000) -> StepProfile:
    return StepProfile("stbp", "cpu", 8, 4, (), (), (), seconds, peak, None, 10, peak - 10, 1, 1)


def row(**figures: Any) -> ReportRow:
    usual: dict[str, Any] = {"mode": "stbp", "timesteps": 4, "accuracy": 0.5, "batch_size": 8}
    return ReportRow("net", **{**usual, **figures})


def report(*rows: ReportRow, **more: Any) -> Report:
    return Report(rows, environment=dict(HERE), **more)


def verdicts(found: Comparison) -> dict[str, str]:
    return {each.figure: each.verdict for each in found.figures}


def test_a_report_against_itself() -> None:
    same = report(row(counts=counts(30), profile=profile(1.0, 2.0)))
    found = snnprof.compare(same, same)
    assert set(verdicts(found).values()) == {NO_CHANGE}
    assert {each.figure for each in found.figures} == {
        "accuracy",
        "SOPs",
        "peak memory",
        "step time",
    }
    assert found.notes == ()


def test_exact_figures_change_with_any_difference() -> None:
    priced = snnprof.price(counts(30)), snnprof.price(counts(33))
    base = report(row(counts=counts(30), energies=(priced[0],), parameters=10))
    new = report(row(counts=counts(33), energies=(priced[1],), accuracy=0.49, parameters=10))
    found = snnprof.compare(base, new)
    assert verdicts(found) == {
        "accuracy": LOWER,
        "SOPs": HIGHER,
        "energy operands": HIGHER,
        "parameters": NO_CHANGE,
    }
    sops = found.figures[1]
    assert (sops.base, sops.new) == (15, 16.5)
    assert sops.ratio == pytest.approx(1.1)
    assert sops.low == sops.high == sops.ratio


def steps(first: float) -> StepProfile:
    """21 times, 1 ms apart: the 5th percentile is the second, the 95th the last but one."""
    return profile(*(first + 0.001 * i for i in range(21)))


def test_times_change_where_the_intervals_do_not_overlap() -> None:
    base = report(row(profile=steps(1.0)))  # 1.001 to 1.019
    overlapping = snnprof.compare(base, report(row(profile=steps(1.018))))  # from 1.019
    assert verdicts(overlapping)["step time"] == NO_CHANGE
    apart = snnprof.compare(base, report(row(profile=steps(1.019))))  # from 1.020
    assert verdicts(apart)["step time"] == HIGHER
    (time,) = (each for each in apart.figures if each.figure == "step time")
    assert [time.base, time.new] == pytest.approx([1.010, 1.029])
    assert time.low == pytest.approx(1.020 / 1.019)
    assert time.high == pytest.approx(1.038 / 1.001)
    assert verdicts(snnprof.compare(report(row(profile=steps(1.019))), base))["step time"] == LOWER


def test_other_environments_times_are_not_compared() -> None:
    base = report(row(profile=steps(1.0)))
    new = replace(base, environment={**HERE, "torch": "2.14.0"})
    found = snnprof.compare(base, new)
    assert verdicts(found) == {"accuracy": NO_CHANGE}
    assert found.notes == (
        "Step times and memory are not compared where the environments differ: torch 2.13.0, then "
        "2.14.0.",
    )


def test_another_batch_is_not_compared_in_time() -> None:
    other = replace(steps(2.0), batch_size=16)
    found = snnprof.compare(report(row(profile=steps(1.0))), report(row(profile=other)))
    assert "step time" not in verdicts(found)


def test_rows_of_one_report_are_named() -> None:
    base = report(row(), row(mode="online"))
    found = snnprof.compare(base, report(row(), row(mode="ottt")))
    assert found.notes == (
        "Not in the second report: net online T4.",
        "Not in the first report: net ottt T4.",
    )
    with pytest.raises(SnnprofError, match="no row is in both reports: net online T4 in the first"):
        snnprof.compare(report(row(mode="online")), report(row()))


def test_rows_of_seeds_are_compared_with_their_own() -> None:
    base = report(row(seed=0, accuracy=0.5), row(seed=1, accuracy=0.6))
    new = report(row(seed=1, accuracy=0.6), row(seed=0, accuracy=0.5))
    assert {each.verdict for each in snnprof.compare(base, new).figures} == {NO_CHANGE}


def test_limits() -> None:
    base = report(row(counts=counts(100), profile=steps(1.0)))
    new = report(row(counts=counts(106), profile=steps(1.04), accuracy=0.4))
    found = snnprof.compare(base, new)
    assert [each.figure for each in found.beyond("sops>+5%")] == ["SOPs"]
    assert found.beyond("SOPs > +6%") == ()  # 6 % is not more than 6 %
    assert [each.figure for each in found.beyond("accuracy<-10%")] == ["accuracy"]
    # 1.041 to 1.059 against 1.001 to 1.019: 2.2 % at the least
    assert [each.figure for each in found.beyond("step time>+2%")] == ["step time"]
    assert found.beyond("step time>+3%") == ()


def test_a_limit_from_nothing() -> None:
    found = snnprof.compare(report(row(accuracy=0.0)), report(row(accuracy=0.5)))
    (each,) = found.beyond("accuracy>+5%")
    assert (each.ratio, each.verdict) == (None, HIGHER)
    assert found.beyond("accuracy<-5%") == ()


@pytest.mark.parametrize("limit", ["energy", "energy>5", ">5%", "energy>+5%%", "energy=5%"])
def test_a_limit_of_another_form(limit: str) -> None:
    found = snnprof.compare(report(row()), report(row()))
    with pytest.raises(SnnprofError, match="give it as 'energy>"):
        found.beyond(limit)


def test_a_limit_of_what_was_not_compared() -> None:
    found = snnprof.compare(report(row()), report(row()))
    with pytest.raises(SnnprofError, match="'energy' was not compared; compared were: accuracy"):
        found.beyond("energy>+5%")


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

"""Two reports, figure by figure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.render.table import view
from snnprof.results import Comparison, CountResult, LayerCount, Report, ReportRow, StepProfile
from snnprof.results.comparison import (
    HIGHER,
    LOWER,
    NO_CHANGE,
    NO_NUMBER,
    ONLY_FIRST,
    ONLY_SECOND,
    TOO_FEW,
)

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


def test_another_batch_is_not_compared_in_time_and_memory_and_it_is_said() -> None:
    other = replace(steps(2.0), batch_size=16, peak_bytes=8000)
    found = snnprof.compare(report(row(profile=steps(1.0))), report(row(profile=other)))
    assert verdicts(found) == {"accuracy": NO_CHANGE}
    assert found.notes == (
        "net stbp T4: batch 8, then batch 16. Step time and memory are not compared.",
    )
    (note,) = snnprof.compare(report(row(batch_size=None)), report(row())).notes
    assert note == "net stbp T4: batch not stated, then batch 8."


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"epochs": 3}, {"epochs": 10}, "epochs 3, then epochs 10."),
        ({"loss_name": "sum"}, {"loss_name": "step"}, "loss sum, then loss step."),
        ({}, {"execution": "bf16"}, "the usual training step, then bf16."),
        ({}, {"checkpoint": "w.pt"}, "no checkpoint, then from w.pt."),
        ({"more": {"schedule": "cosine"}}, {}, "schedule cosine, then not stated."),
        (
            {"image_size": 8},
            {"image_size": 16},
            "8 pixels, then 16 pixels. Step time and memory are not compared.",
        ),
        ({}, {"image_size": 16}, None),  # a file from before that was kept
    ],
)
def test_settings_that_differ_are_said(
    here: dict[str, Any], there: dict[str, Any], said: str | None
) -> None:
    found = snnprof.compare(
        report(row(profile=steps(1.0), **here)), report(row(profile=steps(1.0), **there))
    )
    assert found.notes == (() if said is None else (f"net stbp T4: {said}",))
    assert ("step time" in verdicts(found)) is ("not compared" not in (said or ""))


def test_rows_with_an_environment_of_their_own() -> None:
    """Of a merged report: what counts is where each row ran, not who says so."""
    plain = report(row(profile=steps(1.0)))
    there = {"device": "CPU, two", "torch": "2.13.0"}
    elsewhere = Report((row(mode="online", profile=steps(1.0)),), environment=there)
    merged = snnprof.merge([plain, elsewhere])
    found = snnprof.compare(plain, merged)
    assert verdicts(found)["step time"] == NO_CHANGE
    assert found.notes == ("Not in the first report: net online T4.",)
    (note, *_) = snnprof.compare(replace(elsewhere, environment=dict(HERE)), merged).notes[1:]
    assert note.endswith("differ: device CPU, one, then CPU, two.")


def test_a_figure_that_one_report_has_is_there() -> None:
    base = report(row(parameters=10), row(mode="online"))
    new = report(row(neuron_ops=5, accuracy=None), row(mode="online"))
    found = snnprof.compare(base, new)
    first = [(e.figure, e.base, e.new, e.ratio, e.verdict) for e in found.figures[:3]]
    assert first == [
        ("accuracy", 0.5, None, None, ONLY_FIRST),
        ("parameters", 10, None, None, ONLY_FIRST),
        ("NOPs", None, 5, None, ONLY_SECOND),
    ]
    shown = view(found).rows[0]
    assert shown == ("net stbp T4", "accuracy", "50.00 %", "", "", "", ONLY_FIRST)
    with pytest.raises(SnnprofError, match="net stbp T4: accuracy: only in the first: measure it"):
        found.beyond("accuracy<-1%")
    with pytest.raises(
        SnnprofError, match="'nops' was not compared; compared were: accuracy, para"
    ):
        found.beyond("nops>5%")


def test_rows_of_one_key_are_paired_by_what_they_have_in_common() -> None:
    base = report(row(epochs=3, accuracy=0.3), row(epochs=5, accuracy=0.5))
    new = report(row(epochs=5, accuracy=0.6))
    found = snnprof.compare(base, new)
    (figure,) = found.figures
    assert (figure.row, figure.base, figure.new) == ("net stbp T4 (epochs 5)", 0.5, 0.6)
    assert found.notes == ("Not in the second report: net stbp T4 (epochs 3).",)


def test_data_are_part_of_what_a_row_is() -> None:
    base = report(row(data="a", accuracy=0.3), row(data="b", accuracy=0.5))
    found = snnprof.compare(base, report(*base.rows[::-1]))
    assert {each.verdict for each in found.figures} == {NO_CHANGE}
    assert [each.row for each in found.figures] == ["net stbp T4 (a)", "net stbp T4 (b)"]
    with pytest.raises(SnnprofError, match="no row is in both"):
        snnprof.compare(report(row(data="a")), report(row(data="b")))


def test_nan_is_no_figure() -> None:
    found = snnprof.compare(report(row(accuracy=math.nan)), report(row()))
    (each,) = found.figures
    assert (each.verdict, each.ratio) == (NO_NUMBER, None)
    with pytest.raises(SnnprofError, match="net stbp T4: accuracy: no number: measure it in both"):
        found.beyond("accuracy<-1%")


def test_a_base_below_zero() -> None:
    # From -1.00 to -1.01: 1 % of 1.00 lower
    found = snnprof.compare(report(row(more={"x": -1.0})), report(row(more={"x": -1.01})))
    each = found.figures[1]
    assert each.verdict == LOWER
    assert each.ratio == pytest.approx(1.01)
    assert each.change == pytest.approx(-0.01)
    assert found.beyond("x<-5%") == ()
    assert found.beyond("x<-0.5%") == (each,)
    assert found.beyond("x>0%") == ()
    back = snnprof.compare(report(row(more={"x": -1.0})), report(row(more={"x": 0.5})))
    assert back.figures[1].change == pytest.approx(1.5)
    assert len(back.beyond("x>+149%")) == 1


def test_a_few_steps_say_nothing_of_a_change() -> None:
    def of(*seconds: float) -> Report:
        return report(row(profile=profile(*seconds)))

    found = snnprof.compare(of(1.0), of(1.001))
    assert verdicts(found)["step time"] == TOO_FEW
    with pytest.raises(SnnprofError, match=r"step time: too few steps to tell.*four steps or more"):
        found.beyond("step time>+20%")
    assert verdicts(snnprof.compare(of(1.0, 1.2), of(1.1)))["step time"] == NO_CHANGE
    assert verdicts(snnprof.compare(of(*[1.0] * 4), of(*[2.0] * 3)))["step time"] == TOO_FEW
    assert verdicts(snnprof.compare(of(*[1.0] * 4), of(*[2.0] * 4)))["step time"] == HIGHER


def test_a_limit_takes_a_column_of_ones_own_by_its_whole_name() -> None:
    def of(synops: int, saved: float) -> Report:
        return report(row(energies=(snnprof.price(counts(synops)),), more={"energy saved": saved}))

    found = snnprof.compare(of(100, 1.0), of(104, 2.0))
    assert found.beyond("energy>+5%") == ()
    assert [each.figure for each in found.beyond("energy>+3%")] == ["energy operands"]
    assert [each.figure for each in found.beyond("Energy saved>+5%")] == ["energy saved"]


def test_a_convention_that_has_changed_is_said() -> None:
    priced = snnprof.price(counts(100))
    dearer = replace(priced, rows=(replace(priced.rows[0], energy_j=2 * priced.rows[0].energy_j),))
    said = "Energy operands is priced otherwise in the second report: other joules per event."
    base = report(row(energies=(priced,)))
    assert snnprof.compare(base, report(row(energies=(dearer,)))).notes == (said,)
    worded = replace(priced, description="another rule")
    assert snnprof.compare(base, report(row(energies=(worded,)))).notes == (said,)
    assert snnprof.compare(base, report(row(energies=(snnprof.price(counts(300)),)))).notes == ()


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
    found = snnprof.compare(base, new)
    assert {each.verdict for each in found.figures} == {NO_CHANGE}
    assert [each.row for each in found.figures] == ["net stbp T4 (seed 0)", "net stbp T4 (seed 1)"]


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


def test_no_limit_holds_where_rows_have_vanished() -> None:
    both = report(row(), row(mode="online"), row(mode="ottt"))
    found = snnprof.compare(both, report(row()))
    assert found.missing == ("net online T4", "net ottt T4")
    with pytest.raises(SnnprofError, match="does not have net online T4 and 1 more: run these"):
        found.beyond("accuracy<-1%")
    # More rows than before hide nothing.
    assert snnprof.compare(report(row()), both).beyond("accuracy<-1%") == ()


def test_both_values_stand_in_one_unit() -> None:
    found = snnprof.compare(report(row(counts=counts(3000))), report(row(counts=counts(500))))
    cells = {cells[1]: cells[2:4] for cells in view(found).rows}
    assert cells["SOPs"] == ("1.500 k", "0.2500 k")  # over 2 samples
    assert cells["accuracy"] == ("50.00 %", "50.00 %")

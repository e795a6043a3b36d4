"""Limits for a project's own tests: measured and above, measured and not, not measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

import snnprof
from snnprof import assert_energy_below, assert_peak_below, assert_sops_below, price
from snnprof.results import CountResult, LayerCount, Report, ReportRow, StepProfile


def layer(name: str, synops: int) -> LayerCount:
    return LayerCount(
        name, "linear", "BINARY", "REAL", "AC", False, 1, 0.5, synops, synops, 1.0, 9, 9, 1, 2
    )


# Per sample: 8 / 2 + 100 / 2 + 40 / 2 + 60 / 2 = 104
LAYERS = tuple(layer(n, s) for n, s in {"a": 8, "b": 100, "c": 40, "d": 60}.items())
COUNTS = CountResult(LAYERS, samples=2)
STEP = StepProfile("stbp", "cpu", 8, 4, (), (), (), (0.1,), 1000, None, 400, 600, 1, 1)
ROW = ReportRow(
    "net", mode="stbp", timesteps=4, counts=COUNTS, energies=(price(COUNTS),), profile=STEP
)
OTHER = replace(ROW, mode="online", counts=CountResult((layer("a", 10),), samples=2))


def raised(check: Any, *given: Any) -> str:
    with pytest.raises(AssertionError) as error:
        check(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_figure_at_its_limit_passes_and_above_it_does_not() -> None:
    for result in (COUNTS, ROW, Report((ROW, OTHER))):
        assert_sops_below(result, 104)
        raised(assert_sops_below, result, 103.9)
    # 104 ACs * 0.9 pJ = 93.6 pJ
    for result in (price(COUNTS), ROW, Report((ROW, OTHER))):
        assert_energy_below(result, 93.7e-12)
        raised(assert_energy_below, result, 93.5e-12)
    for result in (STEP, ROW, Report((ROW, OTHER))):
        assert_peak_below(result, 1000)
        raised(assert_peak_below, result, 999)


def test_one_line_says_where_and_what_is_largest() -> None:
    assert raised(assert_sops_below, COUNTS, 50) == (
        "SOPs per sample: 104 is above 50; largest: b 50, d 30, c 20"
    )
    assert raised(assert_energy_below, ROW, 1e-12) == (
        "net stbp T4: energy per sample (J, operands): 9.36e-11 is above 1e-12; largest: "
        "b 4.5e-11, d 2.7e-11, c 1.8e-11"
    )
    assert raised(assert_peak_below, ROW, 10) == (
        "net stbp T4: peak memory (bytes): 1000 is above 10; largest: activation 600, static 400"
    )
    both = raised(assert_sops_below, Report((OTHER, ROW)), 4)
    assert both.startswith("net online T4: SOPs per sample: 5 is above 4; largest: a 5; net stbp")


def test_a_step_whose_parts_are_not_known() -> None:
    outside = replace(STEP, mode=None, static_bytes=None, activation_bytes=None)
    assert raised(assert_peak_below, outside, 10) == "peak memory (bytes): 1000 is above 10"


def test_every_row_and_every_convention_is_looked_at() -> None:
    assert "net stbp" in raised(assert_sops_below, Report((OTHER, ROW)), 50)
    dear = replace(ROW, energies=(price(COUNTS), price(COUNTS, "spikformer")))
    # spikformer: rate SOPs, 1 each: 4 / 2 samples * 0.9 pJ = 1.8 pJ
    assert_energy_below(replace(ROW, energies=dear.energies[1:]), 2e-12)
    assert "operands" in raised(assert_energy_below, dear, 2e-12)


@pytest.mark.parametrize(
    ("check", "result"),
    [
        (assert_sops_below, CountResult((), samples=2)),
        (assert_sops_below, replace(COUNTS, samples=0)),
        (assert_sops_below, replace(ROW, counts=None)),
        (assert_sops_below, Report((ROW, replace(ROW, counts=None)))),
        (assert_energy_below, replace(ROW, energies=())),
        (assert_energy_below, price(COUNTS, "hd-lif")),  # bills convolutions, and there are none
        (assert_peak_below, replace(ROW, profile=None)),
        (assert_peak_below, replace(STEP, peak_bytes=0)),
        (assert_sops_below, Report(())),
    ],
)
def test_what_was_not_measured_never_passes(check: Any, result: Any) -> None:
    with pytest.raises(snnprof.SnnprofError, match="nothing to compare"):
        check(result, math.inf)


@pytest.mark.parametrize("check", [assert_sops_below, assert_energy_below, assert_peak_below])
@pytest.mark.parametrize("limit", [math.nan, -1, -1e-9, "3", None, True])
def test_a_limit_that_is_none_is_refused(check: Any, limit: Any) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"below: limit .*: must be a number, 0 or more"):
        check(ROW, limit)


def test_a_result_without_the_figure_is_refused() -> None:
    with pytest.raises(
        snnprof.SnnprofError,
        match="assert_energy_below takes one of EnergyResult, ReportRow, Report, not a CountResult",
    ):
        assert_energy_below(COUNTS, 1)


def test_what_was_not_counted_is_said() -> None:
    partly = replace(COUNTS, not_counted=(("att", "matmul: not counted"),))
    with pytest.warns(RuntimeWarning, match="SOPs per sample is without what was not counted: att"):
        assert_sops_below(partly, 200)
    with pytest.warns(RuntimeWarning, match="att"):
        assert_energy_below(price(partly), 1)

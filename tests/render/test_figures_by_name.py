"""Results as dicts of numbers, under names that MLflow takes."""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import replace

import pytest

import snnprof
from snnprof.render.figures_by_name import metric_name
from snnprof.results import CountResult, InferenceProfile, Report


def assert_mlflow_takes(name: str) -> None:
    """MLflow's own rules: these characters, and a path that is its own normal form."""
    assert re.fullmatch(r"[/\w.\- ]+", name)
    assert posixpath.normpath(name) == name
    assert not name.startswith(("/", ".."))


def test_a_report_by_row(report: Report) -> None:
    flat, nested = report.to_dict(flat=True), report.to_dict()
    assert set(nested) == {"vgg5 lif fp32 stbp T2", "vgg5 lif fp32 online T2"}
    assert nested == report.to_dict(flat=False)
    stbp = nested["vgg5 lif fp32 stbp T2"]
    assert flat == {
        f"{row}/{name}": v for row, found in nested.items() for name, v in found.items()
    }
    (raw, _) = report.to_frame().to_dict("records")
    assert stbp == {
        name: value
        for name, value in raw.items()
        if isinstance(value, int | float) and not math.isnan(value)
    }
    assert stbp["synops"] == 250  # (400 + 100) / 2 samples
    assert stbp["step_median_s"] == 0.02 and stbp["peak_bytes"] == 2**21
    assert "reserved_bytes" not in stbp and "mode" not in stbp
    for name in flat:
        assert_mlflow_takes(name)


def test_counts_by_layer(counts: CountResult) -> None:
    flat = counts.to_dict(flat=True)
    assert (flat["synops"], flat["firing_rate"], flat["input_density"]) == (250, 0.3, 0.25)
    assert flat["neuron/lif/firing_rate"] == 0.3
    assert (flat["layer/stem/synops"], flat["layer/fc_1/synops"]) == (200, 50)
    assert flat["layer/fc_1/input_density"] == 0.25
    assert "layer/stem/unrolled_synops" not in flat  # None
    assert "layer/stem/stem" not in flat  # True
    assert counts.to_dict()["layer"]["fc_1"]["synops"] == 50


def test_energy_and_steps(report: Report) -> None:
    energy, step = report.rows[0].energies[0], report.rows[0].profile
    flat = energy.to_dict(flat=True)
    # Per sample: 200 MACs * 4.6 pJ + 50 ACs * 0.9 pJ
    assert flat["energy_operands_j"] == pytest.approx(965e-12, rel=1e-12, abs=0)
    assert flat["layer/fc_1/energy_operands_j"] == pytest.approx(45e-12, rel=1e-12, abs=0)
    found = step.to_dict(flat=True)
    assert (found["step_median_s"], found["peak_bytes"], found["batch_size"]) == (0.02, 2**21, 8)
    assert "device" not in found and "reserved_bytes" not in found
    inference = InferenceProfile("cpu", 8, (0.02, 0.01, 0.03), 2**20).to_dict(flat=True)
    assert (inference["latency_median_s"], inference["samples_per_s"]) == (0.02, 400)


def test_names_of_every_kind_are_taken_and_none_is_written_over() -> None:
    names = ("a:b", "a+b", "a/b", "a b", "..", ".", "..x", "...", ".x", "ü", "a-b")
    rows = [snnprof.row(name, accuracy=0.5, **{"x:y": 1, "x/y": 2}) for name in names]
    flat = snnprof.report(rows).to_dict(flat=True)
    assert len([name for name in flat if name.endswith("accuracy")]) == len(names)
    # Each of the first three, and the last, is "a-b" to MLflow.
    assert {"a-b/accuracy", "a-b 2/accuracy", "a-b 3/accuracy", "a-b 4/accuracy"} <= flat.keys()
    assert (flat["a-b/x-y"], flat["a-b/x-y 2"]) == (1, 2)
    for name in flat:
        assert_mlflow_takes(name)
    assert metric_name("conv1#2") == "conv1-2"


def test_what_is_no_number_is_left_out(report: Report) -> None:
    row = replace(report.rows[0], more={"word": "a", "nan": math.nan, "one": 1}, accuracy=None)
    found = replace(report, rows=(row,)).to_dict()[row.name]
    assert found["one"] == 1
    assert not {"word", "nan", "accuracy"} & found.keys()
    twice = replace(report, rows=(row, row)).to_dict()
    assert list(twice) == [row.name, f"{row.name} 2"]

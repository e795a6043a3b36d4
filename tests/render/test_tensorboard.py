"""Scalars as TensorBoard reads them."""

import dataclasses
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from snnprof.core.errors import SnnprofError
from snnprof.render.tensorboard import run_name, write_scalars
from snnprof.results import Report, ReportRow
from snnprof.results.training import EpochRecord, TrainingHistory
from tests.support.tensorboard import get, tensorboard

Points = list[tuple[int, float]]


def read(folder: Path) -> dict[str, Points]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    found: dict[str, Points] = {}
    for tag in accumulator.Tags()["tensors"]:
        metadata = accumulator.SummaryMetadata(tag)
        assert metadata.plugin_data.plugin_name == "scalars"
        found[tag] = [
            (event.step, tensor_util.make_ndarray(event.tensor_proto).item())
            for event in accumulator.Tensors(tag)
        ]
    return found


def test_values_come_back_in_seven_digits_and_missing_ones_stay_away(tmp_path: Path) -> None:
    write_scalars({"SOPs": 2**24 + 1, "energy": 1.1e-3, "peak": None}, tmp_path, step=4)
    # Of float32 the 24-bit mantissa: 2^24 + 1 lies between two and goes to the even one.
    assert read(tmp_path) == {"SOPs": [(4, 2**24)], "energy": [(4, float(np.float32(1.1e-3)))]}


def test_tensorboards_own_loader_shows_them(tmp_path: Path, report: Report) -> None:
    folder = tmp_path / "runs"
    write_scalars(report, folder)
    with tensorboard(folder) as address:  # its default loader, which drops doubles
        plugin = f"{address}/data/plugin/scalars"
        end = time.monotonic() + 30
        while len(tags := get(f"{plugin}/tags")) < 2 and time.monotonic() < end:
            time.sleep(0.2)
        assert set(tags) == {"vgg5 lif fp32 stbp", "vgg5 lif fp32 online"}
        assert "cost/SOPs per sample" in tags["vgg5 lif fp32 stbp"]
        asked = urlencode({"run": "vgg5 lif fp32 stbp", "tag": "cost/SOPs per sample"})
        ((_, step, value),) = get(f"{plugin}/scalars?{asked}")
        assert (step, value) == (2, 250.0)  # (400 + 100) / 2 samples, at T=2


def test_a_report_is_a_run_per_mode(tmp_path: Path, report: Report) -> None:
    write_scalars(report, tmp_path / "new")
    assert {f.name for f in (tmp_path / "new").iterdir()} == {
        "vgg5 lif fp32 stbp", "vgg5 lif fp32 online",
    }  # fmt: skip
    stbp = read(tmp_path / "new" / "vgg5 lif fp32 stbp")
    assert stbp == {
        "cost/SOPs per sample": [(2, 250.0)],  # (400 + 100) / 2 samples, at T=2
        # Per sample: 200 MACs of the stem * 4.6 pJ + 50 ACs * 0.9 pJ
        "energy/operands, J per sample": [(2, pytest.approx(965e-12, rel=1e-7, abs=0))],
        # No energy of hd-lif: it bills neither a stem nor a linear layer.
        "cost/neuron operations per sample": [(2, 60.0)],
        "cost/firing rate": [(2, pytest.approx(0.3, rel=1e-7))],
        "training/step time, s (median)": [(2, pytest.approx(0.02, rel=1e-7))],
        "training/peak memory, bytes": [(2, 2.0**21)],
        "training/accuracy": [(2, 0.5)],
        "training/loss": [(2, 0.125)],
    }


def test_every_seed_is_a_run_with_one_value_at_a_step(tmp_path: Path) -> None:
    rows = [
        ReportRow("vgg5", mode=mode, timesteps=2, seed=seed, data=data, accuracy=share)
        for mode, seed, data, share in (
            ("stbp", 0, "digits", 0.5),
            ("stbp", 1, "digits", 0.25),
            ("online", 0, "digits", 0.125),
            ("online", 0, "a/b", 0.75),
        )
    ]
    write_scalars(Report(tuple(rows)), tmp_path)
    found = {folder.name: read(folder)["training/accuracy"] for folder in tmp_path.iterdir()}
    assert found == {
        "vgg5 stbp seed 0": [(2, 0.5)],
        "vgg5 stbp seed 1": [(2, 0.25)],
        "vgg5 online data digits": [(2, 0.125)],
        "vgg5 online data a-b": [(2, 0.75)],
    }


def test_a_training_is_a_run_over_its_epochs(tmp_path: Path) -> None:
    first = EpochRecord(1, 0.1, 2.0, 0.25, None, 2.0**25 + 1, 100.0, 0.5)
    history = TrainingHistory((first, dataclasses.replace(first, epoch=2, test_accuracy=0.5)))
    write_scalars(history, tmp_path)
    found = read(tmp_path)
    assert found["test/accuracy"] == [(1, 0.25), (2, 0.5)]
    # float32 holds 24 bits: the page shows 2^25 for 2^25 + 1, the CSV has the number
    assert found["cost/SOPs per sample"] == [(1, 2.0**25), (2, 2.0**25)]
    assert "cost/firing rate" not in found


def test_a_sweep_over_timesteps_is_a_curve(tmp_path: Path, report: Report) -> None:
    first = report.rows[0]
    assert first.profile is not None
    profile = dataclasses.replace(first.profile, peak_bytes=2**22, step_s=())
    longer = dataclasses.replace(first, timesteps=8, profile=profile, loss=None)
    write_scalars(dataclasses.replace(report, rows=(longer, first)), tmp_path)
    found = read(tmp_path / run_name(first))
    assert found["training/peak memory, bytes"] == [(2, 2.0**21), (8, 2.0**22)]
    assert found["training/step time, s (median)"] == [(2, float(np.float32(0.02)))]
    assert found["training/loss"] == [(2, 0.125)]


def test_written_again_they_are_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    other = tmp_path / "events.out.tfevents.1.host"
    other.write_bytes(b"")
    write_scalars({"x": 1.0}, tmp_path)
    write_scalars({"x": 2.0}, tmp_path)
    other.unlink()  # was left alone
    assert read(tmp_path) == {"x": [(0, 2.0)]}
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("events.out.tfevents.") and file.name.endswith(".snnprof")


def test_a_folder_that_cannot_be_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SnnprofError, match="No such file or directory"):
        write_scalars({"x": 1.0}, tmp_path / "no" / "such")
    (tmp_path / "file").write_text("")
    with pytest.raises(SnnprofError, match="scalars folder"):
        write_scalars({"x": 1.0}, tmp_path / "file")
    with pytest.raises(SnnprofError, match=r"scalars folder.*null"):
        write_scalars({"x": 1.0}, tmp_path / "a\0b")

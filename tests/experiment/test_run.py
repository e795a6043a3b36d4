"""Runs over several T, in every mode, with what else a run can measure."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

import snnprof
from snnprof.energy.measured_joules import Measurement
from snnprof.experiment import data_sets
from snnprof.experiment.run import run
from snnprof.experiment.trainer import evaluate
from snnprof.profiling.batch_size import largest_batch
from snnprof.profiling.step_memory import OutOfMemory
from snnprof.results import MeasuredEnergy, StepProfile
from snnprof.training.modes import mode_names
from snnprof.training.stepped_model import SteppedModel

from ..support.commands import call, refused

FAST = ["--epochs=0", "--repeats=2", "--batch-size=8"]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_a_sweep_is_one_table_a_picture_and_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    outputs = [f"-o{tmp_path / name}" for name in ("t.csv", "t.svg", "t.json")]
    result = call("run", "--timesteps=1,2,4,8", *FAST, *outputs)
    assert result.exit_code == 0, result.output
    table = rows(tmp_path / "t.csv")
    assert [(row["timesteps"], row["mode"]) for row in table] == [
        (t, mode) for t in "1248" for mode in ("stbp", "online")
    ]
    peak = {(row["timesteps"], row["mode"]): int(row["peak_bytes"]) for row in table}
    # the same work, but for the scalar in which online sums its losses
    assert abs(peak["1", "stbp"] - peak["1", "online"]) <= 64
    assert peak["8", "online"] <= 1.02 * peak["2", "online"]
    assert "online: flat, 1.00x from T=2 to T=8" in result.stdout
    assert "MiB per step" in result.stdout
    for row in table:
        assert float(row["step_median_s"]) > 0
        passes = row["timesteps"] if row["mode"] == "online" else "1"
        assert (row["backward_passes"], row["optimizer_steps"]) == (passes, "1")
    report = snnprof.load(tmp_path / "t.json")
    assert isinstance(report, snnprof.Report)
    (line,) = (g for g in report.growth if (g.mode, g.quantity) == ("stbp", "peak_bytes"))
    assert line.timesteps == (2, 4, 8)
    # by hand, from the table: the slope of a straight line through three points
    ts, ys = (2, 4, 8), [peak[str(t), "stbp"] for t in (2, 4, 8)]
    mean_t, mean_y = sum(ts) / 3, sum(ys) / 3
    products = sum((t - mean_t) * (y - mean_y) for t, y in zip(ts, ys, strict=True))
    slope = products / sum((t - mean_t) ** 2 for t in ts)
    assert line.slope == pytest.approx(slope)
    assert line.r_squared is not None
    assert line.r_squared > 0.99
    assert all(row.profile and len(row.step_s) == 2 for row in report.rows)


def test_every_mode_trains_from_the_command_line(tmp_path: Path) -> None:
    names = [name.replace("K", "2") for name in mode_names()]
    modes = [f"--mode={name}" for name in names]
    result = call("run", *modes, "--timesteps=2", *FAST, f"-o{tmp_path / 't.csv'}")
    assert result.exit_code == 0, result.output
    assert [row["mode"] for row in rows(tmp_path / "t.csv")] == names


def test_isolated_rows_are_the_same_rows(tmp_path: Path) -> None:
    arguments = ["run", "--timesteps=2", "--mode=stbp", "--mode=online", *FAST]
    together = call(*arguments, f"-o{tmp_path / 'a.csv'}")
    apart = call(*arguments, "--isolate", f"-o{tmp_path / 'b.csv'}")
    assert (together.exit_code, apart.exit_code) == (0, 0), apart.output
    assert "in a process of its own" in apart.stdout
    for a, b in zip(rows(tmp_path / "a.csv"), rows(tmp_path / "b.csv"), strict=True):
        for column in ("mode", "synops", "peak_bytes", "static_bytes", "neuron_ops"):
            assert a[column] == b[column]


@pytest.mark.parametrize("repeats", [None, 2])
def test_out_of_memory_is_a_row_and_the_others_go_on(
    repeats: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LIF layers refuse T = 4, as an allocator would; T = 2 is well."""
    whole = snnprof.spiking.lif.LIF.run

    def refuse(self: nn.Module, currents: torch.Tensor, membrane: object) -> object:
        if self.timesteps == 4 and torch.is_grad_enabled():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
        return whole(self, currents, membrane)  # type: ignore[arg-type]

    monkeypatch.setattr(snnprof.spiking.lif.LIF, "run", refuse)
    report = run(
        modes="stbp", timesteps=(4, 2), epochs=1, repeats=repeats, batch_size=512, device="cpu"
    )
    failed, well = report.rows
    assert failed.failure == "out of memory"
    assert failed.profile is None
    assert well.failure is None
    assert (well.accuracy is not None) and (well.profile is None) == (repeats is None)
    report.save(tmp_path / "t.md")
    assert "out of memory" in (tmp_path / "t.md").read_text()
    assert snnprof.load(saved(report, tmp_path)) == report


def saved(report: snnprof.Report, folder: Path) -> Path:
    report.save(folder / "t.json")
    return folder / "t.json"


def test_precision_and_layout_are_said(tmp_path: Path) -> None:
    result = call(
        "run", "--mode=online", "--timesteps=2", "--amp=bf16", "--channels-last", *FAST,
        f"-o{tmp_path / 't.csv'}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Training steps: amp bf16, channels last." in result.stdout
    (row,) = rows(tmp_path / "t.csv")
    assert row["execution"] == "amp bf16, channels last"


def test_joules_without_a_counter_are_an_empty_cell_and_a_reason(tmp_path: Path) -> None:
    result = call(
        "run",
        "--mode=stbp",
        "--timesteps=1",
        "--measure-energy=1",
        *FAST,
        f"-o{tmp_path / 't.csv'}",
    )
    assert result.exit_code == 0, result.output
    assert "Measured energy: not measured: " in result.stdout
    assert rows(tmp_path / "t.csv")[0]["measured_j"] == ""
    for seconds in ("0.5", "inf"):
        message = refused("run", f"--measure-energy={seconds}", *FAST)
        assert f"measure_energy={seconds}: must be" in message


def test_measured_joules_are_per_sample_and_apart_from_the_analytic(tmp_path: Path) -> None:
    report = run(modes="stbp", timesteps=1, epochs=0, repeats=1, batch_size=8, device="cpu")
    (row,) = report.rows
    measured = MeasuredEnergy(1.6, 2.0, 0.1, 50.0, 10, 1.0, 1.0, "a board", "GPU-1")
    replace(report, rows=(replace(row, measured=measured),)).save(tmp_path / "t.md")
    header, row = (tmp_path / "t.md").read_text().splitlines()[2:5:2]
    cells = dict(
        zip(*([c.strip() for c in line.split("|")] for line in (header, row)), strict=True)
    )
    assert cells["measured energy, training (mJ)"] == "200.0"  # 1.6 J / 8 samples


def test_joules_are_of_the_samples_that_there_are() -> None:
    report = run(modes="stbp", timesteps=1, epochs=0, repeats=1, batch_size=2000, device="cpu")
    assert report.rows[0].batch_size == 1437
    assert any("training step of batch 1437" in note for note in report.notes)


def test_joules_are_measured_after_the_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps that are measured train on: counts must not see it, nor need a profile."""
    measured = MeasuredEnergy(1.6, 2.0, 0.1, 50.0, 10, 1.0, 1.0, "a board", "GPU-1")

    def measure(steps: dict[str, Callable[[], object]], *_: object, **__: object) -> object:
        for step in steps.values():
            step(), step()
        return dict.fromkeys(steps, Measurement(measured, None))

    plain = run(modes="stbp", timesteps=1, epochs=0, batch_size=64, device="cpu")
    monkeypatch.setattr("snnprof.experiment.stages.measure_energies", measure)
    report = run(modes="stbp", timesteps=1, epochs=0, batch_size=64, device="cpu", measure_energy=1)
    assert report.rows[0].counts == plain.rows[0].counts
    assert report.rows[0].measured == measured
    assert report.to_frame()["measured_j"].tolist() == [1.6 / 64]


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("evaluate", {"failure": "out of memory while counting"}),
        ("trace_steps", {"note": "No trace of vgg5 lif fp32 stbp T2: out of memory."}),
        ("measure_energies", {"not_measured": "not measured: out of memory"}),
    ],
)
def test_memory_that_runs_out_later_stops_no_run(
    phase: str, said: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise torch.OutOfMemoryError("as an allocator would")

    def fail_first(stepped: SteppedModel, found: object, timesteps: int, *rest: Any) -> object:
        return fail() if timesteps == 2 else evaluate(stepped, found, timesteps, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(
        f"snnprof.experiment.stages.{phase}", fail_first if phase == "evaluate" else fail
    )
    report = run(
        modes="stbp", timesteps=(2, 1), epochs=0, repeats=1, batch_size=8, device="cpu",
        measure_energy=1, trace=tmp_path / "traces",
    )  # fmt: skip
    assert all(row.profile is not None for row in report.rows)
    first, second = report.rows
    assert second.counts is not None
    assert first.failure == said.get("failure")
    assert ("note" in said) == any("No trace" in note for note in report.notes)
    assert said.get("note", report.notes[0]) in report.notes
    no_counter = "not measured: only NVIDIA GPUs have an energy counter, not device 'cpu'"
    expected = None if phase == "evaluate" else said.get("not_measured", no_counter)
    assert phase == "evaluate" or first.not_measured == expected


def test_a_profile_of_a_part_of_the_data_counts_that_part_only() -> None:
    data = data_sets.load("digits")
    images, labels = data.train_images[:8], data.train_labels[:8]

    def peak(batch: tuple[torch.Tensor, torch.Tensor]) -> int:
        def build() -> nn.Module:
            return snnprof.models.create("vgg5", timesteps=2, in_channels=1, image_size=8)

        return snnprof.profile_step(build, batch, repeats=1, warmup=0, device="cpu").peak_bytes

    assert peak((images, labels)) == peak((images.clone(), labels.clone()))


def test_ratios_are_to_the_first_row_of_the_same_t(tmp_path: Path) -> None:
    report = run(timesteps=(1, 4), epochs=0, repeats=1, batch_size=8, device="cpu")
    table = report.to_frame()
    assert table["peak_ratio"].tolist()[::2] == [1, 1]
    stbp, online = report.rows[2:]
    assert stbp.peak_bytes is not None
    assert online.peak_bytes is not None
    assert table["peak_ratio"][3] == online.peak_bytes / stbp.peak_bytes


def test_each_ratio_is_to_the_first_row_that_has_the_figure() -> None:
    report = run(timesteps=2, epochs=0, repeats=1, batch_size=8, device="cpu")
    first, second = report.rows
    assert first.profile is not None
    untimed = replace(first, profile=replace(first.profile, step_s=()), failure="out of memory")
    table = replace(report, rows=(untimed, second)).to_frame()
    assert table["peak_ratio"].tolist() == [1, second.peak_bytes / first.peak_bytes]  # type: ignore[operator]
    assert table["step_ratio"].tolist()[1] == 1


def test_an_isolated_row_that_runs_out_of_memory_is_a_row(tmp_path: Path) -> None:
    arguments = ["run", "--isolate", "--mode=stbp", *FAST]
    result = call(*arguments, "--timesteps=1,1000000000", f"-o{tmp_path / 't.csv'}")
    assert result.exit_code == 1, result.output  # there is a table, and a row of it failed
    short, long = rows(tmp_path / "t.csv")
    assert (short["failure"], short["timesteps"]) == ("", "1")
    assert "out of memory" in long["failure"]
    assert "out of memory" in refused(*arguments, "--timesteps=1000000000")


def test_a_loss_that_is_not_finite_names_step_and_mode() -> None:
    message = refused("run", "--mode=stbp", "--epochs=1", "--learning-rate=1e30", "--timesteps=1")
    assert "vgg5 lif fp32 stbp T1: diverged: " in message
    assert "step" in message


def test_a_loss_that_is_no_scalar_is_one_sentence() -> None:
    def build() -> nn.Module:
        return snnprof.models.create("vgg5", timesteps=1, in_channels=1, image_size=8)

    batch = torch.randn(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(snnprof.SnnprofError, match=r"it returned \(3, 10\), a scalar"):
        snnprof.profile_step(build, batch, loss=lambda logits, _: logits, device="cpu")


def test_traces_come_after_all_else(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    arguments = ["run", "--mode=online", "--timesteps=2", *FAST, f"--trace={folder}"]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert f"tensorboard --logdir {folder}" in result.stdout
    run_folder = folder / "vgg5 lif fp32 online T2"
    assert (run_folder / "operators.md").exists()
    (trace,) = run_folder.glob("*.pt.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    counters = {event["name"] for event in events if event["ph"] == "C"}
    assert counters == {"SOPs per sample", "firing rate (%)"}
    assert list((folder / "vgg5 lif fp32 online").glob("events.out.tfevents.*"))
    (tmp_path / "taken").write_text("")
    assert "taken" in refused(*arguments[:-1], f"--trace={tmp_path / 'taken'}")


def test_the_largest_batch_by_hand() -> None:
    # 100 + 10 B bytes each, 60 of them static: two arms keep 120, and one runs 40 + 10 B
    def measure(size: int) -> list[StepProfile | OutOfMemory]:
        peak = 100 + 10 * size
        return [
            StepProfile("stbp", "cpu", size, 1, (), (), (), (), peak, None, 60, peak - 60, 1, 1)
        ] * 2

    # 160 + 10 B <= 1000: B = 84
    assert largest_batch(measure, 1000, most=500) == 84
    assert largest_batch(measure, 1000, most=50) == 50
    with pytest.raises(snnprof.SnnprofError, match="not even 4 samples"):
        largest_batch(measure, 190, most=50)

    def bursts(size: int) -> list[StepProfile | OutOfMemory]:
        return [OutOfMemory()] if size > 40 else measure(size)

    assert 30 < largest_batch(bursts, 1000, most=500) <= 40


def test_an_automatic_batch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnprof.experiment.stages.free_bytes", lambda device: 40 * 2**20)
    result = call(
        "run", "--mode=stbp", "--timesteps=2", "--epochs=0", "--repeats=1", "--batch-size=auto"
    )
    assert result.exit_code == 0, result.output
    assert "the most that fit, in 80% of the free memory, 0.03 GiB" in result.stdout
    assert "must be a whole number, or auto" in refused("run", "--batch-size=many")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=sltt-5", "--timesteps=8,4"], "K = 5 is more than the T = 4"),
        (["--mode=sltt-k"], "whole number from 1 to T"),
        (["--timesteps=4,0"], "timesteps=0: must be at least 1"),
        (["--timesteps="], "not a valid integer"),
        (["--repeats=0"], "repeats=0: must be at least 1"),
        (["--amp=fp8"], "unknown amp 'fp8'; known: bf16, fp16"),
        (["--trace=/nowhere/x"], "/nowhere"),
        (["--seed=0,1,0"], "seed 0 is given twice: leave one of them out"),
        (["--seed=3", "--seed=3"], "seed 3 is given twice"),
        (["--model=vgg5", "--model=vgg5"], "model 'vgg5' is given twice"),
        (["--weights=1bit", "--weights=1bit"], "weights '1bit' is given twice"),
        (["--neuron=lif", "--neuron=lif"], "neuron 'lif' is given twice"),
        (["--mode=stbp", "--mode=stbp"], "mode 'stbp' is given twice"),
        (["--timesteps=2,2"], "timesteps 2 is given twice"),
        (["--energy=operands", "--energy=operands"], "energy 'operands' is given twice"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    assert message in refused("run", *arguments)


def test_a_mode_of_your_own_runs() -> None:
    from snnprof.training.batch_run import BatchRun
    from snnprof.training.modes import MODES

    @MODES.register("mine")
    def mine(batch: BatchRun) -> torch.Tensor:
        """Only the last time step learns."""
        batch.begin()
        for x in batch.sequence[:-1]:
            batch.forward_silent(x)
        batch.detach()
        loss = batch.loss(batch.forward(batch.sequence[-1]))
        batch.backward(loss)
        batch.update()
        return loss.detach()

    try:
        report = run(modes="mine", timesteps=2, epochs=0, repeats=1, batch_size=8, device="cpu")
    finally:
        del MODES["mine"]
    assert report.rows[0].profile is not None
    assert report.rows[0].profile.backward_passes == 1


BUILDERS = """
import torch
from torch import nn
import snnprof
from snnprof.models import create

def fixed():
    return create("vgg5", timesteps=2, in_channels=1, image_size=8)
def raises(timesteps):
    raise RuntimeError("no luck")
def needs(width):
    return nn.Linear(width, 1)
class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
    def forward(self, x):
        return self.fc(x.flatten(-3))
class Wrong(Flat):
    def forward(self, x):
        return super().forward(x).mean()
def plain():
    return Flat()
def wrong():
    return Wrong()
def silent():
    return nn.Flatten(2)
class Own(nn.Module):  # one time step per call, state of its own
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.m = None
    def forward(self, x):
        current = self.fc(x.flatten(1))
        self.m = current if self.m is None else 0.5 * self.m + current
        return self.m
def forgetful():
    return Own()
def own():
    model = Own()
    def reset():
        model.m = None
    def detach():
        model.m = None if model.m is None else model.m.detach()
    return snnprof.stepwise(model, reset=reset, detach=detach)
"""


@pytest.fixture
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_builders.py").write_text(BUILDERS)
    return "--model=some_builders:"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fixed", [], "is made for 2 time steps, and 4 were asked for"),
        ("fixed", ["--weights=1.5bit"], "has no parameter 'weights'"),
        ("fixed", ["--neuron=hdlif"], "has no parameter 'neuron'"),
        ("fixed", ["--variant=wings"], "has no parameter 'wings'"),
        ("raises", [], "some_builders.py:10: RuntimeError: no luck"),
        ("needs", [], "its builder failed: TypeError"),
        ("wrong", [], "no layout fits for samples [T, B, 1, 8, 8], T = 4"),
        ("forgetful", ["--mode=online"], "does not return to rest"),
        ("silent", [], "no parameters: nothing to train"),
    ],
)
def test_a_builder_that_does_not_fit_is_one_line(
    builders: str, name: str, arguments: list[str], message: str
) -> None:
    assert message in refused("run", builders + name, "--epochs=1", *arguments)


@pytest.mark.parametrize("name", ["plain", "own"])
def test_anybodys_model_trains_and_is_counted(builders: str, name: str, tmp_path: Path) -> None:
    result = call("run", builders + name, "--epochs=1", "--timesteps=2", f"-o{tmp_path / 't.csv'}")
    assert result.exit_code == 0, result.output
    for row in rows(tmp_path / "t.csv"):
        assert row["neuron"] == row["weights"] == row["neuron_ops"] == ""
        assert float(row["accuracy"]) > 0.5
        assert float(row["parameters"]) == 650
        # 64 * 10 synapses per active pixel, twice; the digits' pixels are never exactly 0
        assert float(row["synops"]) == 2 * 640


def test_variants_are_part_of_the_names() -> None:
    report = run(
        "sew_resnet18", neuron="lif", connect="iand", leak=0.9, epochs=0, modes="stbp",
        timesteps=1, device="cpu",
    )  # fmt: skip
    (row,) = report.rows
    assert (row.model, row.neuron) == ("sew_resnet18+connect=iand", "lif+leak=0.9")

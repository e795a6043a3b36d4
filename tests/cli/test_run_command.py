"""The command as its users meet it: what it prints, what it writes, how it refuses."""

import csv
import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import snnprof
from snnprof.experiment import data_sets
from snnprof.experiment.data_sets import Dataset

from ..support.commands import call, refused


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short run of both modes, written in every format."""
    folder = tmp_path_factory.mktemp("run")
    outputs = [f"-o{folder / f'table.{suffix}'}" for suffix in ("md", "csv", "tex", "json")]
    energies = ["--energy=operands", "--energy=spikformer", "--energy=hd-lif"]
    result = call("run", "--epochs=3", "--timesteps=2", *energies, *outputs)
    assert result.exit_code == 0, result.output
    (folder / "printed").write_text(result.stdout)
    return folder


def test_a_run_trains_in_both_modes(trained: Path) -> None:
    rows = list(csv.DictReader((trained / "table.csv").open()))
    assert [row["mode"] for row in rows] == ["stbp", "online"]
    for row in rows:
        assert float(row["accuracy"]) > 0.9
        assert 0 < float(row["firing_rate"]) < 1
        assert float(row["synops"]) > 1e5
        assert float(row["step_q1_s"]) <= float(row["step_median_s"]) <= float(row["step_q3_s"])
        assert float(row["neuron_ops"]) == (64 * 64 + 2 * 128 * 16 + 128) * 2 * 3
        assert int(row["parameters"]) == 289_482
        assert row["device"].startswith("CPU")
    assert float(rows[0]["peak_ratio"]) == float(rows[0]["step_ratio"]) == 1
    assert float(rows[1]["peak_ratio"]) < 0.9


def test_energies_follow_from_the_raw_counts(trained: Path) -> None:
    report = snnprof.load(trained / "table.json")
    assert isinstance(report, snnprof.Report)
    for row in report.rows:
        rows, samples = row.counts.rows, row.counts.samples
        assert samples == 360
        assert row.counts.timesteps == 2
        stem, *spiking = rows
        assert stem.stem
        assert {row.input_kind for row in spiking} == {"BINARY"}
        operands, spikformer, hd_lif = (energy.total_j * samples for energy in row.energies)
        assert operands == pytest.approx(
            4.6e-12 * stem.synops + 0.9e-12 * sum(row.synops for row in spiking), rel=1e-9
        )
        assert spikformer == pytest.approx(
            4.6e-12 * stem.nominal_macs + 0.9e-12 * sum(row.rate_synops for row in spiking),
            rel=1e-9,
        )
        convolutions = [row for row in spiking if row.op == "conv2d"]
        assert hd_lif == pytest.approx(
            0.9e-12 * sum(r.synops for r in convolutions), rel=1e-9, abs=0
        )
        # 1 to 64 channels, 9 taps, 8x8 positions, 2 time steps, 360 samples
        assert stem.nominal_macs == 64 * 9 * 64 * 2 * 360


def test_the_printed_table_says_what_was_assumed(trained: Path) -> None:
    text = (trained / "printed").read_text()
    for phrase in ("Energy convention operands", "Leaves out", "Not counted", "torch:", "seed 0"):
        assert phrase in text


def test_the_same_seed_gives_the_same_counts(tmp_path: Path) -> None:
    runs = []
    for name in ("a.json", "b.json"):
        result = call("run", "--mode=online", "--epochs=1", "--timesteps=2", f"-o{tmp_path / name}")
        assert result.exit_code == 0, result.output
        runs.append(snnprof.load(tmp_path / name))
    a, b = (run.rows[0] for run in runs if isinstance(run, snnprof.Report))
    assert a.counts == b.counts
    assert (a.accuracy, a.loss, a.peak_bytes) == (b.accuracy, b.loss, b.peak_bytes)


def test_count_only_leaves_empty_what_was_not_measured(tmp_path: Path) -> None:
    result = call("run", "--epochs=0", "--data=random", f"-o{tmp_path / 't.csv'}")
    assert result.exit_code == 0, result.output
    assert "untrained" in result.stdout
    row = next(csv.DictReader((tmp_path / "t.csv").open()))
    assert row["accuracy"] == row["step_median_s"] == row["peak_bytes"] == row["step_ratio"] == ""
    assert float(row["synops"]) > 0


def test_several_neurons_with_variants_are_rows(tmp_path: Path) -> None:
    neurons = ["--neuron=lif+surrogate=arctan", "--neuron=hdlif+four_bit+parallel"]
    result = call(
        "run", *neurons, "--weights=1.5bit", "--mode=online", "--epochs=1", "--timesteps=2",
        f"-o{tmp_path / 't.csv'}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["neuron"] for row in rows] == [n.removeprefix("--neuron=") for n in neurons]
    # of 289,482 parameters 640 are of norms; 64*9 + 128*10 + 10 weights stay in fp32
    assert float(rows[0]["paper_size_bytes"]) == 4 * 1866 + 0.375 * (73_728 + 147_456 + 65_536)
    assert float(rows[0]["size_bytes"]) < float(rows[0]["paper_size_bytes"])
    # the second of every pair is stateless: one operation instead of three
    first, second = 64 * 64 + 128 * 16, 128 * 16 + 128
    assert float(rows[0]["neuron_ops"]) == 2 * 3 * (first + second)
    assert float(rows[1]["neuron_ops"]) == 2 * (3 * first + second)


def test_a_variant_of_every_neuron_and_an_option_of_the_network() -> None:
    arguments = ["--epochs=0", "--data=random", "--timesteps=1", "--mode=stbp"]
    result = call(
        "run", "--model=sew_resnet18", "--variant=connect=iand", "--variant=leak=0.9", *arguments
    )
    assert result.exit_code == 0, result.output
    message = refused("run", "--model=sew_resnet18", "--variant=connect=or", *arguments)
    assert "unknown connect of sew_resnet18 'or'; known: add, and, iand" in message
    assert "give NAME or NAME=VALUE" in refused("run", "--variant=model=x")


def test_a_checkpoint_and_anybodys_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs_to_run.py").write_text(
        "from snnprof.models import create\n"
        "def build(timesteps, image_size):\n"
        "    return create('vgg5', timesteps=timesteps, in_channels=1, image_size=image_size)\n"
    )
    torch.manual_seed(5)
    network = snnprof.models.create("vgg5", in_channels=1, image_size=8)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.ones_(norm.bias)
    torch.save(network.state_dict(), "w.pt")
    model = "--model=theirs_to_run:build"
    result = call("run", model, "--checkpoint=w.pt", "--epochs=0", "--mode=stbp", "-ot.json")
    assert result.exit_code == 0, result.output
    assert "Weights loaded from w.pt" in result.stdout
    assert "untrained" not in result.stdout
    report = snnprof.load("t.json")
    assert isinstance(report, snnprof.Report)
    assert report.rows[0].accuracy is not None
    with snnprof.SopCounter(network.eval()) as counter, torch.no_grad():
        network(data_sets.load("digits").test_images)
    assert report.rows[0].counts.total("synops") == counter.result().total("synops")
    assert "No such file" in refused("run", "--checkpoint=absent.pt", "--epochs=0")
    assert "another network" in refused("run", "--checkpoint=w.pt", "--neuron=hdlif")


def test_hdlif_runs_from_the_command_line() -> None:
    result = call("run", "--neuron=hdlif", "--mode=online", "--epochs=1", "--timesteps=2")
    assert result.exit_code == 0, result.output
    assert "hdlif" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=vgg6"], "unknown model 'vgg6'; known: "),
        (["--neuron=if"], "unknown neuron 'if'; known: hdlif, ilif, lif"),
        (["--weights=int8"], "unknown weights 'int8'"),
        (["--mode=bptt"], "unknown mode 'bptt'; known: ndot, ndot-code"),
        (["--energy=joules"], "unknown energy convention 'joules'; known: dense, hd-lif"),
        (["--data=mnist"], "unknown data set 'mnist'; known: cifar10"),
        (["--timesteps=0"], "timesteps=0: must be at least 1"),
        (["--timesteps=four"], "'four' is not a valid integer"),
        (["--batch-size=0"], "batch_size=0: must be at least 1"),
        (["--batch-size=1"], "batch_size=1"),
        (["--learning-rate=0"], "learning_rate=0"),
        ([f"-o{300 * 'x'}.md"], "too long"),
        (["--batch-size=5000"], "batch_size=5000 is more than the 1437 training images"),
        (["--epochs=-1"], "epochs=-1"),
        (["--image-size=0"], "image_size=0"),
        (["--image-size=2"], "too small for 2 poolings"),
        (["--device=tpu"], "unknown device 'tpu'; known: auto, cpu, cuda"),
        (["-otable.xls"], "unknown suffix '.xls'"),
        (["-onowhere/table.md"], "there is no directory 'nowhere'"),
        (["--wings"], "No such option"),
        (["--seed=-1"], "seed=-1: must be a whole number from 0"),
        (["--epochs=0", "--timesteps=1000000000"], "out of memory"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    assert message in refused("run", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none() -> None:
    assert "torch finds none here" in refused("run", "--device=cuda")


def test_nothing_is_trained_before_everything_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("snnprof.experiment.run.train", lambda *_: pytest.fail("trained"))
    for bad in ("--mode=x", "--energy=x", "--model=x", f"-o{tmp_path / 'x'}", "--timesteps=0"):
        refused("run", "--mode=stbp", bad)


def broken_data(image_size: int | None, seed: int) -> Dataset:
    data = data_sets.random(8, seed)
    data.test_images[0, 0, 0, 0] = float("nan")
    return data


def test_nan_in_an_input_is_a_warning_and_with_strict_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(data_sets.DATA_SETS, "broken", broken_data)
    output = tmp_path / "t.json"
    arguments = ["run", "--data=broken", "--epochs=0", "--mode=stbp", f"-o{output}"]
    message = refused(*arguments, "--strict")
    assert "features.0.0" in message
    assert not output.exists()
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"Warning: NaN or infinity in the input of .*features\.0\.0", result.stderr)
    assert "NaN or infinity in the input of: features.0.0" in result.stdout
    report = snnprof.load(output)
    assert isinstance(report, snnprof.Report)
    assert report.rows[0].counts.non_finite[0] == "features.0.0"


def test_models_and_tables_are_listed() -> None:
    models = call("models").stdout
    assert "vgg5" in models
    assert "9,268,746" in models  # of the DVS form
    assert "features.0.0.weight" in call("models", "vgg5").stdout
    assert "unknown model 'x'" in refused("models", "x")
    assert "operands: MAC 4.6 pJ, AC 0.9 pJ" in call("energy-tables").stdout
    assert "Horowitz" in call("energy-tables", "operands").stdout


def test_help_teaches() -> None:
    text = flat("run", "--help")
    for phrase in (
        "--mode",
        "sltt-K, stbp",
        "Examples:",
        "hd-lif, loihi, odin, operands, sata, spikformer",
    ):
        assert phrase in text
    assert snnprof.__name__ in call("--version").stdout


def test_no_arguments_teach_too() -> None:
    result = call()
    assert result.exit_code == 0
    assert "Commands:" in result.stdout


def flat(*arguments: str) -> str:
    """The output of a command, in one line."""
    return " ".join(call(*arguments).stdout.split())


def test_a_name_alone_is_one_row_and_the_same_twice_is_refused() -> None:
    given = {"modes": "stbp", "epochs": 0, "data": "random", "device": "cpu"}
    with pytest.raises(snnprof.SnnprofError, match="energy 'hd-lif' is given twice"):
        snnprof.run(**given, energy=["hd-lif", "hd-lif"])
    report = snnprof.run(**given, energy="hd-lif")
    assert [row.mode for row in report.rows] == ["stbp"]
    assert [energy.table for energy in report.rows[0].energies] == ["hd-lif"]


def test_ctrl_c_is_one_line_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snnprof.cli.run.run", interrupted)
    result = call("run", f"-o{tmp_path / 't.md'}")
    assert result.exit_code == 130
    # click ends the terminal's line with its ^C first
    assert result.stderr == "\nStopped; what is written is whole.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "coherence"])
def test_a_file_that_cannot_be_written_costs_no_other(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.md"

    def full(path: Path, content: bytes) -> None:
        if path == first:
            raise snnprof.SnnprofError(f"output {str(path)!r}: No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr("snnprof.render.output_files.write_whole", full)
    result = call(command, "--epochs=0", "--timesteps=1", f"-o{first}", f"-o{second}")
    assert result.exit_code == 2
    assert result.stderr == f"Error: output {str(first)!r}: No space left on device\n"
    assert "device: CPU" in result.stdout
    assert "device: CPU" in second.read_text()


def test_scalars_that_cannot_be_written_cost_neither_files_nor_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise snnprof.SnnprofError("scalars folder 'runs': No space left on device")

    monkeypatch.setattr("snnprof.render.tensorboard.write_scalars", full)
    monkeypatch.setattr("snnprof.experiment.run.record_traces", lambda *_: [])
    output, runs = tmp_path / "t.md", tmp_path / "runs"
    fast = ("--epochs=0", "--repeats=1", "--timesteps=1", "--mode=stbp", "--batch-size=8")
    result = call("run", *fast, f"--trace={runs}", f"-o{output}")
    assert result.exit_code == 2
    assert result.stderr == "Error: scalars folder 'runs': No space left on device\n"
    assert "device: CPU" in result.stdout
    assert "device: CPU" in output.read_text()


def test_a_full_terminal_costs_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("snnprof.render.terminal.show", full)
    output = tmp_path / "t.md"
    message = refused("run", "--epochs=0", "--timesteps=1", "--mode=stbp", f"-o{output}")
    assert "standard output: No space left on device" in message
    assert "vgg5" in output.read_text()


def test_an_accuracy_that_is_a_guess_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(image_size: int | None, seed: int) -> Dataset:
        return replace(data_sets.random(8, seed), labelled=True)

    monkeypatch.setitem(data_sets.DATA_SETS, "noise", noise)
    run = ("run", "--data=noise", "--epochs=1", "--mode=stbp", "--timesteps=1")
    (said,) = re.findall(r"T1: ([\d.]+)% of 64 samples is within .* guessing \(10.0%\)", flat(*run))
    # of 64 images: 3 standard errors are 11.25 points
    assert float(said) < 21.25
    assert "guessing" not in flat("run", "--epochs=1", "--mode=stbp", "--timesteps=1")


def test_nan_while_training_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(image_size: int | None, seed: int) -> Dataset:
        data = data_sets.random(8, seed)
        data.train_images[0, 0, 0, 0] = float("nan")
        return data

    monkeypatch.setitem(data_sets.DATA_SETS, "poisoned", poisoned)
    message = refused("run", "--data=poisoned", "--epochs=1", "--mode=stbp")
    # Spikes swallow NaN: the loss stays finite, the first convolution's weight does not.
    said = "diverged: features.0.0.weight is not finite after step 4 (epoch 1): look for NaN"
    assert f"vgg5 lif fp32 stbp T4: {said}" in message

"""``snnprof train`` as its users meet it."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import snnprof
from snnprof.experiment import training

from ..support.commands import call, refused

HERE = "tests.cli.test_train_command"
SHORT = ("--timesteps=1", "--epochs=1", "--batch-size=256")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train_epochs", lambda *_, **__: pytest.fail("trained"))


def test_a_training_is_printed_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    result = call("train", "--preset=digits", "--mode=stbp", *SHORT, f"-o{folder}")
    assert result.exit_code == 0, result.output
    assert "learning rate" in result.stdout.splitlines()[0]
    assert "Training modes side by side" in result.stdout
    report = snnprof.load(folder / "report.json")
    again = call("run", f"--checkpoint={folder / 'best.safetensors'}", "--epochs=0",
                 f"-o{tmp_path / 't.json'}")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert snnprof.load(tmp_path / "t.json").rows[0].counts == report.rows[0].counts
    resumed = call("train", "--resume", f"-o{folder}")
    assert resumed.exit_code == 0, resumed.output
    given = call("train", f"--preset={folder / 'configuration.toml'}", "--resume", f"-o{folder}")
    assert given.exit_code == 0, given.output
    message = refused("train", "--mode=online", "--resume", f"-o{folder}")
    assert "is of another configuration: mode stbp there, online here" in message


@pytest.mark.usefixtures("untrained")
def test_a_dry_run_prints_every_value_and_where_it_is_from(tmp_path: Path) -> None:
    result = call("train", "--preset=cifar100", "--epochs=7", "--no-nesterov", "--dry-run",
                  "--augmentation=random-crop:padding=2", "--augmentation=flip")  # fmt: skip
    assert result.exit_code == 0, result.output
    table, _, text = result.stdout.partition("# From preset cifar100")
    lines = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert "command line" in lines["epochs"]
    assert "preset cifar10 " in lines["learning_rate"]
    assert "supplement: 0.01" in lines["learning_rate"]
    assert "default" in lines["seed"]
    values = tomllib.loads(text.partition("\n")[2])
    assert values["nesterov"] is False
    assert values["augmentation"] == [{"step": "random-crop", "padding": 2}, {"step": "flip"}]


@pytest.mark.usefixtures("untrained")
def test_a_picture_of_a_batch(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="the picture is written by Pillow")
    file = tmp_path / "batch.png"
    result = call("train", "--augmentation=random-crop:padding=2", f"--show-batch={file}")
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("untrained")
def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "unknown preset 'cifar'; known: cifar10" in refused("train", "--preset=cifar")
    assert "-o DIR" in refused("train", "--preset=digits")
    file = tmp_path / "mine.toml"
    file.write_text("epochz = 3\n")
    assert "unknown key 'epochz'; did you mean 'epochs'?" in refused("train", f"--preset={file}")
    folder = f"-o{tmp_path / 't'}"
    for wrong, message in {
        "--warmup-epochs=9": "warmup_epochs=9: must be 0 or more, and fewer than the 8 epochs",
        "--label-smoothing=1": "label_smoothing=1.0: must be 0 or more, and below 1",
        "--mode=online-": "unknown mode 'online-'",
        "--seed=-1": "seed=-1: must be a whole number from 0 to",
        "--augmentation=flip:x": "give STEP or STEP:STRENGTH=VALUE",
        "--variant=leak=2": "leak=2.0: must be from 0",
        "--epochs=some": "is not a valid integer",
    }.items():
        assert message in refused("train", wrong, folder)
    assert not (tmp_path / "t" / "last.pt").exists()
    none_and_one = "--augmentation=none", "--augmentation=flip"
    assert "none beside other steps" in refused("train", *none_and_one, "--dry-run")
    assert "unknown mode 'onlin'" in refused("train", "--mode=onlin", "--dry-run")
    assert "fewer than the 3 epochs" in refused("train", "--preset=cifar10", "--epochs=3",
                                                "--dry-run")  # fmt: skip


FLOP = "unknown augmentation step 'flop'; known: auto-augment, cutmix"
REFUSED = {
    "--neuron=lfi": "unknown neuron 'lfi'",
    "--neuron=lif+learnable+leak=1": "leak=1.0: a learnable leak lies between 0 and 1",
    "--weights=2bit": "unknown weights '2bit'",
    "--data=cifar11": "unknown data set 'cifar11'",
    "--loss=foo": "unknown loss 'foo'",
    "--metric=acc": "unknown metric 'acc'",
    "--optimizer=adam": "optimizer='adam': give package.module:function",
    "--schedule=step": "schedule='step': give package.module:function",
    "--energy=foo": "'foo'",
    "--amp=fp8": "unknown amp 'fp8'; known: bf16, fp16",
    "--device=tpu": "unknown device 'tpu'",
    "--workers=-1": "workers=-1: must be 0 or more",
    "--workers=1": "workers=1: data 'digits' are in memory",
    "--steps=3": "steps=3: data 'digits' has an end",
    "--seed=-1": "seed=-1: must be a whole number from 0",
    "--image-size=0": "image_size=0: must be at least 1",
    "--layout=row": "unknown layout 'row'",
    "--variant=foo": "unknown variant of lif 'foo'",
    "--checkpoint=no-such-file": "no-such-file",
    "--augmentation=flop": FLOP,
    "--augmentation=flip:prob=1": "augmentation step 'flip' has no 'prob'",
    "--augmentation=random-crop:padding=x": "padding='x'",
    "--augmentation=flip:probability=2": "probability must be between 0 and 1",
    "fsdp = true\ncompile = true": "fsdp does not run with compile",
    "fsdp = true\nchannels_last = true": "fsdp does not run with channels_last",
    'augmentation = [{step = "flop"}]': FLOP,
    'augmentation = [{step = "flip", prob = 1}]': "augmentation step 'flip' has no 'prob'",
    'augmentation = [{step = "flip", probability = "1"}]': "probability='1'",
}


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("wrong", "message"), REFUSED.items())
def test_a_dry_run_refuses_what_the_run_refuses(tmp_path: Path, wrong: str, message: str) -> None:
    if not wrong.startswith("--"):
        (tmp_path / "mine.toml").write_text(wrong)
        wrong = f"--preset={tmp_path / 'mine.toml'}"
    dry = refused("train", wrong, "--dry-run")
    assert message in dry
    assert refused("train", wrong, f"-o{tmp_path / 't'}") == dry
    assert not (tmp_path / "t").exists()


@pytest.mark.usefixtures("untrained")
def test_a_dry_run_reads_no_data(tmp_path: Path) -> None:
    """ImageNet is not there, and of one's own data nothing is called; their names are looked up."""
    assert call("train", f"--data-dir={tmp_path}", "--data=imagenet", "--dry-run").exit_code == 0
    assert call("train", f"--data={HERE}:never_called", "--dry-run").exit_code == 0
    message = f"data '{HERE}:not_there': '{HERE}' has no function 'not_there'"
    assert message in refused("train", f"--data={HERE}:not_there", "--dry-run")
    sized = f"--data={HERE}:never_called", "--image-size=16", "--dry-run"
    assert "has no parameter 'image_size', so image_size=16 would be" in refused("train", *sized)
    own = f"--model={HERE}:never_called", "--neuron=hdlif", "--dry-run"
    assert "has no parameter 'neuron', so neuron=hdlif would be ignored" in refused("train", *own)


def never_called() -> None:
    pytest.fail("called")


def test_ctrl_c_ends_with_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_epochs", interrupted)
    result = call("train", *SHORT, f"-o{tmp_path}")
    assert result.exit_code == 130
    assert result.stderr == f"Interrupted: snnprof train --resume -o {tmp_path} goes on.\n"
    assert snnprof.load(tmp_path / "report.json").interrupted


def test_ctrl_c_names_the_command_that_goes_on_with_code_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    own = f"--data={HERE}:small", f"--optimizer={HERE}:plain_sgd"
    folder = tmp_path / "it's mine"
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_epochs", interrupted)
        result = call("train", "--timesteps=1", "--epochs=1", *own, f"-o{folder}")
    assert result.exit_code == 130
    _, told, end = result.stderr.partition("Interrupted: snnprof ")
    command = end.removesuffix(" goes on.\n")
    assert (told, f"--optimizer {HERE}:plain_sgd" in command) == ("Interrupted: snnprof ", True)
    notes = " ".join(snnprof.load(folder / "report.json").notes)
    assert f"snnprof {command} goes on." in notes
    assert f"(--data {HERE}:small --optimizer {HERE}:plain_sgd)" in refused(
        "train", "--resume", f"-o{folder}"
    )
    looked = call(*shlex.split(command), "--dry-run")
    assert f"{folder} goes on after epoch 0 of 1." in looked.stderr
    again = call(*shlex.split(command))  # the command that was named, as it was named
    assert again.exit_code == 0, again.output
    assert snnprof.load(folder / "report.json").rows[0].epochs == 1


def small() -> tuple[list[Any], list[Any]]:
    """One batch of two images in two classes."""
    batch = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    return [batch], [batch]


def plain_sgd(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.1)


def test_nothing_to_take_up_and_nothing_to_begin_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    message = refused("train", "--resume", f"-o{folder}")  # on the CPU: says nothing of what
    assert f"no checkpoint in {str(folder)!r} to take up" in message
    assert "--preset" in message
    assert not folder.exists()
    assert "-o DIR" in refused("train", "--resume", "--dry-run")
    begun = call("train", "--resume", *SHORT, f"-o{folder}")
    assert begun.exit_code == 0, begun.output
    said = f"No checkpoint in {folder}: the training is begun anew."
    assert said in begun.stderr
    assert said in snnprof.load(folder / "report.json").notes


def test_a_dry_run_shows_the_configuration_that_is_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    trained = call("train", "--preset=digits", "--mode=stbp", *SHORT, f"-o{folder}")
    assert trained.exit_code == 0, trained.output
    files = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    result = call("train", "--resume", f"-o{folder}", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{folder}: all 1 epochs are trained." in result.stderr
    values = tomllib.loads(result.stdout.partition("# From preset digits")[2].partition("\n")[2])
    assert (values["mode"], values["timesteps"], values["epochs"]) == ("stbp", 1, 1)
    assert "mode stbp there, online here" in refused(
        "train", "--resume", "--mode=online", f"-o{folder}", "--dry-run"
    )
    assert "holds a training" in refused("train", "--dry-run", f"-o{folder}")
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == files
    result = call("train", "--dry-run", f"-o{tmp_path / 'new'}")
    assert (result.exit_code, (tmp_path / "new").exists()) == (0, False)

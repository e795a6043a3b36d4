"""Training in a folder: what it leaves there, and that it goes on as if never ended."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import snnprof
from snnprof.experiment import training_folder
from snnprof.experiment.checkpoint import saved_configuration
from snnprof.experiment.data import Data
from snnprof.experiment.data_sets import Dataset
from snnprof.experiment.presets import find_preset
from snnprof.experiment.settings import Progress
from snnprof.experiment.training_start import find_start

from .data_sets.test_cifar import cifar10_files, write_folder

TIMED = ("images_per_s", "seconds")


def small(seed: int = 0) -> tuple[Any, Any]:
    """48 images of 8x8 in 4 classes, 6 batches an epoch, shuffled by a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(60) % 4
    images = 2.0 * torch.nn.functional.one_hot(labels, 64).view(60, 1, 8, 8)
    images = images + 0.5 * torch.randn(60, 1, 8, 8, generator=generator)
    train = TensorDataset(images[:48], labels[:48])
    order = torch.Generator().manual_seed(3)
    loader = DataLoader(train, 8, shuffle=True, drop_last=True, generator=order)
    return loader, DataLoader(TensorDataset(images[48:], labels[48:]), 12)


def in_memory() -> Dataset:
    """The same images; their order is drawn from the generator that the training hands over."""
    (images, labels), (others, of_others) = (loader.dataset.tensors for loader in small())
    return Dataset(images, labels, others, of_others, 4, True, "48 images")


def augmented() -> Data:
    """The same, through an augmentation of the data's own."""
    return snnprof.augmented(in_memory(), snnprof.Augmentation([{"step": "roll", "shift": 1}], 7))


def of_global_generators() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The same images, and noise of Python's and numpy's generators; the order is torch's."""
    train, test = small()

    def noisy(samples: Any) -> Any:
        images, labels = torch.utils.data.default_collate(samples)
        return images + random.random() + np.random.rand(), labels

    return DataLoader(train.dataset, 8, shuffle=True, collate_fn=noisy), test


def train(folder: Path, **given: Any) -> snnprof.Report:
    settings: dict[str, Any] = {"timesteps": 2, "epochs": 4, "device": "cpu", "data": small}
    return snnprof.train(folder=folder, **settings | given)


def records(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "epochs.csv").open()))
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


def test_the_loss_receives_labels_that_are_smoothed(tmp_path: Path) -> None:
    received: list[torch.Tensor] = []

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        received.append(labels)
        return torch.nn.functional.cross_entropy(outputs, labels)

    train(tmp_path, label_smoothing=0.2, loss=loss, epochs=1)
    # 4 classes: 0.8 + 0.2 / 4 of the label's own, 0.2 / 4 of each other
    assert received
    for labels in received[-6:]:  # those of an epoch
        assert labels.shape == (8, 4)
        assert set(labels.flatten().tolist()) == {
            torch.tensor(0.85).item(),
            torch.tensor(0.05).item(),
        }


def assert_alike(one: Any, other: Any, where: str = "") -> None:
    """Every tensor and every number of two states, bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"snnprof"}:  # holds times
            assert_alike(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_alike(a, b, f"{where}/{place}")
    else:
        assert one == other, where


def state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, snnprof.Report]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, train(folder)


def stop_after(steps: int, error: type[BaseException]) -> Progress:
    done = []

    def advance() -> None:
        done.append(1)
        if len(done) == steps:
            raise error

    return Progress(advance=advance)


def test_the_folder_holds_what_was_promised(unbroken: tuple[Path, snnprof.Report]) -> None:
    folder, report = unbroken
    (row,) = report.rows
    assert row.epochs == 4
    assert row.accuracy > 0.5  # of 4 classes
    assert len(records(folder)) == 4
    assert float(records(folder)[-1]["test_accuracy"]) == row.accuracy
    assert float(records(folder)[-1]["synops"]) == row.counts.per_sample("synops")
    assert snnprof.load(folder / "report.json") == report
    assert list((folder / "scalars").glob("events.*"))
    assert any("Configuration: preset digits with" in note for note in report.notes)
    assert any("Best test accuracy" in note for note in report.notes)
    assert not [*folder.glob(".*")]


def test_it_is_the_training_of_run(tmp_path: Path) -> None:
    report = train(tmp_path / "t", data="digits", epochs=1, batch_size=256, mode="stbp")
    other = snnprof.run(modes="stbp", epochs=1, batch_size=256, timesteps=2, device="cpu")
    (ours,), (theirs,) = report.rows, other.rows
    assert (ours.counts, ours.accuracy, ours.loss) == (theirs.counts, theirs.accuracy, theirs.loss)


def test_the_counts_are_those_of_the_saved_weights(
    unbroken: tuple[Path, snnprof.Report],
) -> None:
    folder, report = unbroken
    for name, epoch in (("last.pt", 4), ("best.safetensors", None)):
        file = folder / name
        epoch = epoch or len(saved_configuration(file)["training"]["epochs"])
        again = snnprof.run(
            modes="online", timesteps=2, epochs=0, data=small, checkpoint=file, device="cpu"
        ).rows[0]
        record = records(folder)[epoch - 1]
        assert again.accuracy == float(record["test_accuracy"])
        assert again.counts.per_sample("synops") == float(record["synops"])
        if name == "last.pt":
            assert again.counts == report.rows[0].counts


def test_the_best_is_the_first_of_the_highest_accuracy(
    unbroken: tuple[Path, snnprof.Report],
) -> None:
    folder, _ = unbroken
    accuracies = [float(record["test_accuracy"]) for record in records(folder)]
    best = len(saved_configuration(folder / "best.safetensors")["training"]["epochs"])
    assert best == 1 + accuracies.index(max(accuracies))


@pytest.mark.parametrize("steps", [2, 13, 24])  # in the first epoch, in the third, at the end
def test_a_training_goes_on_as_if_never_ended(
    tmp_path: Path, steps: int, unbroken: tuple[Path, snnprof.Report]
) -> None:
    report = train(tmp_path, progress=stop_after(steps, KeyboardInterrupt))
    assert report.interrupted
    assert len(records(tmp_path)) == (steps - 1) // 6
    torch.rand(5)  # whatever else draws in between
    again = train(tmp_path, resume=True)
    folder, whole = unbroken
    assert_alike(state(tmp_path), state(folder))
    assert records(tmp_path) == records(folder)
    assert again.rows[0].counts == whole.rows[0].counts
    assert again.rows[0].loss == whole.rows[0].loss


@pytest.mark.parametrize("data", [augmented, of_global_generators])
def test_everything_that_draws_is_in_the_checkpoint(
    tmp_path: Path, data: Callable[..., Any]
) -> None:
    """A mode that draws, an augmentation that draws, fp16, warm-up: broken twice, and whole."""
    given = {
        "data": data,
        "batch_size": 8 if data is augmented else None,
        "mode": "random-bp",
        "amp": "fp16",
        "label_smoothing": 0.1,
        "warmup_epochs": 1,
    }
    given["augmentation"] = ["flip", {"step": "mixup-or-cutmix", "smoothing": 0.0}]
    train(tmp_path / "whole", **given)
    train(tmp_path / "b", **given, progress=stop_after(8, KeyboardInterrupt))
    train(tmp_path / "b", **given, resume=True, progress=stop_after(7, KeyboardInterrupt))
    report = train(tmp_path / "b", **given, resume=True)
    assert_alike(state(tmp_path / "b"), state(tmp_path / "whole"))
    assert "Taken up again after epoch 1, 2, from the checkpoint." in report.notes
    assert any("smoothed by 0.1" in note for note in report.notes)
    assert any("augmented: Flip(" in note for note in report.notes)
    assert any("linear warm-up of 1 epochs, cosine annealing" in note for note in report.notes)


def test_a_killed_process_goes_on_as_if_never_ended(
    tmp_path: Path, unbroken: tuple[Path, snnprof.Report]
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.experiment.test_training import train, Progress\n"
        "left = [15]\n"
        "def advance():\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(Path(sys.argv[1]), progress=Progress(advance=advance))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert len(records(tmp_path)) == 2  # 14 steps of 6 an epoch
    (tmp_path / ".last.pt.half").write_bytes(b"half")  # as a kill during the writing leaves
    train(tmp_path, resume=True)
    folder, _ = unbroken
    assert_alike(state(tmp_path), state(folder))
    assert records(tmp_path) == records(folder)
    assert not [*tmp_path.glob(".*")]


def test_best_weights_that_a_kill_kept_from_being_written(
    tmp_path: Path, unbroken: tuple[Path, snnprof.Report]
) -> None:
    train(tmp_path, progress=stop_after(8, KeyboardInterrupt))
    (tmp_path / "best.safetensors").unlink()
    report = train(tmp_path, resume=True, progress=stop_after(1, KeyboardInterrupt))
    assert report.rows[0].counts.per_sample("synops") == float(records(tmp_path)[0]["synops"])
    assert len(saved_configuration(tmp_path / "best.safetensors")["training"]["epochs"]) == 1


def test_ctrl_c_ends_with_the_report_of_the_last_checkpoint(tmp_path: Path) -> None:
    report = train(tmp_path, progress=stop_after(15, KeyboardInterrupt))
    (row,) = report.rows
    assert (report.interrupted, row.epochs, row.failure) == (True, 2, None)
    again = snnprof.run(
        modes="online", timesteps=2, epochs=0, data=small, checkpoint=tmp_path / "last.pt"
    )
    assert again.rows[0].counts == row.counts
    (unfinished,) = [note for note in report.notes if "2 of 4 epochs are trained" in note]
    call = f"snnprof.train(folder={str(tmp_path)!r}, resume=True, data=small)"
    assert unfinished.endswith(f"the last of them: {call} goes on.")


def test_a_finished_training_gives_its_report_again(
    unbroken: tuple[Path, snnprof.Report],
) -> None:
    folder, report = unbroken
    untouched = (folder / "last.pt").stat().st_mtime_ns
    assert train(folder, resume=True) == report
    (folder / "report.json").unlink()
    again = train(folder, resume=True)  # killed between the last checkpoint and the report
    assert again.rows[0].counts == report.rows[0].counts
    assert again.rows[0].profile == report.rows[0].profile
    assert (folder / "last.pt").stat().st_mtime_ns == untouched


def test_another_configuration_is_refused(unbroken: tuple[Path, snnprof.Report]) -> None:
    folder, _ = unbroken
    with pytest.raises(snnprof.SnnprofError, match=r"epochs 4 there, 5 here; learning_rate 0\.1"):
        train(folder, resume=True, epochs=5, learning_rate=0.2)
    with pytest.raises(snnprof.SnnprofError, match="holds a training: take it up with resume"):
        train(folder)
    with pytest.raises(snnprof.SnnprofError, match=r"trained with data .*:small: give it too"):
        snnprof.train(folder=folder, resume=True)
    with pytest.raises(snnprof.SnnprofError, match=r"label_smoothing 0 there, 0\.1 here"):
        train(folder, preset="cifar10", resume=True)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in {
        tmp_path / "no" / "such": "there is no directory",
        tmp_path / "file": "is a file",
        Path("/proc/snnprof"): "'/proc/snnprof' cannot be made: .*; name another one",
    }.items():
        with pytest.raises(snnprof.SnnprofError, match=message):
            train(path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(snnprof.SnnprofError, match="is damaged: begin in another folder"):
        train(tmp_path / "damaged", resume=True)


def test_the_papers_preset_trains_on_an_archive_of_ten_images(tmp_path: Path) -> None:
    """CIFAR-10's own format, HD-LIF, 1 bit, warm-up, Mixup; Auto-Augment where kornia is."""
    write_folder(tmp_path / "data" / "cifar-10-batches-py", cifar10_files()[0])
    steps = find_preset("cifar10").values["augmentation"]
    if find_spec("kornia") is None:
        steps = [step for step in steps if step["step"] != "auto-augment"]
    small = {"model": "vgg5", "timesteps": 1, "batch_size": 5, "epochs": 2, "warmup_epochs": 1}
    report = snnprof.train(
        "cifar10", folder=tmp_path / "t", data_dir=str(tmp_path / "data"), augmentation=steps,
        device="cpu", **small,
    )  # fmt: skip
    (row,) = report.rows
    assert (row.failure, row.neuron, row.weights, row.counts.samples) == (None, "hdlif", "1bit", 2)
    notes = " ".join(report.notes)
    assert all(word in notes for word in ("Cutout(size=16", "smoothed by 0.1", "warm-up of 1"))
    assert [float(r["learning_rate"]) for r in records(tmp_path / "t")] == [0.005, 0.01]


def test_labels_are_smoothed_once(tmp_path: Path) -> None:
    with pytest.raises(snnprof.SnnprofError, match="smooths labels too: give one of them as 0"):
        train(tmp_path, label_smoothing=0.1, augmentation=["mixup"])


def test_ctrl_c_right_behind_the_writing_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch's checkpoint is there, and nothing else of it."""
    whole = training_folder.TrainingFolder.complete

    def complete(folder: Any, state: Any, history: Any) -> None:
        if len(history.epochs) == 2 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            raise KeyboardInterrupt
        whole(folder, state, history)

    monkeypatch.setattr(training_folder.TrainingFolder, "complete", complete)
    report = train(tmp_path)
    assert report.interrupted
    assert report.rows[0].epochs == len(records(tmp_path)) == 2
    assert report.rows[0].counts.per_sample("synops") == float(records(tmp_path)[1]["synops"])


class NotPlain(torch.optim.lr_scheduler.LambdaLR):
    def state_dict(self) -> dict[str, Any]:
        return {"where": Path("x")}


def test_a_schedule_that_cannot_be_saved_is_refused_before_training(tmp_path: Path) -> None:
    schedule = lambda optimizer, steps: NotPlain(optimizer, lambda step: 1.0)  # noqa: E731
    untrained = stop_after(1, AssertionError)
    with pytest.raises(snnprof.SnnprofError, match="more than tensors and numbers"):
        train(tmp_path, schedule=schedule, progress=untrained)
    assert not (tmp_path / "last.pt").exists()


def test_a_training_that_diverges_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    report = train(tmp_path, learning_rate=1e30, epochs=3)
    assert "diverged" in report.rows[0].failure
    assert state(tmp_path)["model"].keys()


def test_the_global_generators_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(tmp_path, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_training_is_priced_under_what_is_asked_for_now(tmp_path: Path) -> None:
    trained = train(tmp_path / "t", epochs=1)
    again = train(tmp_path / "t", epochs=1, resume=True, energy=["dense", "spikformer"])
    assert [energy.table for energy in again.rows[0].energies] == ["dense", "spikformer"]
    assert again.rows[0].counts == trained.rows[0].counts
    (said,) = (note for note in again.notes if note.startswith("Configuration:"))
    assert "energy dense, spikformer" in said and "operands" not in said
    assert snnprof.load(tmp_path / "t" / "report.json") == again


def test_one_process_takes_up_what_several_began(tmp_path: Path) -> None:
    begun = find_start("digits", {}, tmp_path / "t", False)
    shared = {**begun.configuration.values, "sync_bn": True, "fsdp": True}
    start = replace(begun, configuration=replace(begun.configuration, values=shared), state={})
    here = start.run_here
    assert (here.values["sync_bn"], here.values["fsdp"]) == (False, False)
    assert start.configuration.values["sync_bn"], "the checkpoint keeps it"
    # Asked for, it is refused as ever; and so it is where a training begins.
    asked = replace(start.configuration, given=frozenset({"fsdp"}))
    assert replace(start, configuration=asked).run_here.values["fsdp"]
    assert replace(start, state=None).run_here.values["sync_bn"]

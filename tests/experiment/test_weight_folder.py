"""Trained weights are kept, and counted again to the last event."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnprof
from snnprof.experiment.checkpoint import saved_configuration
from snnprof.experiment.run import run
from snnprof.experiment.safetensors_file import from_bytes

from ..support.commands import call, refused

THEIRS = """
import torch
from torch import nn
import snnprof

class Integrator(nn.Module):  # one time step per call; its state is a buffer
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 32)
        self.norm = nn.BatchNorm1d(32)
        self.out = nn.Linear(32, 10)
        self.register_buffer("membrane", torch.zeros(1))

    def forward(self, x):
        self.membrane = 0.5 * self.membrane + self.norm(self.fc(x.flatten(1)))
        spikes = (self.membrane > 0.5).float()
        soft = torch.sigmoid(self.membrane)
        return self.out(spikes + soft - soft.detach())

def build():
    model = Integrator()
    def reset():
        model.membrane = torch.zeros(1, device=model.fc.weight.device)
    def detach():
        model.membrane = model.membrane.detach()
    return snnprof.stepwise(model, reset=reset, detach=detach)
"""
FAST = ["--epochs=1", "--batch-size=256"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs_saved.py").write_text(THEIRS)


def only_row(path: str) -> snnprof.ReportRow:
    report = snnprof.load(path)
    assert isinstance(report, snnprof.Report)
    (row,) = report.rows
    return row


@pytest.mark.parametrize(
    ("network", "again"),
    [
        (["--model=vgg5", "--neuron=lif", "--variant=leak=0.9", "--mode=stbp"], []),
        (["--neuron=hdlif+mem_bn", "--weights=1.5bit", "--mode=online"], []),
        (["--model=theirs_saved:build", "--mode=online"], ["--model=theirs_saved:build"]),
    ],
)
def test_counting_again_gives_the_counts_to_the_last_event(
    network: list[str], again: list[str]
) -> None:
    result = call("run", *network, *FAST, "--timesteps=2", "--save=kept", "-oa.json")
    assert result.exit_code == 0, result.output
    (file,) = Path("kept").iterdir()
    result = call("run", f"--checkpoint={file}", *again, "--epochs=0", "-ob.json")
    assert result.exit_code == 0, result.output
    assert f"Not given, so taken from {file}: " in result.stdout
    trained, counted = only_row("a.json"), only_row("b.json")
    assert counted.counts == trained.counts
    assert counted.accuracy == trained.accuracy
    assert counted.name == trained.name
    figures = saved_configuration(file)["figures"]
    assert figures["synops"] == trained.counts.total("synops") > 0
    assert figures["accuracy"] == trained.accuracy


def test_the_reports_counts_are_those_of_each_seeds_weights() -> None:
    network = ["--neuron=hdlif", "--weights=1bit", "--mode=online", "--timesteps=2"]
    assert call("run", *network, *FAST, "--seed=0,1", "--save=kept", "-oa.json").exit_code == 0
    report = snnprof.load("a.json")
    assert isinstance(report, snnprof.Report)
    first, second = (row.counts for row in report.rows)
    assert first != second  # a recount that took the other seed's weights would be seen
    for row in report.rows:
        (file,) = Path("kept").glob(f"*-seed{row.seed}.safetensors")
        result = call("run", f"--checkpoint={file}", "--epochs=0", "-ob.json")
        assert result.exit_code == 0, result.output
        again = only_row("b.json")
        assert again.counts == row.counts
        assert (again.accuracy, again.seed) == (row.accuracy, row.seed)


def test_a_file_says_what_it_is() -> None:
    run(
        "sew_resnet18", connect="iand", leak=0.9, modes="stbp", timesteps=1, epochs=0,
        data="random", seed=3, save="kept", device="cpu",
    )  # fmt: skip
    (file,) = Path("kept").iterdir()
    # the characters of the name that a shell does not take as they are become dashes
    assert file.name == "sew_resnet18+connect=iand-lif+leak=0.9-fp32-stbp-T1-seed3.safetensors"
    tensors, metadata = from_bytes(file.read_bytes())
    assert metadata["format"] == "pt"
    saved = json.loads(metadata["snnprof"])
    assert saved["settings"] == {
        "model": "sew_resnet18",
        "neuron": "lif+leak=0.9",
        "weights": "fp32",
        "modes": "stbp",
        "timesteps": 1,
        "variants": {"connect": "iand"},
        "data": "random",
        "learning_rate": 0.1,
        "layout": "auto",
        "epochs": 0,
        "seed": 3,
    }
    assert "accuracy" not in saved["figures"]  # untrained: not measured is absent
    assert saved["versions"]["torch"] == torch.__version__
    assert sum(t.numel() for t in tensors.values()) > saved["figures"]["parameters"]


def test_the_formats_own_reader_reads_it() -> None:
    numpy_reader = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    run(modes="stbp", timesteps=1, epochs=0, data="random", save="kept", device="cpu")
    (file,) = Path("kept").iterdir()
    theirs = numpy_reader.load_file(file)
    ours, _ = from_bytes(file.read_bytes())
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_weights_of_a_row_that_fails_later_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no counting today")

    monkeypatch.setattr("snnprof.experiment.stages.evaluate", fail)
    report = run(modes="stbp", timesteps=1, epochs=0, data="random", save="kept", device="cpu")
    assert "no counting today while counting" in report.rows[0].failure
    (file,) = Path("kept").iterdir()
    assert saved_configuration(file)["figures"] == {}


def test_weights_that_diverged_are_not_kept() -> None:
    report = run(
        modes="stbp", timesteps=1, epochs=1, learning_rate=1e30, batch_size=512, save="kept",
        device="cpu",
    )  # fmt: skip
    assert report.rows[0].failure.startswith("diverged: ")
    assert not Path("kept").exists()


def test_what_another_run_wrote_is_not_overwritten() -> None:
    settings = {"modes": "stbp", "timesteps": 1, "epochs": 0, "data": "random", "device": "cpu"}
    run(**settings, save="kept")
    (file,) = Path("kept").iterdir()
    before = file.read_bytes()
    arguments = ["--mode=stbp", "--timesteps=1", "--epochs=0", "--data=random", "--save=kept"]
    message = refused("run", *arguments)
    assert f"save: {str(file)!r} is of another run and is not overwritten" in message
    assert file.read_bytes() == before
    run(**settings, seed=1, save="kept")  # a file of its own
    assert len(list(Path("kept").iterdir())) == 2


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("theirs_saved.py", "save folder 'theirs_saved.py' is a file: name a directory"),
        ("no/where", "save folder 'no/where': there is no directory 'no'"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_training(
    folder: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snnprof.experiment.run.train", lambda *_: pytest.fail("trained"))
    assert message in refused("run", f"--save={folder}")


def test_a_disk_that_is_full_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise snnprof.SnnprofError(f"output {str(path)!r}: No space left on device")

    monkeypatch.setattr("snnprof.experiment.weight_folder.write_whole", full)
    report = run(modes="stbp", timesteps=1, epochs=0, data="random", save="kept", device="cpu")
    (row,) = report.rows
    assert row.failure.startswith("weights not saved: output ")
    assert row.counts is not None


def test_what_the_file_was_trained_as_is_said_where_it_differs() -> None:
    run(modes="stbp", timesteps=1, epochs=0, data="random", save="kept", leak=0.9, device="cpu")
    (file,) = Path("kept").iterdir()
    report = run(modes="stbp", timesteps=2, epochs=0, data="random", checkpoint=file, device="cpu")
    said = f"{file} was trained with neuron lif+leak=0.9, timesteps 1; here it runs with neuron "
    assert said + "lif, timesteps 2." in report.notes


def test_weights_of_the_dense_twin_are_no_spiking_networks() -> None:
    quick: dict[str, Any] = {"modes": "stbp", "timesteps": 1, "epochs": 0, "data": "random"}
    run(**quick, baseline="dense", save="kept", device="cpu")
    (dense,) = Path("kept").glob("*relu*")
    assert f"'{dense}' is of the dense network beside vgg5 (--baseline dense)" in refused(
        "run", f"--checkpoint={dense}"
    )
    (spiking,) = Path("kept").glob("*lif*")
    assert run(**quick, checkpoint=spiking, device="cpu").rows[0].failure is None


def test_a_file_does_not_decide_which_code_is_run() -> None:
    model = nn.Linear(2, 2)
    from snnprof.experiment.safetensors_file import to_bytes

    configuration = json.dumps({"settings": {"model": "theirs_saved:build"}})
    Path("x.safetensors").write_bytes(to_bytes(model.state_dict(), {"snnprof": configuration}))
    message = refused("run", "--checkpoint=x.safetensors")
    assert "was saved with --model theirs_saved:build: give it too" in message

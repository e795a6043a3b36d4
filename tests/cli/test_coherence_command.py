"""``snnprof coherence`` as its users meet it: printed, written, followed, refused."""

import csv
import re
import statistics
from functools import partial
from pathlib import Path

import click
import pytest
import torch
import torch.nn.functional as F
from click.testing import Result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from torch import nn

import snnprof
from snnprof.cli.options import WHOLE_NUMBERS, parse_variant
from snnprof.experiment import data_sets
from snnprof.experiment.coherence_run import run_coherence
from snnprof.experiment.settings import Progress
from snnprof.render.coherence_table import summary
from snnprof.results import CoherenceSweep
from snnprof.spiking.hdlif import HDLIF

from ..support import commands

NEURONS = ["features.1", "features.4", "features.6", "classifier.2"]  # of vgg5


call, refused = (partial(tell, "coherence") for tell in (commands.call, commands.refused))


def done(*arguments: str) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def read(path: Path) -> CoherenceSweep:
    found = snnprof.load(path)
    assert isinstance(found, CoherenceSweep)
    return found


def network(timesteps: int, neuron: str = "hdlif") -> nn.Module:
    """The network that the command builds by default."""
    torch.manual_seed(0)
    return snnprof.models.create(
        "vgg5", neuron=neuron, timesteps=timesteps, in_channels=1, image_size=8
    )


# --- what is measured ------------------------------------------------------------------------


def test_a_network_and_a_table_per_t(tmp_path: Path) -> None:
    outputs = [f"-o{tmp_path / f't.{suffix}'}" for suffix in ("md", "csv", "tex", "json")]
    result = done("--timesteps=1,3", "--batch-size=8", *outputs)
    data = data_sets.load("digits")
    x, y = data.train_images[:8], data.train_labels[:8]
    sweep = read(tmp_path / "t.json")
    assert [one.timesteps for one in sweep.results] == [1, 3]
    for one in sweep.results:
        assert one.rows == snnprof.coherence(network(one.timesteps), x, y).rows
        assert (one.batch, one.epoch, one.training_loss, one.training) == (8, 0, None, True)
    assert (sweep.model, sweep.neuron, sweep.weights, sweep.mode) == ("vgg5", "hdlif", "fp32", None)

    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [(row["timesteps"], row["name"]) for row in rows]
    assert names == [(t, name) for t in ("1", "3") for name in NEURONS]
    assert float(rows[4]["cosine_membrane"]) == sweep.results[1].rows[0].cosine_membrane
    assert rows[0]["training_loss"] == ""

    markdown = (tmp_path / "t.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in markdown.splitlines()]
    assert [c for c in cells if c and c[0] in ("T", "1", "3")] == [
        ["T", "layer"],
        *([t, name] for t in ("1", "3") for name in NEURONS),
    ]
    assert (tmp_path / "t.tex").read_text().count("classifier.2") == 2

    printed = result.stdout
    assert printed.count("Online against STBP gradients") == 2
    assert "(T = 1, batch 8)" in printed and "(T = 3, batch 8)" in printed
    assert printed.count("Both arms run the same forward pass") == 1  # notes once, under the last
    for text in (printed, markdown):
        assert "trivially 1. (T = 1)" in text
        assert "first 8 training images" in text and "untrained" in text


def test_layers_losses_variants_and_a_pass_per_layer(tmp_path: Path) -> None:
    shared = ["--timesteps=2", "--batch-size=4", "--variant=four_bit", "--weights=1.5bit"]
    shared += ["--loss=step", "--online-loss=sum"]
    done(*shared, f"-o{tmp_path / 'all.json'}")
    done(*shared, "--layers=features.*", "--one-layer-at-a-time", f"-o{tmp_path / 'some.json'}")
    (whole,), (some,) = (read(tmp_path / name).results for name in ("all.json", "some.json"))
    assert some.rows == whole.rows[:3]
    assert (whole.loss, whole.online_loss) == ("step", "sum")
    assert {row.neuron for row in whole.rows} == {"hdlif+four_bit"}
    sweep = read(tmp_path / "all.json")
    assert (sweep.neuron, sweep.weights) == ("hdlif+four_bit", "1.5bit")


def test_anybodys_builder_and_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs_to_follow.py").write_text(
        "from torch import nn\n"
        "from snnprof.models import create\n"
        "def build(timesteps, image_size):\n"
        "    return create('vgg5', timesteps=timesteps, in_channels=1, image_size=image_size)\n"
        "def silent():\n"
        "    return nn.Sequential(nn.Flatten(2), nn.Linear(64, 10))\n"
    )
    torch.manual_seed(7)
    weights = snnprof.models.create("vgg5", in_channels=1, image_size=8).state_dict()
    torch.save(weights, "w.pt")
    theirs = "--model=theirs_to_follow:build"
    done(theirs, "--checkpoint=w.pt", "--batch-size=4", "--timesteps=2", "-oa.json")
    ours = network(2, "lif")
    ours.load_state_dict(weights)
    data = data_sets.load("digits")
    sweep = read(Path("a.json"))
    expected = snnprof.coherence(ours, data.train_images[:4], data.train_labels[:4])
    assert sweep.results[0].rows == expected.rows
    assert "Weights loaded from w.pt." in sweep.notes
    assert "No such file" in refused("--checkpoint=absent.pt")
    assert "no neuron whose membrane is known" in refused("--model=theirs_to_follow:silent")


# --- training --------------------------------------------------------------------------------


def trained(epochs: int, batch: int) -> tuple[nn.Module, list[float]]:
    """STBP written out: SGD with Nesterov momentum, the rate a half cosine over all steps."""
    model = network(2)
    data = data_sets.load("digits")
    images, labels = data.train_images, data.train_labels
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    per_epoch = len(labels) // batch
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    generator = torch.Generator().manual_seed(0)
    means = []
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        losses = []
        for place in range(per_epoch):
            chosen = order[place * batch : (place + 1) * batch]
            loss = F.cross_entropy(model(images[chosen]).sum(0), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        means.append(statistics.mean(losses))
    return model, means


def test_a_followed_training_is_the_plain_one_and_prints_a_line_per_epoch(tmp_path: Path) -> None:
    shared = ["--timesteps=2", "--epochs=2", "--batch-size=128"]
    result = done(
        *shared, "--during-training", f"-o{tmp_path / 'f.json'}", f"-o{tmp_path / 'f.md'}"
    )
    sweep = read(tmp_path / "f.json")
    assert sweep.followed and sweep.mode == "stbp"
    assert [one.epoch for one in sweep.results] == [0, 1, 2]
    assert [one.label for one in sweep.results] == ["epoch 0", "epoch 1", "epoch 2"]

    model, losses = trained(2, 128)
    assert [one.training_loss for one in sweep.results] == [
        None, *(pytest.approx(loss, rel=1e-6) for loss in losses),
    ]  # fmt: skip
    data = data_sets.load("digits")
    plain = snnprof.coherence(model, data.train_images[:128], data.train_labels[:128])
    assert sweep.results[2].rows == plain.rows  # looking at it has not changed the training

    lines = [line.split() for line in result.stdout.splitlines()[:4]]
    assert lines[0][:3] == ["T", "epoch", "loss"]
    assert lines[1][:2] == ["2", "0"] and len(lines[1]) == 7  # no loss yet
    last, rows = lines[3], sweep.results[2].rows
    membranes = sorted(row.cosine_membrane or 0 for row in rows)
    assert last[:2] == ["2", "2"] and len(last) == 8
    assert float(last[2]) == pytest.approx(losses[1], abs=1e-5)
    assert float(last[3]) == pytest.approx((membranes[1] + membranes[2]) / 2, abs=6e-5)
    assert float(last[4]) == pytest.approx(membranes[0], abs=6e-5)
    assert "(T = 2, batch 128, epoch 2)" in result.stdout
    text = (tmp_path / "f.md").read_text()
    assert "during training (vgg5, hdlif, fp32, batch 128)" in text
    assert text.count("\n| 2 ") == 3  # a row per epoch

    done(*shared, f"-o{tmp_path / 'end.json'}")  # trained, then measured once
    (end,) = read(tmp_path / "end.json").results
    assert (end.rows, end.training_loss) == (sweep.results[2].rows, sweep.results[2].training_loss)
    assert (end.epoch, end.label) == (2, None)


@pytest.mark.parametrize("mode", ["online-step", "sltt-1", "ottt"])
def test_following_disturbs_no_mode(mode: str) -> None:
    settings = {"timesteps": 2, "epochs": 2, "batch_size": 256, "mode": mode, "device": "cpu"}
    before = torch.get_rng_state()
    followed = run_coherence(during_training=True, **settings)  # type: ignore[arg-type]
    plain = run_coherence(**settings)  # type: ignore[arg-type]
    assert followed.results[-1].rows == plain.results[0].rows
    assert followed.results[-1].training_loss == plain.results[0].training_loss
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_that_runs_out_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("as an allocator would")

    monkeypatch.setattr("snnprof.experiment.training_run.StepRunner", fail)
    assert "T=4: out of memory: try a smaller batch_size" in commands.refused("coherence")


def test_progress_is_told_of_every_step() -> None:
    told: list[int] = []
    steps: list[None] = []
    seen: list[int] = []
    progress = Progress(
        start=told.append,
        advance=lambda: steps.append(None),
        measured=lambda sweep: seen.append(len(sweep.results)),
    )
    run_coherence(
        timesteps=(1, 2), epochs=1, batch_size=512, during_training=True, device="cpu",
        progress=progress,
    )  # fmt: skip
    assert told == [4] and len(steps) == 4  # 1437 // 512 = 2 steps an epoch, for two T
    assert seen == [1, 2, 3, 4]


# --- scalars and pictures --------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: {
            event.step: tensor_util.make_ndarray(event.tensor_proto).item()
            for event in accumulator.Tensors(tag)
        }
        for tag in accumulator.Tags()["tensors"]
    }


def single(value: float) -> float:
    """The float32 next to it, as a double: what TensorBoard is given."""
    return torch.tensor(value, dtype=torch.float32).item()


def test_scalars_of_a_followed_training_have_the_epoch_as_step(tmp_path: Path) -> None:
    done(
        "--timesteps=1,2", "--epochs=1", "--batch-size=512", "--during-training",
        f"--tensorboard={tmp_path / 'runs'}", f"-o{tmp_path / 'f.json'}",
    )  # fmt: skip
    sweep = read(tmp_path / "f.json")
    runs = {folder.name for folder in (tmp_path / "runs").iterdir()}
    assert runs == {"coherence vgg5 hdlif fp32 stbp T=1", "coherence vgg5 hdlif fp32 stbp T=2"}
    found = scalars(tmp_path / "runs" / "coherence vgg5 hdlif fp32 stbp T=2")
    start, end = (one for one in sweep.results if one.timesteps == 2)
    least = "coherence/cosine of membranes, least"
    assert found[least] == {
        0: single(min(row.cosine_membrane or 0 for row in start.rows)),
        1: single(min(row.cosine_membrane or 0 for row in end.rows)),
    }
    assert found["training/loss"] == {1: single(end.training_loss)}
    fired = single(start.rows[1].fired), single(end.rows[1].fired)
    assert found["fired share/features.4"] == {0: fired[0], 1: fired[1]}


def test_scalars_over_t(tmp_path: Path) -> None:
    done("--timesteps=2,1", "--batch-size=4", f"--tensorboard={tmp_path}")
    (run,) = tmp_path.iterdir()
    assert run.name == "coherence vgg5 hdlif fp32"
    found = scalars(run)
    assert list(found["coherence/fired share, median"]) == [1, 2]
    assert "training/loss" not in found


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    shared = ["--batch-size=512", "--layers=features.*", "--timesteps=1,2"]
    done(*shared, f"-o{tmp_path / 'time.svg'}")
    done(*shared, "--epochs=1", "--during-training", f"-o{tmp_path / 'epochs.svg'}")
    time, epochs = ((tmp_path / name).read_text() for name in ("time.svg", "epochs.svg"))
    assert "time steps T" in time and "epochs of training" not in time
    assert "epochs of training" in epochs and "time steps T" not in epochs
    for label in ("T = 1, epoch 0", "T = 2, epoch 1", "T = 2", "weight"):
        assert label in epochs


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=vgg6"], "unknown model 'vgg6'; known: "),
        (["--neuron=if"], "unknown neuron 'if'; known: hdlif, ilif, lif"),
        (["--weights=int8"], "unknown weights 'int8'"),
        (["--variant=wings"], "unknown variant of hdlif 'wings'"),
        (["--variant=mode=stbp"], "give NAME or NAME=VALUE"),
        (["--mode=bptt"], "unknown mode 'bptt'"),
        (["--mode=sltt-3", "--timesteps=4,2"], "K = 3 is more than the T = 2"),
        (["--loss=hinge"], "unknown loss 'hinge'; known: mse, ottt, step, sum, tet"),
        (["--online-loss=hinge"], "unknown loss 'hinge'"),
        (["--data=mnist"], "unknown data set 'mnist'"),
        (["--layers=conv*"], "layers='conv*' matches no neuron layer; known: features.1"),
        (["--timesteps=0"], "timesteps=0: must be at least 1"),
        (["--timesteps=4,0"], "timesteps=0: must be at least 1"),
        (["--timesteps=4,,8"], "'' is not a valid integer"),
        (["--timesteps=four"], "'four' is not a valid integer"),
        (["--batch-size=0"], "batch_size=0"),
        (["--batch-size=1"], "batch_size=1: batch norm needs at least 2 samples"),
        (["--batch-size=5000"], "batch_size=5000 is more than the 1437 training images"),
        (["--epochs=-1"], "epochs=-1"),
        (["--learning-rate=nan"], "learning_rate=nan"),
        (["--during-training"], "during_training with epochs=0"),
        (["--device=tpu"], "unknown device 'tpu'"),
        (
            ["-otable.xls"],
            "unknown suffix '.xls'; known: .md, .csv, .tex, .json, .parquet",
        ),
        (["-onowhere/table.md"], "there is no directory 'nowhere'"),
        (["-onowhere/table.svg"], "there is no directory"),
        (["--tensorboard=no/where"], "there is no directory 'no'"),
        ([f"--tensorboard={__file__}"], "is a file: name a folder"),
        (["--tensorboard="], "scalars folder '': name a folder"),
        (["--neuron=lif", "--timesteps=1000000000"], "out of memory"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_nothing_is_trained_before_everything_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "snnprof.experiment.coherence_run.train_epochs", lambda *_, **__: pytest.fail("trained")
    )
    wrong = ("--layers=x", "--loss=x", "--online-loss=x", f"-o{tmp_path / 'x'}", "--timesteps=4,0")
    for bad in (*wrong, f"--tensorboard={tmp_path / 'a' / 'b'}"):
        refused("--epochs=1", bad)


def test_a_picture_without_matplotlib_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("snnprof.cli.coherence.run_coherence", lambda **_: pytest.fail("worked"))
    assert "pip install 'snnprof[plots]'" in refused(f"-o{tmp_path / 'x.svg'}")


def test_a_training_that_diverges_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(image_size: int | None, seed: int) -> data_sets.Dataset:
        data = data_sets.random(8, seed)
        data.train_images[200, 0, 0, 0] = float("nan")  # not in the batch that is measured
        return data

    monkeypatch.setitem(data_sets.DATA_SETS, "poisoned", poisoned)
    message = refused("--data=poisoned", "--epochs=1", "--timesteps=1")
    assert re.search(r"the loss is nan at step \d+ \(epoch 1\): look for NaN in the data", message)


# --- the parts -------------------------------------------------------------------------------


def test_a_summary_by_hand() -> None:
    rows = tuple(
        snnprof.LayerCoherence(
            name, "hdlif", True, None, fired,
            identity_residual=residual, cosine_membrane=membrane, cosine_weight=None,
        )
        for name, fired, residual, membrane in (
            ("a", 0.1, 1e-9, 0.9), ("b", 0.4, None, None), ("c", 0.2, 1e-8, 0.6),
            ("d", 0.3, 0.0, 0.8),
        )
    )  # fmt: skip
    line = summary(snnprof.CoherenceResult(rows, 4, 2, "sum", "sum", "float32", "cpu", True))
    assert (line.cosine_membrane, line.least_membrane) == (0.8, 0.6)  # of 0.6, 0.8, 0.9
    assert line.cosine_weight is None  # frozen: no figure, not 0
    assert line.fired == 0.25  # between 0.2 and 0.3
    assert line.identity_residual == 1e-8
    assert line.cells() == ("4", "", "", "0.8000", "0.6000", "", "25.00", "1.000e-08")


def test_whole_numbers() -> None:
    for text, numbers in (("4", (4,)), ("4,8, 16", (4, 8, 16)), ("-1", (-1,)), ((1, 2), (1, 2))):
        assert WHOLE_NUMBERS.convert(text, None, None) == numbers
    for text in ("", "4,", "4.5", "1_000", "\u0664", "9" * 5000):
        with pytest.raises(click.BadParameter, match="not a valid integer"):
            WHOLE_NUMBERS.convert(text, None, None)


def test_variants() -> None:
    assert parse_variant("connect=iand") == ("connect", "iand")
    assert parse_variant("seca") == ("seca", True)
    assert parse_variant("a=b=c") == ("a", "b=c")
    for text in ("", "=x", "two words", "model=x"):
        with pytest.raises(snnprof.SnnprofError, match="NAME=VALUE"):
            parse_variant(text, {"model"})


def test_help_teaches() -> None:
    text = " ".join(call("--help").stdout.split())
    for phrase in (
        "--timesteps",
        "mse, ottt, step, sum, tet",
        "Examples:",
        "--during-training",
        "sltt-K",
    ):
        assert phrase in text


def test_a_sweep_of_the_librarys_is_one_file(tmp_path: Path) -> None:
    data = data_sets.load("digits")
    x, y = data.train_images[:4], data.train_labels[:4]
    results = snnprof.coherence_sweep(network, x, y, timesteps=(1, 2))
    sweep = CoherenceSweep(results)
    sweep.save(tmp_path / "s.json")
    assert snnprof.load(tmp_path / "s.json") == sweep
    assert sweep.to_frame()["timesteps"].tolist() == [1] * 4 + [2] * 4
    sweep.save(tmp_path / "s.md")
    text = (tmp_path / "s.md").read_text()
    assert text.startswith("# Online against STBP gradients (batch 4)")
    assert "trivially 1. (T = 1)" in text


STEPPED = """
import torch
from torch import nn
import snnprof
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.neuron import detach, reset

class Net(nn.Module):
    def __init__(self, timesteps):
        super().__init__()
        self.first, self.neuron = nn.Linear(64, 32), HDLIF(timesteps)
        self.last = nn.Linear(32, 10)
    def forward(self, x):  # one time step, [B, ...]
        return self.last(self.neuron(self.first(x.flatten(1)).unsqueeze(0))[0])

def build(timesteps):
    model = Net(timesteps)
    return snnprof.stepwise(model, reset=lambda: reset(model), detach=lambda: detach(model))
"""


def test_a_model_that_is_called_once_per_time_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stepped_net.py").write_text(STEPPED)
    sweep = run_coherence("stepped_net:build", timesteps=4, batch_size=16, device="cpu")
    (result,) = sweep.results
    assert (result.timesteps, result.batch) == (4, 16)
    (row,) = result.rows
    assert (row.name, row.weights) == ("neuron", ("first.weight",))
    (again,) = run_coherence(
        "stepped_net:build", timesteps=2, layers="neuron*", device="cpu"
    ).results
    assert again.rows[0].name == "neuron"
    assert row.identity_claimed
    assert row.identity_residual is not None
    assert row.identity_residual < 1e-5
    assert row.cosine_membrane is not None
    assert row.cosine_membrane < 1  # T = 4 is not trivial


def test_a_stepped_model_without_a_known_neuron_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = STEPPED.replace("HDLIF(timesteps)", "nn.ReLU()")
    (tmp_path / "stepped_relu.py").write_text(text)
    with pytest.raises(snnprof.SnnprofError, match="Net has no neuron whose membrane is known"):
        run_coherence("stepped_relu:build", timesteps=2, device="cpu")


def test_an_identity_that_does_not_hold_is_a_remark() -> None:
    class Other(HDLIF):
        def run(
            self, currents: torch.Tensor, membrane: torch.Tensor | None
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            spikes, left = super().run(currents, membrane)
            return spikes + 0.5 * spikes.roll(1, 0), left

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), Other(4), nn.Linear(16, 10))
    result = snnprof.coherence(model, torch.randn(4, 6, 8), torch.arange(6))
    assert any("does not hold" in remark for remark in result.remarks)

"""Energy of training in a run: a training step of the row's mode, counted, nothing changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import snnprof
from snnprof.cli.main import cli
from snnprof.energy.conventions import CONVENTIONS, FORMULAS, energy_convention
from snnprof.experiment.settings import Settings
from snnprof.experiment.training_counts import count_training
from snnprof.experiment.training_run import TrainingRun
from snnprof.models import create
from snnprof.render.report_table import Presented
from snnprof.render.table import view
from snnprof.render.tensorboard import scalars
from snnprof.results import Report
from snnprof.training.step_runner import StepRunner, StepSetup

from ..support.networks import Step
from ..support.registries import kept

STEPS, BATCH = 4, 6


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Registrations of one test are gone in the next."""
    with kept(CONVENTIONS, FORMULAS):
        yield


def report(modes: list[str], **settings: object) -> Report:
    """A run of vgg5 on one batch of 6 images of 8x8 pixels."""
    images = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batches = [(images, torch.arange(BATCH))]
    given = {"timesteps": STEPS, "epochs": 0, "energy": ["operands", "sata"]}
    return snnprof.run(
        "vgg5", modes=modes, data=(batches, batches), device="cpu", **{**given, **settings}
    )


@pytest.fixture(scope="module")
def of_modes() -> dict[str, snnprof.ReportRow]:
    """The same weights (untrained) and the same batch in every mode."""
    found = report(
        ["stbp", "stbp-checkpoint", "online", "ottt", "online-step", "sltt-1", "random-bp"],
        loss="step",
    )
    assert [row.failure for row in found.rows] == [None] * 7
    return {str(row.mode): row for row in found.rows}


def gradients(row: snnprof.ReportRow) -> list[snnprof.GradientCount]:
    assert row.training_counts is not None
    return [layer.gradient for layer in row.training_counts.rows if layer.gradient is not None]


def nonzeros(row: snnprof.ReportRow) -> list[int]:
    """Of layers and of neurons: batch norms fill the former, the latter have zeros."""
    assert row.training_counts is not None
    neurons = [neuron.gradient for neuron in row.training_counts.neurons]
    found = [count for count in (*gradients(row), *neurons) if count is not None]
    assert any(0 < count.nonzeros < count.reached for count in found)
    return [count.nonzeros for count in found]


def shares(row: snnprof.ReportRow) -> set[float]:
    return {found.reached_share for found in gradients(row)}


def test_it_has_a_figure_of_its_own(of_modes: dict[str, snnprof.ReportRow]) -> None:
    row = of_modes["online"]
    assert [energy.table for energy in row.energies] == ["operands"]
    (energy,) = row.training_energies
    assert (energy.table, energy.phase) == ("sata", "training")
    assert energy.total_j == snnprof.price(row.training_counts, "sata").total_j > 0
    # Every layer and every layer of neurons, the classifier too.
    assert {layer.name for layer in row.training_counts.rows} <= set(energy.by_layer())
    assert energy.not_billed == ()


def test_recomputed_blocks_and_traces_leave_the_gradients_as_they_are(
    of_modes: dict[str, snnprof.ReportRow],
) -> None:
    assert nonzeros(of_modes["stbp-checkpoint"]) == nonzeros(of_modes["stbp"])
    assert nonzeros(of_modes["ottt"]) == nonzeros(of_modes["online"])
    # Nothing is updated between the steps of online-step, so that they are those of online.
    assert nonzeros(of_modes["online-step"]) == nonzeros(of_modes["online"])
    for mode in ("stbp", "stbp-checkpoint", "online", "ottt", "online-step"):
        assert shares(of_modes[mode]) == {1.0}
        assert of_modes[mode].training_counts.samples == BATCH


def test_sltt_has_the_gradients_of_online_at_one_of_t_steps(
    of_modes: dict[str, snnprof.ReportRow],
) -> None:
    """Over the T draws every step is drawn once: together they have the events of online."""
    one, online = of_modes["sltt-1"], of_modes["online"]
    assert nonzeros(one) == nonzeros(online)
    assert shares(one) == {1 / STEPS}
    assert one.training_counts.samples == STEPS * BATCH
    for layer, other in zip(one.training_counts.rows, online.training_counts.rows, strict=True):
        assert layer.synops == STEPS * other.synops  # all forward steps run in each draw
        assert layer.gradient_density == other.gradient_density / STEPS
    parts = {mode: by_part(of_modes[mode].training_energies[0]) for mode in ("sltt-1", "online")}
    for part in ("backward MAC", "weight update AC", "gradient"):
        assert near(parts["sltt-1"][part], parts["online"][part] / STEPS)
    for part in ("forward AC", "update"):
        assert near(parts["sltt-1"][part], parts["online"][part])


def test_random_bp_runs_no_step_after_the_one_that_it_drew(
    of_modes: dict[str, snnprof.ReportRow],
) -> None:
    """1 + 2 + 3 + 4 steps forward over the 4 draws, one backward in each."""
    row, online = of_modes["random-bp"], of_modes["online"]
    assert nonzeros(row) == nonzeros(online)
    assert shares(row) == {4 / 10}
    (whole,) = {found.elements for found in gradients(online)[:1]}
    assert gradients(row)[0].elements == whole * 10 // 4


def by_part(energy: snnprof.EnergyResult) -> dict[str, float]:
    parts: dict[str, float] = {}
    for row in energy.rows:
        parts[row.operation] = parts.get(row.operation, 0.0) + row.energy_j
    return parts


def near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-12 * abs(other)


class Zeroing(torch.optim.SGD):
    """It clears gradients in place, as torch's did by default."""

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=False)


@pytest.mark.parametrize("mode", ["stbp", "sltt-2", "online-step", "stbp-checkpoint"])
def test_a_rehearsal_changes_nothing(mode: str) -> None:
    torch.manual_seed(0)
    model = create("vgg5", timesteps=STEPS, in_channels=1, image_size=8)
    x, y = torch.rand(BATCH, 1, 8, 8), torch.arange(BATCH)
    setup = StepSetup(model, mode, optimizer=partial(Zeroing, lr=0.1, momentum=0.9))
    runner = StepRunner(setup, model, torch.device("cpu"))
    runner.run(x, y)  # gradients and the optimiser's momentum are there
    before = copy.deepcopy(runner.state_dict())
    held = [p.grad for p in model.parameters()]
    values = [None if g is None else g.clone() for g in held]
    run = runner.rehearse(x, y)
    assert run.backward_passes > 0
    assert run.optimizer_steps == 0
    after = runner.state_dict()
    assert flat(after["optimizer"]) == flat(before["optimizer"])
    assert torch.equal(after["drawn"], before["drawn"])
    for parameter, gradient, value in zip(model.parameters(), held, values, strict=True):
        assert parameter.grad is gradient
        assert value is None or torch.equal(parameter.grad, value)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before["model"][name])


def flat(value: object) -> object:
    """Tensors as lists, to be compared."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, list | tuple) else value


def small() -> nn.Module:
    """Linear layers with a batch norm, a dropout and neurons that keep their membrane."""
    torch.manual_seed(0)
    net = Step()
    net.second = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.5), net.second)
    return net


def of_own_data(**settings: object) -> Report:
    """A run on 24 samples of 6 features, 3 classes."""
    x = 4 * torch.rand(24, 6, generator=torch.Generator().manual_seed(0))
    batches = [(x[i : i + 6], x[i : i + 6, :3].argmax(1)) for i in range(0, 24, 6)]
    given = {"timesteps": STEPS, "epochs": 1, "device": "cpu", "energy": ["operands", "sata"]}
    return snnprof.run(small, data=(batches, batches), **{**given, **settings})


def test_what_is_trained_on_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, gradients, running statistics, membranes and random numbers."""

    def state(runs: Sequence[TrainingRun]) -> list[object]:
        (run,) = runs
        assert run.meter is not None
        runner = run.meter.runner
        model = runner.stepped.model
        kept = runner._generator.get_state()
        membranes = [flat(vars(m).get("membrane")) for m in model.modules()]
        grads = [flat(p.grad) for p in model.parameters()]
        held = [flat(dict(model.state_dict())), flat(runner.optimizer.state_dict())]
        return [*held, membranes, grads, kept.tolist(), torch.get_rng_state().tolist()]

    moved: list[int] = []

    def watched(runs: Sequence[TrainingRun], settings: Settings) -> None:
        norm = runs[0].meter.runner.stepped.model.second[0]
        norm.register_forward_hook(lambda m, args, out: moved.append(int(m.num_batches_tracked)))
        before = state(runs)
        count_training(runs, settings)
        assert state(runs) == before

    monkeypatch.setattr("snnprof.experiment.run.count_training", watched)
    (row,) = of_own_data(modes="sltt-1").rows
    assert row.failure is None
    assert row.training_energies[0].total_j > 0
    first = 4 * STEPS  # batches of the one epoch
    assert moved == [first + step for _ in range(STEPS) for step in range(1, STEPS + 1)]


def test_columns_files_and_notes_keep_it_apart() -> None:
    assert of_own_data(modes="stbp").to_frame().columns[-1] == "training_energy_sata_j"
    found = report(["stbp", "sltt-1"], baseline="dense")
    frame = found.to_frame()
    assert not [name for name in frame if "sata" in name and "ratio" in name]
    assert frame["training_energy_sata_j"].isna().tolist() == [False, False, True]  # the dense row
    text = str(found)
    assert "training energy, sata (µJ)" in view(found).columns
    assert f"counted on {BATCH} training samples" in text
    assert f"sltt-1 draws its time steps: training energy is the mean of {STEPS} draws" in text
    assert "Training energy convention sata" in text
    # --columns energy is of inference; so are --fail-if energy and assert_energy_below.
    only = view(Presented(found, ("model", "energy"))).columns
    assert only == ("model", "energy, operands (µJ)", "energy, dense (µJ)")
    changed = snnprof.compare(found, found)
    assert "training energy sata" in {each.figure for each in changed.figures}
    assert not [each for each in changed.beyond("energy>-50%") if "sata" in each.figure]
    tags = [tag for tag in scalars(found.rows[0]) if "sata" in tag]
    assert tags == ["training/energy, sata, J per sample"]
    with pytest.raises(AssertionError, match="operands"):
        snnprof.assert_energy_below(found.rows[0], 0.0)


def saved(found: Report, folder: Path) -> str:
    path = folder / "report.json"
    found.save(path)
    assert snnprof.load(path) == found
    return str(path)


def test_a_saved_report_is_priced_again(tmp_path: Path) -> None:
    file = saved(report(["stbp"], save=tmp_path / "weights"), tmp_path)
    (weights,) = (tmp_path / "weights").iterdir()
    assert b"training_energies_j" in weights.read_bytes()
    prices = tmp_path / "mine.toml"
    prices.write_text(
        '[conventions.sata-45nm]\nformula = "sata"\nac = "ac-45nm-fp16"\nmac = "mac-45nm-fp16"\n'
        'description = "{ac}, {mac}"\nleaves_out = "memory"\nsource = "Horowitz"\n'
    )
    out = tmp_path / "again.json"
    ran = CliRunner().invoke(cli, ["price", file, "--energy", str(prices), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    (row,) = snnprof.load(out).rows
    assert [energy.table for energy in row.training_energies] == ["sata-45nm"]
    assert row.energies == ()
    plain = json.loads(Path(file).read_text())
    del plain["crc32"]
    for each in plain["result"]["rows"]:  # as a file of before has it
        del each["training_counts"], each["training_energies"]
    Path(file).write_text(json.dumps(plain))
    assert snnprof.load(file).rows[0].training_energies == ()
    ran = CliRunner().invoke(cli, ["price", file, "--energy", "sata"])
    assert ran.exit_code == 2
    assert "no counts of a training step" in ran.output
    assert "snnprof run --energy sata" in ran.output


def test_a_row_of_ones_own(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with snnprof.SopCounter(net, samples=5, gradients=True) as sops:
        net(torch.rand(5, 3)).sum().backward()
    row = snnprof.row("mine", counts=sops.result(), energy=["operands", "sata"])
    assert [energy.table for energy in row.energies] == ["operands"]
    assert [energy.table for energy in row.training_energies] == ["sata"]
    with pytest.raises(snnprof.SnnprofError, match="one of ours"):
        snnprof.row("mine", counts=sops.result(), **{"training energy, sata": 1.0})


def test_where_nothing_runs_backward_it_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="a summary has no backward pass"):
        snnprof.summary(nn.Linear(3, 2), torch.rand(1, 3), energy="sata")
    ran = CliRunner().invoke(cli, ["summary", "--energy", "sata"])
    assert ran.exit_code == 2
    assert "a summary has no backward pass" in ran.output


def test_a_convention_of_ones_own_says_that_it_needs_gradients() -> None:
    @energy_convention("mine", description="d", leaves_out="l", source="s", training=True)
    def mine(row: snnprof.LayerCount) -> tuple[str, float, float]:
        assert row.gradient is not None
        return "gradient", row.gradient.nonzeros, 1e-12

    (row,) = report(["stbp"], energy="mine").rows
    expected = sum(found.nonzeros for found in gradients(row)) / BATCH
    assert near(row.training_energies[0].total_j, expected * 1e-12)


def test_nothing_is_run_where_nobody_asks() -> None:
    (row,) = of_own_data(modes="stbp", energy="operands").rows
    assert (row.training_counts, row.training_energies) == (None, ())

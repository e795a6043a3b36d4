"""``--baseline``: the dense row of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.energy.pricing import price
from snnprof.experiment.checkpoint import saved_configuration
from snnprof.render.table import records, view
from snnprof.results import Report, ReportRow

from ..energy.test_dense_baseline import PJ, two_layers
from ..energy.test_dense_baseline import dense as counted_dense
from ..energy.test_dense_baseline import spiking as counted_spiking
from ..support.commands import call
from ..support.networks import Step

QUICK: dict[str, Any] = {
    "data": "random",
    "image_size": 8,
    "timesteps": 2,
    "epochs": 0,
    "modes": "stbp",
    "batch_size": 2,
    "device": "cpu",
    "baseline": "dense",
}


def quick(**given: Any) -> Report:
    return snnprof.run(**{**QUICK, **given})


def energy_j(row: ReportRow, table: str) -> float:
    return next(energy.total_j for energy in row.energies if energy.table == table)


def build_two_layers() -> nn.Module:
    return two_layers()


Batches = list[tuple[Tensor, Tensor]]


def image() -> tuple[Batches, Batches]:
    """Train and test; the image of test_dense_baseline, twice, for 0 and 1 are its labels."""
    batches = [(torch.tensor([[0.3, 0.0, 1.7]] * 2), torch.tensor([0, 1]))]
    return batches, batches


def sequences() -> tuple[Batches, Batches]:
    batches = [(torch.rand(2, 3, 3), torch.tensor([0, 1, 0]))]
    return batches, batches


def by_hand(**given: Any) -> Report:
    return snnprof.run(
        **{
            "model": build_two_layers,
            "data": image,
            "timesteps": 2,
            "epochs": 0,
            "modes": "stbp",
            "layout": "time-first",
            "device": "cpu",
            "baseline": "dense",
            **given,
        }
    )


def test_a_table_by_hand() -> None:
    # The numbers of test_dense_baseline: 80.8 pJ, 92 pJ and 55.2 pJ.
    report = by_hand()
    spiking, dense = report.rows
    assert (dense.mode, dense.neuron, dense.timesteps) == ("dense", "relu", 1)
    assert dense.baseline_of == dense.model == spiking.model
    assert energy_j(spiking, "operands") == pytest.approx(80.8 * PJ, rel=1e-12, abs=0)
    assert energy_j(dense, "dense") == pytest.approx(92 * PJ, rel=1e-12, abs=0)
    assert energy_j(dense, "operands") == pytest.approx(55.2 * PJ, rel=1e-12, abs=0)
    first, second = records(report)
    assert first["energy_operands_ratio_to_dense"] == pytest.approx(80.8 / 92)
    assert second["energy_operands_ratio_to_dense"] == pytest.approx(55.2 / 92)
    assert second["energy_dense_ratio_to_dense"] == 1
    assert first["break_even_rate_operands"] == pytest.approx(0.5 * 18.4 / 7.2)
    assert second["break_even_rate_operands"] is None
    assert first["accuracy"] is not None  # the builder may bring trained weights
    assert second["accuracy"] is None  # they were trained for spikes
    shown = view(report)
    cells = {name: [row[n] for row in shown.rows] for n, name in enumerate(shown.columns)}
    assert cells["energy, operands, ratio to dense"] == ["0.8783x", "0.6000x"]
    assert cells["break-even firing rate, operands (%)"] == ["127.78", ""]
    assert any(note.startswith("Ratio to dense: a row's energy over") for note in shown.notes)
    assert not any("register_neuron" in note for note in shown.notes)


def test_a_row_per_model_and_seed() -> None:
    report = quick(weights=["1bit", "fp32"], seed=[0, 1])
    dense = [row for row in report.rows if row.baseline_of]
    assert [(row.weights, row.seed) for row in dense] == [("fp32", 0), ("fp32", 1)]
    assert len(report.rows) == 2 * 2 + 2
    assert {row.baseline_of for row in dense} == {"vgg5"}
    for row in dense:
        assert row.counts is not None
        macs = row.counts.per_sample("nominal_macs")
        # 9*3*64*8*8 + 9*64*128*4*4 + 9*128*128*4*4 + 512*128 + 128*10
        assert macs == 110_592 + 1_179_648 + 2_359_296 + 65_536 + 1_280
        assert energy_j(row, "dense") == pytest.approx(macs * 4.6 * PJ, rel=1e-12, abs=0)
    ratios = [record["energy_operands_ratio_to_dense"] for record in records(report)]
    assert None not in ratios


def test_it_is_trained_on_the_same_batches_like_the_others() -> None:
    batches = [(torch.rand(4, 6), torch.tensor([0, 1, 2, 0])) for _ in range(3)]
    data = (batches, batches)
    lone = snnprof.run(
        model=build_relu, data=data, timesteps=1, epochs=2, modes="stbp", device="cpu"
    )
    both = snnprof.run(
        model=build_lif, data=data, timesteps=2, epochs=2, modes="stbp", device="cpu",
        baseline="dense",
    )  # fmt: skip
    assert both.rows[1].loss == pytest.approx(lone.rows[0].loss)
    assert both.rows[1].loss != pytest.approx(both.rows[0].loss)
    assert both.rows[1].accuracy is not None


def build_lif(timesteps: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), *two_layers()[1:2], nn.Linear(8, 3))


def build_relu(timesteps: int) -> nn.Module:
    first = nn.Linear(6, 8)
    two_layers()  # takes from the generator what it takes in build_lif
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, 3))


def build_dense(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))


def test_a_dense_network_of_ones_own() -> None:
    report = quick(baseline=build_dense)
    dense = report.rows[-1]
    assert (dense.model, dense.baseline_of) == (f"{__name__}:build_dense", "vgg5")
    assert (dense.neuron, dense.weights, dense.mode, dense.timesteps) == (None, None, "dense", 1)
    assert dense.layout == "step"  # though it takes [B, 1, C, H, W] as well
    assert energy_j(dense, "dense") == pytest.approx(192 * 10 * 4.6 * PJ, rel=1e-12, abs=0)
    assert records(report)[0]["energy_operands_ratio_to_dense"] > 1


def build_twin() -> nn.Module:
    network = snnprof.models.create("vgg5", timesteps=1, in_channels=3, image_size=8)
    return snnprof.dense_twin(network)


def test_a_twin_that_is_given_as_ones_own() -> None:
    ours, own = quick(), quick(baseline=build_twin)
    assert own.rows[1].layout == "time-first"
    assert energy_j(own.rows[1], "dense") == energy_j(ours.rows[1], "dense")


def test_saved_and_priced_again(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    quickly = ["--data=random", "--image-size=8", "--epochs=0", "--mode=stbp", "--batch-size=2"]
    done = call("run", *quickly, "--timesteps=2", "--baseline=dense", f"-o{file}")
    assert done.exit_code == 0, done.output
    report = snnprof.load(file)
    assert isinstance(report, Report)
    assert [row.baseline_of for row in report.rows] == [None, "vgg5"]
    again = tmp_path / "p.json"
    done = call("price", str(file), "--energy=spikformer", "--precision=int8", f"-o{again}")
    assert done.exit_code == 0, done.output
    priced = snnprof.load(again)
    assert isinstance(priced, Report)
    tables = [[energy.table for energy in row.energies] for row in priced.rows]
    assert tables == [["spikformer+int8"], ["dense+int8"]]
    assert records(priced)[0]["energy_spikformer+int8_ratio_to_dense"] > 0


def test_saved_weights_name_no_neuron_and_no_mode(tmp_path: Path) -> None:
    report = quick(save=tmp_path / "w", neuron="lif")
    assert not any(row.failure for row in report.rows)
    saved = saved_configuration(tmp_path / "w" / "vgg5-relu-fp32-dense-T1-seed0.safetensors")
    assert saved is not None
    assert saved["settings"]["model"] == "vgg5"
    assert {"neuron", "modes"}.isdisjoint(saved["settings"])


def test_conventions_of_spikes_are_said_to_be_left_out() -> None:
    report = quick(energy=["spikformer", "operands"])
    assert [e.table for e in report.rows[-1].energies] == ["dense", "operands"]
    (note,) = (note for note in view(report).notes if "not priced under" in note)
    assert note.startswith("vgg5 relu fp32 dense T1: not priced under spikformer, where")


def test_after_other_prices_the_conventions_left_out_are_the_others(tmp_path: Path) -> None:
    spiking, dense = counted_spiking(), counted_dense()
    row = ReportRow("a", counts=spiking, energies=(price(spiking, "spikformer"),))
    beside = ReportRow("a", mode="dense", counts=dense, baseline_of="a")
    beside = replace(beside, energies=(price(dense, "dense"),))
    snnprof.save(Report((row, beside)), tmp_path / "a.json")
    for given, notes in (("odin", ["a dense: not priced under odin"]), ("operands", [])):
        done = call("price", str(tmp_path / "a.json"), "--energy", given)
        assert done.exit_code == 0, done.output
        found = [line for line in done.output.splitlines() if "not priced under" in line]
        assert [line.partition(",")[0].removeprefix("- ") for line in found] == notes


def test_in_a_table_of_ones_own() -> None:
    spiking = snnprof.row("mine", counts=counted_spiking(), mode="stbp")
    dense = snnprof.row("mine", counts=counted_dense(), mode="ann", baseline_of="mine")
    first, second = records(snnprof.report([spiking, dense]))
    assert first["energy_operands_ratio_to_dense"] == pytest.approx(80.8 / 92)
    assert second["energy_operands_ratio_to_dense"] == pytest.approx(55.2 / 92)


def test_another_networks_dense_row_is_no_baseline() -> None:
    report = by_hand()
    spiking, dense = report.rows
    other = replace(report, rows=(replace(spiking, model="another"), dense))
    assert records(other)[0]["energy_operands_ratio_to_dense"] is None
    elsewhere = replace(report, rows=(spiking, replace(dense, data="other")))
    assert records(elsewhere)[0]["energy_operands_ratio_to_dense"] is None


def build_stepwise() -> object:
    model = two_layers()
    return snnprof.stepwise(model, reset=lambda: None, detach=lambda: None)


def build_unknown() -> nn.Module:
    return Step(3, 2)


class Repeating(nn.Module):
    """[B, 3] to [B, 2], T inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = two_layers()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.expand(2, *x.shape)).mean(0)
        snnprof.reset(self)
        return out


def build_repeating() -> nn.Module:
    return Repeating()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"baseline": "sparse"},
            "unknown baseline 'sparse'; known: dense, quantised; or a function",
        ),
        ({"baseline": build_two_layers}, "is the model itself"),
        ({"model": build_stepwise, "layout": "auto"}, r"the builder returns snnprof.stepwise"),
        (
            {"model": build_unknown, "layout": "auto"},
            "baseline 'dense': Step has no layer of neurons that snnprof knows",
        ),
        (
            {"model": build_repeating, "layout": "inside"},
            "runs its time steps inside its forward, and its builder has no parameter 'timesteps'",
        ),
        (
            {"data": sequences},
            "baseline: the data are sequences of time steps",
        ),
        ({"isolate": True}, "baseline: .*leave isolate out"),
        ({"baseline": "nosuchmodule:f"}, "^baseline 'nosuchmodule:f': cannot import"),
        ({"baseline": f"{__name__}:nosuch"}, "^baseline '.*:nosuch': .*no function 'nosuch'"),
    ],
)
def test_what_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SnnprofError, match=message) as error:
        by_hand(**given)
    assert "\n" not in str(error.value)


def test_joining_by_logic_has_no_dense_twin() -> None:
    with pytest.raises(SnnprofError, match=r"connect=iand joins spikes of 0 and 1 by logic"):
        quick(model="sew_resnet18", connect="iand")


def test_the_quantised_row() -> None:
    report = quick(baseline="quantised", timesteps=5, energy="operands+int8")
    spiking, quantised = report.rows
    assert (quantised.neuron, quantised.weights) == ("relu+3bit", "8bit")  # 6 values: 3 bits
    assert quantised.counts is not None
    macs = quantised.counts.per_sample("nominal_macs")
    assert macs is not None
    assert energy_j(quantised, "dense+int8") == pytest.approx(macs * 0.23 * PJ, rel=1e-12, abs=0)
    # Integers are multiplied here: a MAC each, not k accumulates.
    (operands,) = (e for e in quantised.energies if e.table == "operands+int8")
    integers = {row.name for row in quantised.counts.rows if row.input_kind == "INTEGER"}
    assert integers
    assert {row.operation for row in operands.rows if row.name in integers} == {"MAC"}
    assert quantised.size_bytes is None and spiking.size_bytes is not None
    ratio = records(report)[0]["energy_operands+int8_ratio_to_dense"]
    assert ratio == pytest.approx(
        energy_j(spiking, "operands+int8") / (macs * 0.23 * PJ), rel=1e-12, abs=0
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"baseline 'quantised' has a price at int8 alone.*--precision int8"),
        ({"energy": "operands+int8", "timesteps": [2, 4]}, "has its bits by T: give one timesteps"),
    ],
)
def test_what_the_quantised_row_needs(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SnnprofError, match=message):
        by_hand(baseline="quantised", **given)

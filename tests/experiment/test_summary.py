"""A model's summary: the tree, its figures, and fvcore's count beside ours."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.counting.module_outputs import shape_words
from snnprof.render.table import records, view
from snnprof.results import ModelSummary
from snnprof.spiking.lif import LIF


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))


class Net(nn.Module):
    """A stem, a block, a product of two activations, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1)
        self.block = Block()
        self.fc = nn.Linear(3 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(self.stem(x))
        y = y @ y.transpose(-1, -2)
        return self.fc(y.flatten(1))


X = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
# Per sample: stem 1*2*16 = 32; block.conv 9 taps * 2 * 3 * 16 = 864; product 3 * 4*4*4 = 192;
# fc 48 * 5 = 240.
MACS = {"stem": 32, "block.conv": 864, "Net.matmul": 192, "fc": 240}


def by_module(summary: ModelSummary) -> dict[str, dict[str, object]]:
    return {row["module"]: row for row in records(summary)}


def test_the_tree_has_what_was_counted_in_each_module() -> None:
    summary = snnprof.summary(Net(), X)
    rows = by_module(summary)
    assert [*rows] == ["Net", "stem", "block", "block.conv", "block.relu", "fc", "Net.matmul"]
    assert {name: rows[name]["nominal_macs"] for name in MACS} == MACS
    assert rows["Net"]["nominal_macs"] == sum(MACS.values()) == 1328
    assert rows["block"]["nominal_macs"] == 864
    assert rows["block.relu"]["nominal_macs"] is None
    # stem 2*1 + 2 = 4; block.conv 9*2*3 = 54; fc 48*5 + 5 = 245
    assert [rows[name]["parameters"] for name in ("Net", "stem", "block", "fc")] == [
        303,
        4,
        54,
        245,
    ]
    assert rows["block"]["output_shape"] == "[B, 3, 4, 4]"
    assert rows["Net"]["synops"] == summary.counts.per_sample("synops")
    assert rows["Net"]["energy_operands_j"] == pytest.approx(
        summary.energies[0].total_j, rel=1e-12, abs=0
    )
    assert [rows[name]["depth"] for name in ("Net", "block", "block.conv")] == [0, 1, 2]


def test_depth_folds_modules_into_those_around_them() -> None:
    folded = by_module(snnprof.summary(Net(), X, depth=1))
    assert [*folded] == ["Net", "stem", "block", "fc", "Net.matmul"]
    assert folded["block"]["nominal_macs"] == 864
    assert [*by_module(snnprof.summary(Net(), X, depth=0))] == ["Net"]
    with pytest.raises(snnprof.SnnprofError, match="depth=-1"):
        snnprof.summary(Net(), X, depth=-1)


def test_nominal_macs_are_fvcores() -> None:
    check = snnprof.summary(Net(), X).check
    assert check is not None
    assert (check.macs, check.fvcore_macs, check.differing) == (1328, 1328, ())
    assert check.modules == 4  # the product is the model's own
    notes = " ".join(view(snnprof.summary(Net(), X)).notes)
    assert "fvcore counts the same 1,328 per sample" in notes


class GridSample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.grid_sample(x, torch.zeros(len(x), 2, 2, 2), align_corners=False)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(2),
        nn.GroupNorm(2, 2),
        nn.LayerNorm([2, 4, 4]),
        nn.InstanceNorm2d(2, affine=True),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d(2),
        GridSample(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_fvcore_counts_beside_macs_is_no_difference(layer: nn.Module) -> None:
    check = snnprof.summary(nn.Sequential(nn.Conv2d(1, 2, 1), layer), X).check
    assert check is not None
    # 1 * 2 * 16 MACs of the convolution
    assert (check.macs, check.fvcore_macs, check.differing) == (32, 32, ())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = self.fc(x)
        return nn.functional.scaled_dot_product_attention(q, q, q)


def test_a_layer_that_fvcore_does_not_know_is_named_with_the_reason() -> None:
    summary = snnprof.summary(nn.Sequential(Attention()), torch.rand(2, 3, 4))
    assert summary.check is not None
    (differing,) = summary.check.differing
    # 2 products of 3 * 3 * 4
    assert (differing.name, differing.macs, differing.fvcore_macs) == ("0", 72, 0)
    assert differing.reason == "fvcore has no formula for scaled_dot_product_attention"
    notes = " ".join(view(summary).notes)
    assert "differ in 1 of 2 modules" in notes
    assert "0: 72, by fvcore 0 (fvcore has no formula" in notes


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if torch._C._get_tracing_state() is not None:
            raise RuntimeError("not\nhere")
        out: Tensor = self.fc(x)
        return out


def test_a_network_that_fvcore_cannot_trace_says_so() -> None:
    summary = snnprof.summary(Untraceable(), torch.rand(2, 4))
    assert summary.check is not None
    assert summary.check.fvcore_macs is None
    (note,) = (note for note in view(summary).notes if "could not count them" in note)
    assert note.startswith("Nominal MACs, 16: ")
    assert note.endswith("RuntimeError: not here).")


def test_a_network_of_ours_over_time() -> None:
    network = snnprof.models.create("vgg5", timesteps=2, in_channels=1, image_size=8)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    summary = snnprof.summary(network, torch.rand(3, 1, 8, 8), energy=("operands", "spikformer"))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert summary.check is not None
    assert summary.check.differing == ()
    assert summary.check.fvcore_macs == summary.counts.per_sample("nominal_macs")
    rows = by_module(summary)
    neurons = [row.name for row in summary.counts.neurons]
    for name, row in zip(neurons, summary.counts.neurons, strict=True):
        assert rows[name]["firing_rate"] == row.firing_rate
    root = rows[type(network).__name__]
    assert root["firing_rate"] == summary.counts.firing_rate
    assert root["output_shape"] == "[T, B, 10]"
    assert root["energy_spikformer_j"] == pytest.approx(
        summary.energies[1].total_j, rel=1e-12, abs=0
    )


def test_a_model_that_is_called_once_per_time_step() -> None:
    model = nn.Sequential(nn.Linear(4, 3), LIF(5))
    summary = snnprof.summary(
        model, [(torch.rand(2, 4), torch.zeros(2))], layout="step", timesteps=5
    )
    assert summary.counts.samples == 2
    assert summary.counts.per_sample("nominal_macs") == 4 * 3 * 5
    assert summary.check is not None
    assert summary.check.fvcore_macs == 60


def test_a_model_is_left_at_rest() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), LIF(2))
    nn.init.constant_(model[0].weight, 0.15)
    # Currents of 0.6, leak 0.5: 0.6, 0.9 in two steps from rest; on what they left, 0.45 + 0.6 > 1.
    x = torch.ones(2, 1, 4)
    assert not model(x).any()
    assert model(x).any()
    snnprof.summary(model, x, layout="time-first")
    assert not model(x).any()


def test_quantised_layers_keep_their_own_names() -> None:
    network = snnprof.models.create(
        "vgg5", weights="1bit", timesteps=1, in_channels=1, image_size=8
    )
    summary = snnprof.summary(network, torch.rand(2, 1, 8, 8))
    assert not any("parametrizations" in row.name for row in summary.modules)
    assert summary.check is not None
    assert summary.check.differing == ()


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((4, 3, 10), "time-first", "[T, B, 10]"),
        ((3, 4, 10), "batch-first", "[B, T, 10]"),
        ((12, 8, 6, 6), "time-first", "[T*B, 8, 6, 6]"),
        ((3, 4), "step", "[B, 4]"),
        ((3, 4), None, "[B, 4]"),
        ((12, 8), None, "[12, 8]"),
        ((7, 8), "inside", "[7, 8]"),
        ((), "step", "[]"),
    ],
)
def test_shapes_in_words(shape: tuple[int, ...], layout: str | None, words: str) -> None:
    assert shape_words(shape, layout, 3, 4) == words


def test_a_saved_summary_and_a_saved_report(tmp_path: Path) -> None:
    summary = snnprof.summary(Net(), X)
    summary.save(tmp_path / "x.json")
    assert snnprof.load(tmp_path / "x.json") == summary
    row = snnprof.row("mine", counts=summary.counts)
    of_row = snnprof.summary(snnprof.report([row]))
    rows = by_module(of_row)
    assert [*rows] == ["mine", "stem", "block", "block.conv", "Net", "Net.matmul", "fc"]
    assert rows["mine"]["nominal_macs"] == 1328
    assert rows["stem"]["parameters"] is None
    assert any("needs the model itself" in note for note in view(of_row).notes)
    assert snnprof.summary(replace(row, modules=summary.modules)).modules == summary.modules


def test_what_cannot_be_summarised_says_why() -> None:
    row = snnprof.row("mine", counts=snnprof.summary(Net(), X).counts)
    two = snnprof.report([row, replace(row, model="other")])
    for message, source, data in (
        ("needs data", Net(), None),
        ("has 2 counted rows", two, None),
        ("data is for a model", row, X),
        ("has no counts", snnprof.row("x"), None),
        ("a torch.nn.Module, or a report", 3, X),
        ("no batches", Net(), []),
        ("a batch is a str", Net(), ["x"]),
    ):
        with pytest.raises(snnprof.SnnprofError, match=message):
            snnprof.summary(source, data)  # type: ignore[arg-type]
    with pytest.raises(snnprof.SnnprofError, match="needs timesteps=T"):
        snnprof.summary(Net(), X, layout="step")

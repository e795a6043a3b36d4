"""Every convention on a two-layer net, worked out by hand."""

import pytest
import torch
from torch import nn

import snnprof
from snnprof.energy.conventions import CONVENTIONS
from snnprof.energy.pricing import price
from snnprof.render.markdown import markdown
from snnprof.render.report_columns import columns_of
from snnprof.results import CountResult, LayerCount


def count(name: str, op: str, **changes: object) -> LayerCount:
    row = {
        "name": name,
        "op": op,
        "input_kind": "BINARY",
        "weight_kind": "REAL",
        "operation": "AC",
        "stem": False,
        "calls": 1,
        "input_density": 0.5,
        "synops": 100,
        "unrolled_synops": 100,
        "rate_synops": 120.0,
        "nominal_macs": 240,
        "dense_macs": 200,
        "nonzeros": 10,
        "inputs": 20,
    }
    return LayerCount(**(row | changes))  # type: ignore[arg-type]


@pytest.fixture
def two_layers() -> CountResult:
    """A real 1x3x3 image into a 2-channel 2x2 convolution, ones into a linear layer; 2 samples."""
    net = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.Flatten(), Binarise(), nn.Linear(8, 3))
    nn.init.constant_(net[0].weight, 1.0)
    nn.init.normal_(net[3].weight)
    image = torch.tensor([[[[0.51, 0.0, 0.0], [0.0, 0.26, 0.0], [0.0, 0.0, 0.11]]]])
    with snnprof.SopCounter(net, gradients=True) as counter:
        net(image.repeat(2, 1, 1, 1)).sum().backward()
    return counter.result()


class Binarise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.3).float()


def test_what_the_two_layers_count(two_layers: CountResult) -> None:
    conv, linear = two_layers.rows
    # Corner, centre and opposite corner: 1, 4 and 1 windows, 2 channels each; 2 samples.
    assert conv.synops == (1 + 4 + 1) * 2 * 2
    assert conv.nominal_macs == 2 * 2 * 2 * 4 * 2  # 2x2 positions, 2 channels, 4 taps
    assert conv.stem
    assert conv.weight_kind == "BINARY"  # all ones
    # Windows sum to 0.51 + 0.26, 0.26, 0.26 and 0.26 + 0.11: two above 0.3, in both channels.
    assert linear.nonzeros == 2 * 2 * 2
    assert linear.synops == 8 * 3
    assert linear.rate_synops == 24  # 8 of 16 inputs * 8 * 3 MACs * 2 samples


def test_operands_bills_a_binary_weight_as_accumulates(two_layers: CountResult) -> None:
    # Per sample: 12 AC in the convolution (weights all one), 12 AC in the linear layer.
    result = price(two_layers, "operands")
    assert [row.operation for row in result.rows] == ["AC", "AC"]
    assert [row.events for row in result.rows] == [12, 12]
    # 12 AC * 0.9 pJ = 10.8 pJ each
    assert [row.energy_j for row in result.rows] == pytest.approx(
        [10.8e-12, 10.8e-12], rel=1e-12, abs=0
    )
    assert result.total_j == pytest.approx(21.6e-12, rel=1e-12, abs=0)


def test_operands_bills_real_on_real_as_macs() -> None:
    counts = CountResult(
        (count("stem", "conv2d", input_kind="REAL", stem=True, unrolled_synops=None),), samples=4
    )
    # 100 MACs / 4 samples = 25; 25 * 4.6 pJ = 115 pJ
    assert price(counts, "operands").total_j == pytest.approx(115e-12, rel=1e-12, abs=0)


def test_operands_unrolls_integer_spikes_unless_told_otherwise() -> None:
    counts = CountResult(
        (count("a", "conv2d", input_kind="INTEGER", synops=100, unrolled_synops=150),), samples=1
    )
    # 150 AC * 0.9 pJ; as MACs, 100 events * 4.6 pJ
    assert price(counts).total_j == pytest.approx(135e-12, rel=1e-12, abs=0)
    assert price(counts, integer="mac").total_j == pytest.approx(460e-12, rel=1e-12, abs=0)


def test_operands_does_not_unroll_on_ternary_weights() -> None:
    row = count(
        "a", "conv2d", input_kind="INTEGER", weight_kind="TERNARY", synops=100, unrolled_synops=150
    )
    # 100 events, however large, * 0.9 pJ: a weight of -1, 0 or 1 times k is one accumulate
    assert price(CountResult((row,), 1)).total_j == pytest.approx(90e-12, rel=1e-12, abs=0)


def test_spikformer_bills_nominal_macs_of_the_stem_and_rates_elsewhere(
    two_layers: CountResult,
) -> None:
    # Per sample: stem 32 MAC * 4.6 pJ = 147.2 pJ; linear 24 MACs * rate 0.5 = 12 SOP * 0.9 pJ
    # = 10.8 pJ.
    result = price(two_layers, "spikformer")
    assert [row.operation for row in result.rows] == ["MAC", "AC"]
    assert [row.events for row in result.rows] == [32, 12]
    assert [row.energy_j for row in result.rows] == pytest.approx(
        [147.2e-12, 10.8e-12], rel=1e-12, abs=0
    )
    assert result.total_j == pytest.approx(158e-12, rel=1e-12, abs=0)


def test_hd_lif_bills_convolutions_but_the_stem(two_layers: CountResult) -> None:
    without = price(two_layers, "hd-lif")  # its one convolution is the stem
    assert without.total_j is None
    assert without.not_billed == ("0", "3")
    counts = CountResult((count("c", "conv2d"), count("f", "linear")), samples=1)
    result = price(counts, "hd-lif")
    assert [row.name for row in result.rows] == ["c"]
    assert result.total_j == pytest.approx(90e-12, rel=1e-12, abs=0)  # 100 SOPs * 0.9 pJ
    assert result.not_billed == ("f",)


@pytest.mark.parametrize(
    ("sops_m", "input_kind", "millijoules"),
    [  # Tab. 2 of the HD-LIF paper: 0.9 pJ * SOPs; 4-bit spikes, / 8
        (273.02, "BINARY", 0.246),
        (284.49, "REAL", 0.256),
        (233.84, "INTEGER", 0.0263),
        (254.08, "REAL", 0.229),
        (190.13, "INTEGER", 0.0214),
    ],
)
def test_hd_lif_reproduces_table_2(sops_m: float, input_kind: str, millijoules: float) -> None:
    row = count("c", "conv2d", synops=round(sops_m * 1e6), input_kind=input_kind)
    energy = price(CountResult((row,), samples=1), "hd-lif").total_j * 1e3
    assert float(f"{energy:.3g}") == millijoules


def test_hd_lif_divides_the_shortcuts_of_a_four_bit_network_too() -> None:
    # Two 3x3 convolutions of 4-bit spikes, 1000 SOPs each, and a shortcut of a real current,
    # 500: (1000 + 1000 + 500) * 0.9 pJ / 8 = 281.25 pJ. SECA's Conv1d is not in their sum.
    rows = (
        count("a", "conv2d", synops=1000, input_kind="INTEGER"),
        count("b", "conv2d", synops=1000, input_kind="INTEGER"),
        count("shortcut", "conv2d", synops=500, input_kind="REAL", operation="MAC"),
        count("seca", "conv1d", synops=64, input_kind="REAL", operation="MAC"),
    )
    result = price(CountResult(rows, samples=1), "hd-lif")
    assert result.total_j == pytest.approx(281.25e-12, rel=1e-12, abs=0)
    assert result.not_billed == ("seca",)


def test_hd_lif_takes_no_average_pooling_for_four_bit_spikes() -> None:
    # VGG-11 of binary spikes: the convolutions behind its poolings receive quarters.
    kinds = ("BINARY", "INTEGER", "BINARY", "INTEGER", "BINARY", "INTEGER", "BINARY")
    rows = tuple(count(str(i), "conv2d", input_kind=kind) for i, kind in enumerate(kinds))
    # 7 * 100 SOPs * 0.9 pJ
    assert price(CountResult(rows, 1), "hd-lif").total_j == pytest.approx(630e-12, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("weight_kind", "operands_pj"),
    # 500 events of a real current: 4.6 pJ each on fp32 weights, 0.9 on 1 and 1.5 bit
    [("REAL", 2300), ("BINARY", 450), ("TERNARY", 450)],
)
def test_a_shortcut_of_a_current_is_priced_as_what_it_is(
    weight_kind: str, operands_pj: float
) -> None:
    row = count("shortcut", "conv2d", synops=500, input_kind="REAL", weight_kind=weight_kind)
    counts = CountResult((row,), 1)
    assert price(counts, "operands").total_j == pytest.approx(operands_pj * 1e-12, rel=1e-12, abs=0)
    # The paper takes it for 500 accumulates: 450 pJ
    assert price(counts, "hd-lif").total_j == pytest.approx(450e-12, rel=1e-12, abs=0)


def test_a_network_without_a_billed_layer_has_no_energy_in_the_table(
    two_layers: CountResult,
) -> None:
    spiking = snnprof.ReportRow("a", counts=two_layers, energies=(price(two_layers, "hd-lif"),))
    dense = snnprof.ReportRow(
        "a", counts=two_layers, energies=(price(two_layers, "dense"),), baseline_of="a"
    )
    report = snnprof.Report((spiking, dense))
    columns = {column.key: column for column in columns_of(report)}
    for key in ("energy_hd-lif", "dense_ratio_hd-lif", "break_even_hd-lif"):
        assert columns[key].values(report.rows) == [], key
    assert columns["energy_dense"].values(report.rows) == [price(two_layers, "dense").total_j]
    assert "| total | | | |" in " ".join(markdown(spiking.energies[0]).split())


def test_events_of_an_integer_spike_are_as_many_as_it_is_worth() -> None:
    # 30 events of value 4 on average: 120 of a chip that sends spikes one by one; on ternary
    # weights too, which make an accumulate of k spikes at once no cheaper to send.
    for weight in ("REAL", "TERNARY"):
        row = count(
            "a", "conv2d", input_kind="INTEGER", weight_kind=weight, synops=30, unrolled_synops=120
        )
        # 120 * 12.7 pJ = 1524 pJ
        assert price(CountResult((row,), 1), "odin").total_j == pytest.approx(1524e-12, rel=1e-12)


def test_spikformer_reproduces_the_paper() -> None:
    # Spikformer-8-512: 4.6 pJ * 4 * 86.7 M + 0.9 pJ * 11.09 G = 11.577 mJ
    rows = (
        count("stem", "conv2d", stem=True, input_kind="REAL", nominal_macs=4 * 86_700_000),
        count("rest", "conv2d", rate_synops=11.09e9),
    )
    # 1.595 + 9.981 = 11.576; the paper's 11.577 starts from unrounded SOPs.
    assert price(CountResult(rows, 1), "spikformer").total_j == pytest.approx(
        11.577e-3, rel=1e-4, abs=0
    )


@pytest.mark.parametrize("name", CONVENTIONS)
def test_energy_per_layer_adds_up(two_layers: CountResult, name: str) -> None:
    result = price(two_layers, name)
    joules = [row.energy_j for row in result.rows]
    assert result.total_j == (sum(joules) if joules else None)
    updates = "updates of neurons (no neuron layer was seen)"
    named = {row.name for row in result.rows} | set(result.not_billed)
    assert named - {updates} == {"0", "3"}
    assert (updates in named) == (CONVENTIONS[name].neuron_j is not None)


def test_an_unknown_convention_lists_the_known_ones(two_layers: CountResult) -> None:
    with pytest.raises(snnprof.SnnprofError, match="known: dense, hd-lif, loihi, odin, operands"):
        price(two_layers, "joules")
    with pytest.raises(snnprof.SnnprofError, match="known: ac, mac"):
        price(two_layers, integer="both")

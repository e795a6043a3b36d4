"""The energy of training: SATA's formula, worked out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import snnprof
from snnprof.cli.main import cli
from snnprof.energy.conventions import CONVENTIONS, FORMULAS, energy_convention
from snnprof.energy.pricing import price
from snnprof.results import CountResult, GradientCount, NeuronRate
from snnprof.results.serialization import from_json, to_json

from ..counting.test_output_gradients import two_layers
from ..support.registries import kept


def near(joules: Any, rel: float = 1e-12) -> Any:
    """Within a relative tolerance alone: pytest's own absolute one is a picojoule."""
    return pytest.approx(joules, rel=rel, abs=0.0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Registrations of one test are gone in the next."""
    with kept(CONVENTIONS, FORMULAS):
        yield


@pytest.fixture
def counts() -> CountResult:
    """Those of counting/test_output_gradients: x = [1, 0], fc2 sees [1, 3, 0].

    Gradients: 1 of fc1's 3 outputs, 1 of fc2's 2.
    """
    net = two_layers()
    with snnprof.SopCounter(net, gradients=True) as sops:
        net(torch.tensor([[1.0, 0.0]]))[0, 0].backward()
    return sops.result()


def test_the_constants_are_sums_of_those_of_sata_sim() -> None:
    """energy_configs.py and sata_config.yaml of SATA_Sim, in pJ."""
    multiply, accumulate, add, compare = 0.239, 0.0389, 0.00967, 0.00309
    choose, register, shift, conjunction = 0.00172, 0.0301, 0.00605, 0.000794
    found = CONVENTIONS["sata"]
    assert found.ac_j == near((accumulate + conjunction) * 1e-12, rel=2e-4)
    assert found.mac_j == near((multiply + accumulate) * 1e-12, rel=1e-9)
    lif = add + compare + 2 * choose + 3 * register + shift
    assert found.neuron_j == near(lif * 1e-12, rel=5e-4)  # 0.11255, rounded
    unit = multiply + 2 * add + choose + 2 * shift
    assert found.neuron_gradient_j == near(unit * 1e-12, rel=2e-4)  # 0.27216, rounded
    assert {constant.evidence for constant in found.constants.values()} == {"simulated"}


def test_two_layers_by_hand(counts: CountResult) -> None:
    """(1 - s) * MACs: 1/2 * 6 and 2/3 * 6; (1 - s_du) * MACs: 1/3 * 6 and 1/2 * 6."""
    energy = price(counts, "sata")
    assert [(row.name, row.operation, row.events) for row in energy.rows] == [
        ("0", "forward AC", 3),
        ("0", "backward MAC", 2),
        ("0", "weight update AC", 3),
        ("2", "forward AC", 4),
        ("2", "backward MAC", 3),
        ("2", "weight update AC", 4),
    ]
    # 2 * 7 * 0.0397 + 5 * 0.2779 = 0.5558 + 1.3895 pJ
    assert energy.total_j == near(1.9453e-12, rel=1e-12)
    # fc1: 2 * 3 * 0.0397 + 2 * 0.2779 = 0.7940; fc2: 2 * 4 * 0.0397 + 3 * 0.2779 = 1.1513
    assert energy.by_layer() == near({"0": 0.7940e-12, "2": 1.1513e-12}, rel=1e-12)
    assert energy.phase == "training"
    assert energy.not_billed == ("updates of neurons (no neuron layer was seen)",)


def test_neurons_are_billed_forward_and_where_a_gradient_came(counts: CountResult) -> None:
    neuron = NeuronRate("lif", 0.5, None, 12, 6, 4, GradientCount(12, 3, 2))
    energy = price(dataclasses.replace(counts, neurons=(neuron,)), "sata")
    added = {row.operation: row for row in energy.rows if row.name == "lif"}
    assert {kind: row.events for kind, row in added.items()} == {"update": 12, "gradient": 3}
    assert added["update"].energy_j == near(12 * 0.1126e-12)
    assert added["gradient"].energy_j == near(3 * 0.2722e-12)
    assert energy.not_billed == ()


def test_backward_and_update_fall_with_the_steps_that_have_them(counts: CountResult) -> None:
    """SLTT-K at K of T: gradients reach K / T of the outputs, with the same share of zeros."""

    def with_share(number: int) -> CountResult:
        rows = (
            dataclasses.replace(row, gradient=GradientCount(16, 4 * number, 2 * number))
            for row in counts.rows
        )
        return dataclasses.replace(counts, rows=tuple(rows))

    def by_part(number: int) -> dict[str, float]:
        parts: dict[str, float] = {}
        for row in price(with_share(number), "sata").rows:
            parts[row.operation] = parts.get(row.operation, 0.0) + row.energy_j
        return parts

    whole, quarter = by_part(4), by_part(1)
    assert quarter["forward AC"] == whole["forward AC"]
    assert quarter["backward MAC"] == near(whole["backward MAC"] / 4)
    assert quarter["weight update AC"] == near(whole["weight update AC"] / 4)
    assert whole["weight update AC"] == whole["forward AC"]  # the published formula


def test_it_is_per_sample(counts: CountResult) -> None:
    merged = counts.merge(counts)
    assert merged.samples == 2
    assert price(merged, "sata").total_j == near(price(counts, "sata").total_j)


def test_counts_without_gradients_are_refused_in_one_line() -> None:
    net = nn.Linear(3, 2)
    with snnprof.SopCounter(net) as sops:
        net(torch.ones(1, 3))
    with pytest.raises(snnprof.SnnprofError) as caught:
        price(sops.result(), "sata")
    message = str(caught.value)
    assert "'sata'" in message
    assert "gradients=True" in message
    assert "snnprof run --energy sata" in message
    assert "\n" not in message


def test_a_layer_whose_gradients_are_not_known_is_named(counts: CountResult) -> None:
    rows = (counts.rows[0], dataclasses.replace(counts.rows[1], gradient=None))
    energy = price(dataclasses.replace(counts, rows=rows), "sata")
    assert energy.not_billed[0] == "2"
    assert {row.name for row in energy.rows} == {"0"}


def test_a_convention_of_ones_own_of_training(counts: CountResult) -> None:
    @energy_convention("mine", description="d", leaves_out="l", source="s", training=True)
    def mine(row: snnprof.LayerCount) -> list[tuple[str, float, float]]:
        assert row.gradient is not None  # else it would have been refused
        return [("forward", row.synops, 1e-12), ("backward", row.gradient.nonzeros, 2e-12)]

    energy = price(counts, "mine")
    # fc1: 3 events; fc2: 2 of its first input, 1 of the second, which has a weight of 0.
    # 6 events of 1 pJ, 1 + 1 gradients of 2 pJ
    assert energy.total_j == near(10e-12)
    assert energy.phase == "training"
    bare = tuple(dataclasses.replace(row, gradient=None) for row in counts.rows)
    with pytest.raises(snnprof.SnnprofError, match="'mine' bills training"):
        price(dataclasses.replace(counts, rows=bare), "mine")


def test_prices_of_ones_own_in_its_formula(counts: CountResult, tmp_path: Any) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """[conventions.sata-45nm]
formula = "sata"
ac = "ac-45nm-fp16"
mac = "mac-45nm-fp16"
description = "SATA's formula, {ac} and {mac}"
leaves_out = "memory, neurons"
source = "Horowitz"
"""
    )
    # 14 * 0.4 + 5 * 1.5 pJ
    assert price(counts, str(file)).total_j == near(13.1e-12)


def test_no_other_precision_is_made_up() -> None:
    with pytest.raises(
        snnprof.SnnprofError, match="no prices at 'int8': ask for it without a precision"
    ):
        snnprof.price(CountResult((), 1), "sata+int8")


def test_the_command_prints_it_with_what_it_leaves_out() -> None:
    shown = CliRunner().invoke(cli, ["energy-tables", "sata"], catch_exceptions=False).output
    for words in (
        "sata (training): MAC 0.2779 pJ, AC 0.0397 pJ, neuron update 0.1126 pJ, ",
        "neuron gradient 0.2722 pJ",
        "DRAM",
        "batch norm",
        "computed again",
        "simulated",
        "SATA_Sim",
    ):
        assert words in shown
    assert (
        "sata (training): "
        in CliRunner().invoke(cli, ["energy-tables"], catch_exceptions=False).output
    )


def test_the_table_says_training_and_files_keep_it(counts: CountResult) -> None:
    energy = price(counts, "sata")
    assert "Training energy per sample, convention sata" in str(energy)
    assert "Training energy convention sata: " in str(energy)
    assert "Energy per sample" in str(price(counts, "operands"))
    assert from_json(to_json(energy)) == energy
    # One figure a layer where there is one place for it.
    figures = energy.to_dict()["layer"]
    assert figures["0"] == {"training_energy_sata_j": near(0.7940e-12)}

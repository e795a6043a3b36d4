"""Conventions: those that are shipped, and one from outside."""

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli.main import cli
from snnprof.energy.conventions import (
    CONVENTIONS,
    FORMULAS,
    Convention,
    energy_convention,
)
from snnprof.energy.dense_baseline import price_dense
from snnprof.energy.pricing import price
from snnprof.results import CountResult, LayerCount

from ..support.registries import kept


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Registrations of one test are gone in the next."""
    with kept(CONVENTIONS, FORMULAS):
        yield


def layer(name: str, *, input_kind: str, synops: int, nonzeros: int) -> LayerCount:
    return LayerCount(
        name, "linear", input_kind, "REAL", "AC", False, 1, 0.5, synops, synops, 1.0, 40, 40,
        nonzeros, 10,
    )  # fmt: skip


COUNTS = CountResult(
    (
        layer("a", input_kind="BINARY", synops=30, nonzeros=5),
        layer("b", input_kind="REAL", synops=10, nonzeros=7),
    ),
    samples=2,
)


def test_the_constants_are_those_of_45_nm() -> None:
    # Horowitz: multiply 3.7 pJ + add 0.9 pJ
    arithmetic = ("hd-lif", "operands", "spikformer", "dense")
    found = {name: (CONVENTIONS[name].mac_j, CONVENTIONS[name].ac_j) for name in arithmetic}
    assert found == {
        "dense": (4.6e-12, None),
        "hd-lif": (None, 0.9e-12),
        "operands": (4.6e-12, 0.9e-12),
        "spikformer": (4.6e-12, 0.9e-12),
    }


def test_every_convention_states_its_source() -> None:
    for convention in CONVENTIONS.values():
        assert convention.source
        assert convention.leaves_out
        assert convention.formula in FORMULAS


def mine_7nm(mac_j: float | None = 1e-12) -> None:
    """Constants from outside under a formula that is there."""
    CONVENTIONS.register("mine-7nm")(
        Convention("mine-7nm", "operands", mac_j, 2e-13, "d", "l", "s")
    )


def test_constants_from_outside_under_a_known_formula() -> None:
    mine_7nm()
    result = price(COUNTS, "mine-7nm")
    # a: 30 AC / 2 samples * 0.2 pJ = 3 pJ; b: 10 MAC / 2 samples * 1 pJ = 5 pJ
    assert [row.energy_j for row in result.rows] == pytest.approx([3e-12, 5e-12], rel=1e-12, abs=0)
    assert result.total_j == pytest.approx(8e-12, rel=1e-12, abs=0)


def reads() -> None:
    @energy_convention("reads", description="one read per spike", leaves_out="l", source="s")
    def bill(row: LayerCount) -> tuple[str, float, float] | None:
        return None if row.input_kind == "REAL" else ("AC", row.nonzeros, 8e-12)


def test_a_convention_from_outside() -> None:
    reads()
    result = price(COUNTS, "reads")
    assert [(row.name, row.operation, row.events) for row in result.rows] == [("a", "AC", 2.5)]
    assert result.total_j == pytest.approx(20e-12, rel=1e-12, abs=0)  # 5 spikes / 2 samples * 8 pJ
    assert result.not_billed == ("b",)
    assert (result.table, result.description, result.source) == ("reads", "one read per spike", "s")


@pytest.mark.parametrize(
    "bill",
    [
        ("AC", float("nan"), 1e-12),
        ("AC", 10, -1e-12),
        ("AC", -1, 1e-12),
        ("AC", 10, float("inf")),
        ("AC", "10", 1e-12),
        (3, 10, 1e-12),
        ("AC", 10),
        5e-12,
    ],
)
def test_a_bill_that_is_none_is_named(bill: Any) -> None:
    @energy_convention("odd", description="d", leaves_out="l", source="s")
    def odd(row: LayerCount) -> Any:
        return bill

    message = r"'odd' bills .* for layer 'a': its function must give"
    with pytest.raises(snnprof.SnnprofError, match=message):
        price(COUNTS, "odd")


def test_a_convention_from_outside_may_be_of_spikes_alone() -> None:
    for name, of_spikes in (("reads", False), ("spike-reads", True)):

        @energy_convention(name, description="d", leaves_out="l", source="s", of_spikes=of_spikes)
        def bill(row: LayerCount) -> tuple[str, float, float]:
            return "AC", row.nonzeros, 8e-12

    tables = [energy.table for energy in price_dense(COUNTS, ("reads", "spike-reads"))]
    assert tables == ["dense", "reads"]


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_what_is_shipped_states_the_prices_that_its_formula_bills(name: str) -> None:
    stated = CONVENTIONS[name].constants.keys() - {"neuron", "neuron_gradient"}
    assert stated == set(FORMULAS[CONVENTIONS[name].formula].prices)


def test_a_run_and_the_command_line_know_it() -> None:
    reads()
    mine_7nm()
    report = snnprof.run(
        epochs=0, repeats=1, data="random", model="vgg5", timesteps=1, image_size=8,
        modes=("stbp",), batch_size=2, energy=("reads",),
    )  # fmt: skip
    assert [energy.table for energy in report.rows[0].energies] == ["reads"]
    listed = CliRunner().invoke(cli, ["energy-tables"], catch_exceptions=False).output
    assert "reads: a formula of its own\n  one read per spike" in listed
    assert "mine-7nm: MAC 1 pJ, AC 0.2 pJ" in listed


def test_a_name_is_taken_once() -> None:
    reads()
    with pytest.raises(ValueError, match="energy convention 'reads' is already registered"):
        reads()
    with pytest.raises(ValueError, match="energy formula 'operands' is already registered"):
        FORMULAS.register("operands")(FORMULAS["operands"])


def test_a_formula_that_bills_what_has_no_energy_says_so() -> None:
    mine_7nm(mac_j=None)
    with pytest.raises(snnprof.SnnprofError, match="'mine-7nm' has no mac_j"):
        price(COUNTS, "mine-7nm")  # layer b is real on real
    # 30 AC / 2 samples * 0.2 pJ
    only_spikes = CountResult(COUNTS.rows[:1], samples=2)
    assert price(only_spikes, "mine-7nm").total_j == pytest.approx(3e-12, rel=1e-12, abs=0)

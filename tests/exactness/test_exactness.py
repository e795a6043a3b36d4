"""A slice of benchmarks/exactness.py, and whether its oracle can find a wrong count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snnprof.counting import fanout, product_tally, scan, weight_kind
from snnprof.results import values
from snnprof.results.counts import rate_synops
from snnprof.results.values import Values

from .comparison import SCANS, Tally, compare
from .kinds import verdict, weight_verdict

NETWORKS = 250


def differences(seeds: range, scans: tuple[str, ...]) -> list[str]:
    tally = Tally()
    for seed in seeds:
        compare(seed, scans, tally)
    return [str(difference) for difference in tally.differences]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_random_networks_are_counted_as_enumerated():
    scans = SCANS if scan._scan is not None else SCANS[1:]
    assert differences(range(NETWORKS), scans) == []


# --- the oracle finds what is broken ------------------------------------------------------------


def off_by_one_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fanout.fan_out

    def broken(*args):
        found, positions = kept(*args)
        found = found.clone()
        found.view(-1)[-1] += 1
        return found, positions

    monkeypatch.setattr(fanout, "fan_out", broken)


def no_padded_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fanout._meetings

    def broken(axis, device):
        return kept(axis._replace(mode=None), device)[axis.widened[0] :][: axis.inputs]

    monkeypatch.setattr(fanout, "_meetings", broken)


def the_divisor_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self, values):
        self._values = values  # the levels so far stay those of the unit before
        self._unit, self._tier = scan._question(values)

    monkeypatch.setattr(scan.HostReading, "_take", take)


def ternary_is_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Values.kind

    def kind(self):
        return kept(replace(self, negative=False))

    monkeypatch.setattr(Values, "kind", kind)


def a_wide_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "tolerance", lambda rounding: 1e-3)


def weights_judged_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = weight_kind._judge
    monkeypatch.setattr(weight_kind, "_judge", lambda channels: kept(channels.reshape(1, -1)))


def the_second_operand_never_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = rate_synops
    monkeypatch.setattr(
        product_tally, "rate_synops", lambda kinds, one, two, macs: kept(kinds, one, one, macs)
    )


def pairs_are_those_of_a_dense_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = product_tally.CompactOperand.nonzeros

    def nonzeros(self, shared):
        dense = product_tally.CompactOperand(torch.ones_like(self.x), self.index, self.numel)
        return kept(dense, shared)

    monkeypatch.setattr(product_tally.CompactOperand, "nonzeros", nonzeros)


MUTATIONS = {
    off_by_one_fan_out: "synops",
    no_padded_taps: "dense_macs",
    the_divisor_forgets: "unrolled_synops",
    ternary_is_binary: "input_kind",
    a_wide_tolerance: "input_kind",
    weights_judged_as_a_whole: "weight_kind",
    the_second_operand_never_spikes: "rate_synops",
    pairs_are_those_of_a_dense_operand: "synops",
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_counter_is_found(mutation, monkeypatch: pytest.MonkeyPatch):
    mutation(monkeypatch)
    found = (
        line for seed in range(NETWORKS) for line in differences(range(seed, seed + 1), ("torch",))
    )
    assert any(f" {MUTATIONS[mutation]}: " in line for line in found)


# --- the oracle by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "kind", "levels"),
    [
        ([0.0, 0.7], "BINARY", {0.7: 1}),
        ([0.7, -0.7], "TERNARY", {0.7: 1}),
        ([1.0, 1.5], "INTEGER", {1.0: 2, 1.5: 3}),  # of the step 1/2
        ([0.6, 0.9], "REAL", {}),  # 0.3 is not among them
        ([0.3, 0.6, 0.9], "INTEGER", {0.3: 1, 0.6: 2, 0.9: 3}),
        ([1.0, 65.0], "REAL", {}),
    ],
)
def test_a_kind_by_definition(seen: list[float], kind: str, levels: dict[float, int]):
    found = verdict(seen, torch.float64)
    assert (found.kind, found.levels) == (kind, levels)


def test_channels_of_a_weight_are_judged_by_themselves():
    assert weight_verdict([[0.3, -0.3], [0.7, 0.7]], torch.float32) == "TERNARY"
    assert weight_verdict([[0.3, 0.3], [0.7, 0.5]], torch.float32) == "REAL"

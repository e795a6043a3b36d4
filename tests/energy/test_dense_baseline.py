"""A spiking network beside its dense twin, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.energy.dense_baseline import price_dense
from snnprof.results import CountResult
from snnprof.spiking.lif import LIF, LIFSettings

PJ = 1e-12
T = 2


def two_layers() -> nn.Sequential:
    """3 inputs, 4 neurons that are stateless (leak 0), 2 outputs."""
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), LIF(T, LIFSettings(leak=0.0)), nn.Linear(4, 2, bias=False)
    )
    with torch.no_grad():
        up = torch.tensor([[0.3, 0.7, 1.9], [0.3, 0.7, 1.3]])
        model[0].weight.copy_(torch.cat([up, -up]))
        model[2].weight.copy_(torch.tensor([[0.3, 0.7, 1.9, 0.2], [1.1, 0.4, 0.9, 1.7]]))
    return model


# Currents 0.09 + 3.23 = 3.32, 0.09 + 2.21 = 2.30, and their negatives: two of four neurons fire.
IMAGE = torch.tensor([[0.3, 0.0, 1.7]])


def counted(model: nn.Module, x: Tensor) -> CountResult:
    with snnprof.SopCounter(model, timesteps=len(x), layout="time-first") as sops, torch.no_grad():
        model(x)
    return sops.result()


def spiking() -> CountResult:
    return counted(two_layers(), IMAGE.expand(T, 1, 3))


def dense() -> CountResult:
    return counted(snnprof.dense_twin(two_layers()), IMAGE.expand(1, 1, 3))


def test_energies_of_two_layers_by_hand() -> None:
    # 2 inputs not 0 * 4 neurons * 2 steps = 16 MACs; 2 spikes * 2 outputs * 2 steps = 8 ACs
    energy = snnprof.price(spiking())
    assert energy.total_j == pytest.approx((16 * 4.6 + 8 * 0.9) * PJ, rel=1e-12, abs=0)  # 80.8 pJ
    assert spiking().firing_rate == 0.5
    textbook, operands = price_dense(dense(), ["operands"])
    assert (textbook.table, operands.table) == ("dense", "operands")
    # 3 * 4 + 4 * 2 = 20 nominal MACs, at T = 1
    assert textbook.total_j == pytest.approx(20 * 4.6 * PJ, rel=1e-12, abs=0)  # 92 pJ
    # 2 inputs * 4 + 2 active ReLUs (3.32, 2.30) * 2 = 12 multiplications by what is not 0
    assert operands.total_j == pytest.approx(12 * 4.6 * PJ, rel=1e-12, abs=0)  # 55.2 pJ


def test_break_even_of_two_layers_by_hand() -> None:
    counts = spiking()
    energy = snnprof.price(counts)
    # fixed: the first layer, 73.6 pJ. 73.6 + 7.2 * r / 0.5 = 92: r = 0.5 * 18.4 / 7.2
    assert snnprof.break_even_rate(counts, energy, 92 * PJ) == pytest.approx(0.5 * 18.4 / 7.2)
    # at its own energy: its own rate
    assert snnprof.break_even_rate(counts, energy, energy.total_j) == pytest.approx(0.5)
    assert snnprof.break_even_rate(counts, energy, 70 * PJ) == 0  # the first layer alone is more


def test_break_even_is_the_textbooks_where_nothing_is_fixed() -> None:
    # Of the second layer alone: 8 MACs * 4.6; 16 ACs * 0.9 at a rate of 1: r = 4.6 / (T * 0.9)
    counts = spiking()
    energy = snnprof.price(counts)
    second = replace(energy, total_j=energy.rows[1].energy_j)
    found = snnprof.break_even_rate(counts, second, 8 * 4.6 * PJ)
    assert found == pytest.approx(4.6 / (T * 0.9))


def test_break_even_leaves_currents_and_updates_as_they_are() -> None:
    counts = spiking()
    first, second = counts.rows
    currents = replace(
        second, name="shortcut", input_kind="REAL", operation="MAC", unrolled_synops=None,
        inputs=10**6, nonzeros=10**6,
    )  # fmt: skip
    # 80.8 + 8 * 4.6 of the shortcut; 0.5 * (200 - 73.6 - 36.8) / 7.2, a zero by chance or not
    for zeros in (0, 1, 5 * 10**4):
        shortcut = replace(currents, nonzeros=10**6 - zeros)
        more = replace(counts, rows=(first, second, shortcut))
        energy = snnprof.price(more)
        assert energy.total_j == pytest.approx(117.6 * PJ, rel=1e-12, abs=0)
        found = snnprof.break_even_rate(more, energy, 200 * PJ)
        assert found == pytest.approx(0.5 * (200 - 110.4) / 7.2)
    # Floating-point spikes are REAL as well: 0.5 * (200 - 73.6) / (7.2 + 36.8)
    spikes = replace(currents, nonzeros=94 * 10**4)
    more = replace(counts, rows=(first, second, spikes))
    found = snnprof.break_even_rate(more, snnprof.price(more), 200 * PJ)
    assert found == pytest.approx(0.5 * 126.4 / 44)
    # Neurons that fire at every step drive a layer all the same: 80.8 + 8 * 0.9
    always = replace(second, name="always", nonzeros=second.inputs)
    more = replace(counts, rows=(first, second, always))
    found = snnprof.break_even_rate(more, snnprof.price(more), 92 * PJ)
    assert found == pytest.approx(0.5 * (92 - 73.6) / 14.4)
    # Loihi: 23.6 pJ an event, 24 events; 81 pJ an update, 4 neurons * 2 steps: only 8 events change
    loihi = snnprof.price(counts, "loihi")
    fixed = 16 * 23.6 + 8 * 81
    expected = 0.5 * (2000 - fixed) / (8 * 23.6)
    assert snnprof.break_even_rate(counts, loihi, 2000 * PJ) == pytest.approx(expected)


def test_no_break_even_without_a_rate() -> None:
    counts = spiking()
    energy = snnprof.price(counts)
    assert snnprof.break_even_rate(replace(counts, neurons=()), energy, 92 * PJ) is None
    silent = counted(two_layers(), torch.zeros(T, 1, 3))
    assert snnprof.break_even_rate(silent, snnprof.price(silent), 92 * PJ) is None


def test_a_dense_network_is_not_priced_as_spikes() -> None:
    names = ["spikformer", "hd-lif", "loihi", "operands+int8", "dense"]
    found = [energy.table for energy in price_dense(dense(), names)]
    assert found == ["dense", "dense+int8", "operands+int8"]

"""The integer LIF neuron by hand."""

import pytest
import torch

import snnprof
from snnprof.spiking.ilif import IntegerLIF

from .variants import sequence


def test_integer_lif_by_hand() -> None:
    # leak 0.5: 2.4 -> 2, 0.4 left; 0.2 + 0.2 = 0.4 -> 0; 0.2 + 9 -> 4 (the most), 5.2 left
    neuron = IntegerLIF(3)
    assert neuron(sequence(2.4, 0.2, 9.0)).flatten().tolist() == [2, 0, 4]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(5.2)


def test_integer_spikes_are_the_counters_integers() -> None:
    model = torch.nn.Sequential(IntegerLIF(2), torch.nn.Linear(6, 3))
    with snnprof.SopCounter(model, batch_dim=1) as counter:
        model(torch.rand(2, 5, 6) * 6)
    (row,) = counter.result().rows
    assert (row.input_kind, row.operation) == ("INTEGER", "AC")
    assert row.unrolled_synops is not None
    assert row.unrolled_synops > row.synops


def test_integer_lif_passes_the_gradient_inside_its_range() -> None:
    # m: 2.4 inside; 0.2 - 1 = -0.8 outside; -0.4 + 9 outside; leak 0.5.
    currents = sequence(2.4, -1.0, 9.0).requires_grad_()
    neuron = IntegerLIF(3)
    neuron(currents).sum().backward()
    assert currents.grad is not None
    # t=2: outside, ds/dm = 0. t=1: outside, m' = m, dm_2/dm' = 0.5 * 0. t=0: ds/dm = 1, m' fixed
    assert currents.grad.flatten().tolist() == [1, 0, 0]

"""The LIF neuron by hand."""

import pytest
import torch

from snnprof.spiking.lif import LIF, LIFSettings, lif_step

from .variants import sequence


def test_lif_by_hand() -> None:
    # leak 0.5, threshold 1: 0.8 silent; 0.4 + 0.7 = 1.1 fires, 0.1 left; 0.05 + 0.5 silent
    neuron = LIF(3)
    spikes = neuron(sequence(0.8, 0.7, 0.5)).flatten()
    assert spikes.tolist() == [0.0, 1.0, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(0.55)


def test_hard_reset_by_hand() -> None:
    # 1.5 fires, 0 left; 0 + 0.75 silent; 0.375 + 0.75 = 1.125 fires, 0 left
    neuron = LIF(3, LIFSettings(reset="hard"))
    assert neuron(sequence(1.5, 0.75, 0.75)).flatten().tolist() == [1.0, 0.0, 1.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0


def test_lif_fires_on_the_threshold_itself() -> None:
    spike, membrane = lif_step(None, torch.tensor([1.0]))
    assert (spike.item(), membrane.item()) == (1.0, 0.0)
    assert LIF(1)(sequence(1.0)).item() == 1


def test_a_spike_is_as_high_as_the_threshold() -> None:
    neuron = LIF(1, LIFSettings(threshold=1.25))
    assert neuron(sequence(2.0)).item() == 1.25
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0.75

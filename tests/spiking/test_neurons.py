"""Neuron equations, step by step by hand."""

import pytest
import torch

import snnprof
from snnprof.spiking.neurons import HDLIF, LIF, hdlif_step, lif_step, neuron_ops
from snnprof.spiking.surrogates import triangle_spike


def sequence(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def test_lif_by_hand() -> None:
    # leak 0.5, threshold 1: 0.8 silent; 0.4 + 0.7 = 1.1 fires, 0.1 left; 0.05 + 0.5 silent
    neuron = LIF(3)
    spikes = neuron(sequence(0.8, 0.7, 0.5)).flatten()
    assert spikes.tolist() == [0.0, 1.0, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(0.55)


def test_lif_fires_on_the_threshold_itself() -> None:
    spike, membrane = lif_step(None, torch.tensor([1.0]), 0.5, 1.0)
    assert (spike.item(), membrane.item()) == (1.0, 0.0)


def test_a_spike_is_as_high_as_the_threshold() -> None:
    spike, membrane = lif_step(None, torch.tensor([2.0]), 0.5, 1.25)
    assert (spike.item(), membrane.item()) == (1.25, 0.75)


def test_triangle_surrogate() -> None:
    distance = torch.tensor([-1.5, -1.0, -0.25, 0.0, 0.5, 2.0], requires_grad=True)
    triangle_spike(distance).sum().backward()
    assert distance.grad is not None
    assert distance.grad.tolist() == [0.0, 0.0, 0.75, 1.0, 0.5, 0.0]


def test_hdlif_by_hand() -> None:
    # leak 0.5, threshold 0.5: 0.75 fires 0.25, left at 0.5; 0.25 + 0.125 silent
    neuron = HDLIF(2).double()
    spikes = neuron(sequence(0.75, 0.125)).flatten()
    assert spikes.tolist() == [0.25, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0.375


def test_hdlif_derivatives_are_those_of_the_seed() -> None:
    # S1: ds/dm = 1 where it fires, else 0; dm_next/dm = 0 where it fired, else leak.
    leak, threshold = torch.tensor(0.25), torch.tensor(0.5)
    membrane = torch.tensor([1.0, 0.25], requires_grad=True)
    spike, after = hdlif_step(membrane, torch.tensor([0.5, 0.0]), leak, threshold)
    (to_spike,) = torch.autograd.grad(spike.sum(), membrane, retain_graph=True)
    assert to_spike.tolist() == [0.25, 0.0]  # leak * 1, leak * 0
    (to_next,) = torch.autograd.grad(after.sum(), membrane)
    assert to_next.tolist() == [0.0, 0.25]  # cut by the spike; leak


def test_hdlif_starts_at_one_half_and_learns_each_step() -> None:
    neuron = HDLIF(3)
    assert torch.sigmoid(neuron.leak_logit).tolist() == [0.5] * 3
    neuron(torch.rand(3, 2, 5) + 0.2).sum().backward()
    assert neuron.threshold_logit.grad is not None
    assert (neuron.threshold_logit.grad != 0).all()


@pytest.mark.parametrize("kind", [LIF, HDLIF])
def test_step_by_step_equals_all_at_once(kind: type) -> None:
    currents = torch.randn(5, 3, 7)
    whole, stepwise = kind(5), kind(5)
    expected = whole(currents)
    parts = [stepwise(current.unsqueeze(0)) for current in currents]
    assert torch.equal(torch.cat(parts), expected)


def test_a_step_too_many_says_what_to_do() -> None:
    neuron = HDLIF(2)
    neuron(torch.zeros(2, 1, 1))
    with pytest.raises(snnprof.SnnprofError, match="reset"):
        neuron(torch.zeros(1, 1, 1))


def test_neuron_ops_are_three_per_neuron_and_step() -> None:
    net = torch.nn.Sequential(LIF(4), LIF(4))
    assert neuron_ops(net) is None
    net(torch.zeros(4, 2, 10))
    assert neuron_ops(net) == 2 * 10 * 4 * 3  # layers * neurons * steps * 3, per sample
    snnprof.reset(net)
    assert neuron_ops(net) == 240  # of the last run

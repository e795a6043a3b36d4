"""Firing rates of other libraries' neurons, against their outputs, with these libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.results import NeuronRate

from .library import library, spikingjelly

T, B, FEATURES = 4, 3, 5


def currents() -> Tensor:
    """[T, B, features], strong enough for neurons to fire."""
    return 8 * torch.rand(T, B, FEATURES, generator=torch.Generator().manual_seed(0))


def measured(
    net: nn.Module, neuron: nn.Module, run: Callable[[Tensor], Any], **options: Any
) -> tuple[NeuronRate, Tensor]:
    """The one row of neurons, and its outputs as a hook of the test's own sees them."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        seen.append((out[0] if isinstance(out, tuple) else out).detach())

    handle = neuron.register_forward_hook(keep)
    with snnprof.SopCounter(net, **options) as sops:
        run(currents())
    handle.remove()
    (row,) = sops.result().neurons
    return row, torch.stack(seen)


def assert_rate(row: NeuronRate, by_step: Tensor) -> None:
    """The rates of spikes [T, ...]."""
    fired = (by_step != 0).double()
    assert 0 < row.nonzeros < row.outputs
    assert (row.outputs, row.nonzeros) == (fired.numel(), int(fired.sum()))
    assert row.firing_rate == row.nonzeros / row.outputs
    expected = pytest.approx(fired.flatten(1).mean(1).tolist(), rel=1e-12)
    assert row.firing_rate_by_step == expected


@pytest.mark.parametrize("mode", ["s", "m"])
def test_spikingjelly(mode: str) -> None:
    parts = spikingjelly()
    if parts.package == "clock_driven":
        kind = parts.neuron.LIFNode if mode == "s" else parts.neuron.MultiStepLIFNode
        neuron = kind()
    else:
        neuron = parts.neuron.LIFNode(step_mode=mode)
    net = nn.Sequential(neuron, nn.Linear(FEATURES, 2))
    if mode == "m":
        row, spikes = measured(net, neuron, net, layout="time-first")
        assert_rate(row, spikes[0])
    else:
        each = lambda xs: [net(x) for x in xs]  # noqa: E731
        row, spikes = measured(net, neuron, each, layout="step", timesteps=T)
        assert_rate(row, spikes)


def test_snntorch_called_step_by_step_and_looped_inside() -> None:
    snntorch = library("snntorch")
    neuron = snntorch.Leaky(beta=0.8, init_hidden=True)
    net = nn.Sequential(neuron, nn.Linear(FEATURES, 2))
    each = lambda xs: [net(x) for x in xs]  # noqa: E731
    row, spikes = measured(net, neuron, each, layout="step", timesteps=T)
    assert_rate(row, spikes)

    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.fc = snntorch.Leaky(beta=0.8), nn.Linear(FEATURES, 2)

        def forward(self, xs: Tensor) -> Tensor:
            membrane, outs = self.lif.init_leaky(), []
            for x in xs:
                spikes, membrane = self.lif(x, membrane)
                outs.append(self.fc(spikes))
            return torch.stack(outs)

    looped = Looped()
    row, spikes = measured(looped, looped.lif, looped, layout="time-first")
    assert_rate(row, spikes)


def test_norse_over_time_and_lifted_cells() -> None:
    norse = library("norse.torch")
    neuron = norse.LIF()
    net = norse.SequentialState(neuron, nn.Linear(FEATURES, 2))
    row, spikes = measured(net, neuron, lambda xs: net(20 * xs), layout="time-first")
    assert_rate(row, spikes[0])
    cell = norse.LIFBoxCell()
    lifted = norse.Lift(norse.SequentialState(cell, nn.Linear(FEATURES, 2)))
    row, spikes = measured(lifted, cell, lambda xs: lifted(20 * xs), layout="time-first")
    assert_rate(row, spikes)


def test_sinabs_counts_neurons_and_no_integrator() -> None:
    layers = library("sinabs.layers")
    neuron = layers.LIF(tau_mem=5.0)
    net = nn.Sequential(neuron, nn.Linear(FEATURES, 2), layers.ExpLeak(tau_mem=5.0))
    by_batch = lambda xs: net(xs.transpose(0, 1))  # noqa: E731
    row, spikes = measured(net, neuron, by_batch, layout="batch-first")
    assert_rate(row, spikes[0].transpose(0, 1))

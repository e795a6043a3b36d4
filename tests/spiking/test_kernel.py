"""A neuron's time steps are one operation to whoever watches torch functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import snnprof
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.ilif import IntegerLIF
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron import Neuron

NEURONS = [LIF, IntegerLIF, HDLIF, lambda timesteps: HDLIF(timesteps, parallel=True)]


class Watcher(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def seen(neuron: Neuron, currents: torch.Tensor) -> list[Any]:
    with Watcher() as watcher:
        neuron(currents).sum()
    assert watcher.seen[-1] is torch.Tensor.sum  # it sees again what comes after
    return watcher.seen


@pytest.mark.parametrize("make", NEURONS)
def test_a_watcher_sees_as_much_of_eight_steps_as_of_one(make: Any) -> None:
    one, eight = (seen(make(timesteps), torch.randn(timesteps, 2, 3)) for timesteps in (1, 8))
    assert len(one) == len(eight)


def test_a_product_outside_the_kernel_is_counted() -> None:
    """SECA's convolution of 3 channel means, 5 taps, padded by 2: each reaches all 3."""
    network = nn.Sequential(HDLIF(1, channels=3, seca=True))
    with torch.no_grad(), snnprof.SopCounter(network, batch_dim=1) as counter:
        network(torch.ones(1, 1, 3, 2, 2))
    (row,) = counter.result().rows
    assert (row.op, row.synops) == ("conv1d", 3 * 3)


class Tagged(torch.Tensor):
    pass


@pytest.mark.parametrize("make", NEURONS)
def test_a_tensor_of_another_class_stays_one(make: Any) -> None:
    assert type(make(4)(torch.rand(4, 1, 3).as_subclass(Tagged))) is Tagged

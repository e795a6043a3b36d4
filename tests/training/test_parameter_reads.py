"""How a network's parameters can be divided, found out by watching a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.spiking.hdlif import HDLIF
from snnprof.training import parameter_reads
from snnprof.training.parameter_reads import Division
from snnprof.training.step_runner import StepRunner, StepSetup
from snnprof.training.stepped_model import stepwise

WIDTH = 64  # 64 * 64 = 4096 weights, as many as a group of its own has at least


def division(model: nn.Module, **named: Callable[..., Any]) -> Division:
    functions = {"reset": lambda: None, "detach": lambda: None} | named
    setup = StepSetup(lambda: model, timesteps=2)
    runner = StepRunner(setup, stepwise(model, **functions), torch.device("cpu"))
    return runner.find_division(torch.randn(3, WIDTH), torch.tensor([0, 1, 0]))


class Net(nn.Module):
    """A layer, and in its forward whatever is done with another one."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], width: int = WIDTH) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, width)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, self.first(x))


def test_large_modules_that_are_called_are_groups_and_the_rest_is_the_networks() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH - 1, bias=False))
    assert division(model) == Division(groups=("0",))  # 64 * 63 = 4032 are too few


def test_small_modules_are_a_group_together_where_a_module_holds_them() -> None:
    halves = nn.Sequential(nn.Linear(WIDTH, WIDTH // 2), nn.Linear(WIDTH // 2, WIDTH))
    assert division(nn.Sequential(halves, nn.Linear(WIDTH, 2))) == Division(groups=("0",))


def test_a_layer_whose_weight_its_parent_reads_is_no_group() -> None:
    def read(net: Any, x: Tensor) -> Tensor:
        return F.linear(x, net.second.weight)

    def called_and_read(net: Any, x: Tensor) -> Tensor:
        return net.second(x) + read(net, x)

    def read_in_evaluation(net: Any, x: Tensor) -> Tensor:
        return net.second(x) if net.training else read(net, x)

    for run in (read, called_and_read, read_in_evaluation):
        assert division(Net(run)) == Division(groups=("first",))
    # One that is read while another runs that holds it goes with that one.
    attention = nn.MultiheadAttention(WIDTH, 1)
    whole = Net(lambda net, x: net.second(x, x, x)[0])
    whole.second = attention
    assert division(whole) == Division(groups=("second", "first"))


def test_a_layer_that_gives_out_its_weight_is_no_group() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

        def forward(self) -> Tensor:
            return self.weight.t()

    net = Net(lambda net, x: x @ net.second())
    net.second = Holder()
    assert division(net) == Division(groups=("first",))


def test_layers_that_share_a_weight_are_no_groups() -> None:
    net = Net(lambda net, x: net.first(x))
    net.second.weight = net.first.weight  # which is not called
    assert division(net) == Division()


def test_neurons_and_quantisers_are_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_reads, "OWN_GROUP", 1)
    net = snnprof.models.create(
        "vgg5", neuron="hdlif", weights="1bit", timesteps=2, in_channels=1, image_size=8
    )
    setup = StepSetup(lambda: net, timesteps=2)
    runner = StepRunner(setup, net, torch.device("cpu"))
    found = runner.find_division(torch.randn(2, 1, 8, 8), torch.tensor([0, 1]))
    assert found.whole == ()
    kinds = nn.Conv2d | nn.Linear | nn.BatchNorm2d
    layers = {name for name, module in net.named_modules() if isinstance(module, kinds)}
    assert layers <= set(found.groups)
    neurons = {name for name, module in net.named_modules() if isinstance(module, HDLIF)}
    assert neurons
    assert neurons.isdisjoint(found.groups)
    assert not any("parametrizations" in name for name in found.groups)


def test_what_is_read_outside_the_network_or_is_a_single_number_stays_whole() -> None:
    net = Net(lambda net, x: net.second(x) * net.scale)
    net.scale = nn.Parameter(torch.tensor(1.0))
    rest = nn.Parameter(torch.zeros(WIDTH))
    net.rest = rest
    net.fine = nn.Parameter(torch.zeros(3, dtype=torch.double))
    net.turned = nn.Parameter(torch.zeros(3, 2).t())
    found = division(net, reset=lambda: net.rest + 0)
    assert found == Division(groups=("second", "first"), whole=("scale", "rest", "fine", "turned"))
    assert type(net._parameters) is dict
    assert net.rest is rest

"""Models of snnTorch, with snnTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.training.adapters import adapt
from snnprof.training.kept_graphs import kept_graphs

from . import checks
from .library import library

snn = library("snntorch")
utils = library("snntorch.utils")

NEURONS = {
    "leaky": lambda **kwargs: snn.Leaky(beta=0.5, **kwargs),
    "synaptic": lambda **kwargs: snn.Synaptic(alpha=0.5, beta=0.5, **kwargs),
}
EVERY = pytest.mark.parametrize("name", NEURONS)


def network(name: str, features: int = 5, hidden: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(features, hidden),
        NEURONS[name](init_hidden=True),
        nn.Linear(hidden, 2),
        NEURONS[name](init_hidden=True, output=True),
    )


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    utils.reset(model)
    outs = []
    for x in xs:
        if online:
            type(model[1]).detach_hidden()
        outs.append(model(x)[0])
    return torch.stack(outs)


@EVERY
def test_trains(name: str) -> None:
    checks.assert_trains_as_the_library_does(network(name), plain)


@EVERY
def test_resets_and_detaches(name: str) -> None:
    # Of spikes in the end, few tell one time step from the next: the membranes do.
    model = network(name)
    stepped = adapt(model)
    stepped.reset()
    first = stepped.run_step(checks.X[0])
    charged = model[1].mem
    assert charged.grad_fn is not None
    stepped.detach()
    assert torch.equal(model[1].mem, charged)
    assert kept_graphs(model) == {}
    stepped.run_step(checks.X[0])
    assert not torch.equal(model[1].mem, charged)
    stepped.reset()
    assert torch.equal(stepped.run_step(checks.X[0]), first)
    assert torch.equal(model[1].mem, charged)


def test_counts() -> None:
    # v / 2 + I, fires above 1, 1 less a step later. Sample 0: v = 3 fires; then 1.5 - 1 = 0.5.
    # Sample 1: v = 1 does not; then 0.5 + 1 = 1.5 fires. 2 firings * 8.
    assert checks.synops(network("leaky", 3, 4), 1.0) == [20, 16]


def test_without_init_hidden_it_says_what_to_do() -> None:
    with pytest.raises(snnprof.SnnprofError, match="init_hidden=True"):
        adapt(nn.Sequential(nn.Linear(5, 2), snn.Leaky(beta=0.5)))

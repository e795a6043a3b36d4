"""The equations of SpikingJelly's neurons, against SpikingJelly: any of its versions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnprof.spiking.neuron_equations import equations_of

from .equations import (
    assert_leaks_as_the_library_does,
    assert_steps_as_the_library_does,
    currents,
)
from .library import spikingjelly

theirs = spikingjelly()
neuron, surrogate, functional = theirs.neuron, theirs.surrogate, theirs.functional

SURROGATES = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan}
KINDS = {
    "IFNode": lambda tau, decay, **kwargs: neuron.IFNode(**kwargs),
    "LIFNode": lambda tau, decay, **kwargs: neuron.LIFNode(tau=tau, decay_input=decay, **kwargs),
    "ParametricLIFNode": lambda tau, decay, **kwargs: neuron.ParametricLIFNode(
        init_tau=tau, decay_input=decay, **kwargs
    ),
}
HYPER = {
    "tau": st.sampled_from([1.1, 1.5, 2.0, 3.7, 10.0]),
    "decay": st.booleans(),
    "v_threshold": st.sampled_from([0.5, 1.0, 1.3]),
    "v_reset": st.sampled_from([None, 0.0, 0.2, -0.3]),
    "detach_reset": st.booleans(),
    "surrogate_name": st.sampled_from(sorted(SURROGATES)),
    "seed": st.integers(0, 10**6),
}


def make(kind: str, *, surrogate_name: str = "sigmoid", tau=2.0, decay=True, **kwargs) -> nn.Module:
    return KINDS[kind](tau, decay, surrogate_function=SURROGATES[surrogate_name](), **kwargs)


def drive(node: nn.Module, xs: Tensor) -> tuple[Tensor, Tensor]:
    node.reset()
    spikes, membranes = [], []
    for x in xs:
        spikes.append(node(x))
        membranes.append(node.v)
    node.reset()
    return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize("kind", KINDS)
@given(**HYPER)
@settings(max_examples=30, deadline=None)
def test_steps(kind: str, seed: int, **hyper: object) -> None:
    # Since 0.0.0.0.14 fused backward passes compute in another order: 8 ulp of values around 1.
    off = 0.0 if theirs.package == "clock_driven" else 1e-6
    assert_steps_as_the_library_does(make(kind, **hyper), drive, currents(seed), rtol=off, atol=off)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("v_reset", [None, 0.0, 0.2])
@pytest.mark.parametrize("decay", [True, False])
def test_leaks(kind: str, v_reset: float | None, decay: bool) -> None:
    # Else a surrogate passes a slope of its own through the reset, spike or none.
    node = make(kind, tau=3.0, decay=decay, v_reset=v_reset, detach_reset=True)

    def step(before: Tensor, current: Tensor) -> Tensor:
        node.v = before
        node(current)
        return node.v

    assert_leaks_as_the_library_does(node, step)


def test_rest_is_where_the_neuron_rests() -> None:
    # v_reset 0.4, tau 2: 0.4 + (1.6 - (0.4 - 0.4)) / 2 = 1.2 fires, and goes to 0.4.
    node = neuron.LIFNode(v_reset=0.4)
    charged, spike, left = equations_of(node).step(None, torch.tensor([1.6]), 0)
    assert (charged.item(), spike.item(), left.item()) == pytest.approx((1.2, 1.0, 0.4))
    assert node.v == 0.4  # as it was

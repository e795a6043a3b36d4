"""Models of SpikingJelly, with SpikingJelly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checks
from .library import library

functional = library("spikingjelly.activation_based.functional")
layer = library("spikingjelly.activation_based.layer")
neuron = library("spikingjelly.activation_based.neuron")

STEP_MODES = pytest.mark.parametrize("step_mode", ["s", "m"])


def network(step_mode: str, features: int = 5, hidden: int = 6) -> nn.Module:
    torch.manual_seed(0)
    parts = layer.Linear(features, hidden), neuron.LIFNode(), layer.Linear(hidden, 2)
    model = nn.Sequential(*parts)
    functional.set_step_mode(model, step_mode)
    return model


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    functional.reset_net(model)
    if model[1].step_mode == "m" and not online:
        return model(xs)
    outs = []
    for x in xs:
        if online:
            functional.detach_net(model)
        outs.append(model(x) if model[1].step_mode == "s" else model(x.unsqueeze(0))[0])
    return torch.stack(outs)


@STEP_MODES
def test_trains(step_mode: str) -> None:
    checks.assert_trains_as_the_library_does(network(step_mode), plain)


def test_online_is_what_their_own_online_neuron_does() -> None:
    model = network("s")
    theirs = nn.Sequential(model[0], neuron.SLTTLIFNode(), model[2])
    for x in checks.X:
        (F.cross_entropy(theirs(x), checks.TARGET) / checks.STEPS).backward()
    expected = [p.grad.clone() for p in theirs.parameters()]
    for found, wanted in zip(checks.gradients(model, "online"), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@STEP_MODES
def test_resets_and_detaches(step_mode: str) -> None:
    checks.assert_resets_and_detaches(network(step_mode))


@STEP_MODES
def test_counts(step_mode: str) -> None:
    # v + (I - v) / 2, fires at 1, hard reset. Sample 0: I = 3, v = 1.5 fires; then nothing comes.
    # Sample 1: I = 1, v = 0.5; then 0.75: never. 1 firing * 8.
    assert checks.synops(network(step_mode, 3, 4), 1.0) == [20, 8]

"""Models of SpikingJelly 0.0.0.0.12 (``clock_driven``), which most public code pins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron_equations import equations_of
from snnprof.training.adapters import adapt

from . import checks
from .library import library

NEEDED = "clock_driven"
functional = library("spikingjelly.clock_driven.functional", NEEDED)
layer = library("spikingjelly.clock_driven.layer", NEEDED)
neuron = library("spikingjelly.clock_driven.neuron", NEEDED)

SINGLE = {
    "IFNode": lambda: neuron.IFNode(),
    "LIFNode": lambda: neuron.LIFNode(tau=1.6, v_reset=None, detach_reset=True),
    "ParametricLIFNode": lambda: neuron.ParametricLIFNode(decay_input=False, v_reset=0.1),
}
MULTI = {
    "MultiStepIFNode": lambda: neuron.MultiStepIFNode(),
    "MultiStepLIFNode": lambda: neuron.MultiStepLIFNode(
        tau=1.6, v_reset=None, detach_reset=True, backend="torch"
    ),
    "MultiStepParametricLIFNode": lambda: neuron.MultiStepParametricLIFNode(
        decay_input=False, v_reset=0.1
    ),
}
LEAKS = {"IFNode": 1.0, "LIFNode": 1 - 1 / 1.6, "ParametricLIFNode": 0.5}
ALL = SINGLE | MULTI


def network(name: str, features: int = 5, hidden: int = 6) -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Linear(features, hidden), nn.Linear(hidden, 2)
    if name in MULTI:
        first, second = layer.SeqToANNContainer(first), layer.SeqToANNContainer(second)
    return nn.Sequential(first, ALL[name](), second)


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    functional.reset_net(model)
    over_time = type(model[1]).__name__ in MULTI
    if over_time and not online:
        return model(xs)
    outs = []
    for x in xs:
        if online:
            model[1].detach()
        outs.append(model(x.unsqueeze(0))[0] if over_time else model(x))
    return torch.stack(outs)


@pytest.mark.parametrize("name", ALL)
def test_every_mode_every_neuron(name: str) -> None:
    model = network(name)
    assert adapt(model).layout == ("time-first" if name in MULTI else "step")
    checks.assert_trains_as_the_library_does(model, plain)
    checks.assert_resets_and_detaches(model)
    checks.assert_coherence_sees_its_gradients(model, plain)
    leak = LEAKS[name.removeprefix("MultiStep")]
    checks.assert_traces_as_by_hand(model, plain, type(model[1]), leak, lambda node, out: node.v)
    # 3 operations * 6 neurons * 4 time steps = 72
    checks.assert_counts_neuron_operations(model, 72)


@pytest.mark.parametrize("name", ["LIFNode", "MultiStepLIFNode"])
def test_counts(name: str) -> None:
    # v + (I - v) / 1.6, fires at 1, less 1. Sample 0: I = 3, v = 1.875 fires; then nothing comes.
    # Sample 1: I = 1, v = 0.625; then 0.859: never. 1 firing * 8.
    assert checks.synops(network(name, 3, 4), 1.0) == [20, 8]


def test_case_8_profile_step() -> None:
    class Classifier(nn.Module):
        """As the library's own examples: T steps inside, the spikes averaged."""

        def __init__(self) -> None:
            super().__init__()
            self.body = network("MultiStepLIFNode")

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.unsqueeze(0).repeat(4, 1, 1)).mean(0)

    batch = checks.X[0], checks.TARGET
    for name in ("MultiStepLIFNode", "LIFNode"):  # enough neurons for time to be seen at work
        step = snnprof.profile_step(
            lambda name=name: network(name, hidden=64), batch, timesteps=4, warmup=0, repeats=1
        )
        assert step.backward_passes == 1
    assert adapt(Classifier()).layout == "time-first"  # a hint: it is found out by trying


def test_a_model_that_holds_a_layer_of_ours_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        layer.SeqToANNContainer(nn.Linear(5, 6)),
        neuron.MultiStepLIFNode(),
        layer.SeqToANNContainer(nn.Linear(6, 6)),
        LIF(4),
        layer.SeqToANNContainer(nn.Linear(6, 2)),
    )
    checks.gradients(model, "stbp")
    checks.gradients(model, "ottt")
    stepped = adapt(model)
    stepped.reset()
    assert model[3].membrane is None and model[1].v == 0.0
    # 3 operations * (6 + 6) neurons * 4 time steps = 144
    checks.assert_counts_neuron_operations(model, 144)
    functional.reset_net(model)  # their own resets ours too


def test_derived_classes() -> None:
    class Renamed(neuron.LIFNode):
        pass

    class Charged(neuron.LIFNode):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v = 0.3 * self.v + x

    class Rewritten(neuron.LIFNode):
        def forward(self, x: Tensor) -> Tensor:
            return x

    assert equations_of(Renamed()).leak == 0.5
    charged = equations_of(Charged())
    assert charged.unknown == "Charged.neuronal_charge replaces LIFNode's"
    assert (charged.leak, charged.operations_per_step) == (None, 3)
    # Its own methods are run: 0.3 * 0.5 + 1 = 1.15 fires, and goes to 0.
    made = charged.step(torch.tensor([0.5]), torch.tensor([1.0]), 1)
    assert [part.item() for part in made] == pytest.approx([1.15, 1.0, 0.0])
    assert equations_of(Rewritten()).step is None
    model = network("LIFNode")
    model[1] = Charged()
    with pytest.raises(snnprof.SnnprofError, match=r"Charged states no leak \(Charged.neuronal_ch"):
        checks.gradients(model, "ottt")

"""Models of SpikingJelly, with SpikingJelly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS, equations_of
from snnprof.training.adapters import adapt

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


NEURONS = {
    "if": lambda: neuron.IFNode(),
    "lif": lambda: neuron.LIFNode(tau=1.6, v_reset=None, detach_reset=True),
    "plif": lambda: neuron.ParametricLIFNode(decay_input=False, v_reset=0.1),
}
LEAKS = {"if": 1.0, "lif": 1 - 1 / 1.6, "plif": 0.5}


def with_neurons(name: str, step_mode: str) -> nn.Module:
    model = network("s")
    model[1] = NEURONS[name]()
    functional.set_step_mode(model, step_mode)
    return model


@STEP_MODES
@pytest.mark.parametrize("name", NEURONS)
def test_every_mode_every_neuron(name: str, step_mode: str) -> None:
    model = with_neurons(name, step_mode)
    checks.assert_trains_as_the_library_does(model, plain)
    checks.assert_coherence_sees_its_gradients(model, plain)
    kind = type(model[1])
    checks.assert_traces_as_by_hand(model, plain, kind, LEAKS[name], lambda node, out: node.v)
    # 3 operations * 6 neurons * 4 time steps = 72
    checks.assert_counts_neuron_operations(model, 72)


def test_derived_classes() -> None:
    class Renamed(neuron.LIFNode):
        pass

    class Rewritten(neuron.LIFNode):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            return super().single_step_functional_forward(inputs, states, **kwargs)

    class Charged(neuron.SimpleLIFNode):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v = 0.3 * self.v + x

    assert equations_of(Renamed()).leak == 0.5
    assert equations_of(Rewritten()).step is None
    charged = equations_of(Charged(2.0, True))
    assert charged.unknown == "Charged.neuronal_charge replaces SimpleLIFNode's"
    assert charged.leak is None and charged.step is not None
    for node in (neuron.SLTTLIFNode(), neuron.QIFNode(), neuron.PSN(4)):
        assert equations_of(node).unknown is not None


def test_a_model_that_holds_a_layer_of_ours_too() -> None:
    model = network("m")
    model.append(LIF(4))
    model.append(nn.Linear(2, 2))
    checks.gradients(model, "ottt")
    stepped = adapt(model)
    stepped.reset()
    assert model[3].membrane is None and model[1].v == 0.0
    # 3 operations * (6 + 2) neurons * 4 time steps = 96
    checks.assert_counts_neuron_operations(model, 96)


@STEP_MODES
def test_the_librarys_own_reset(step_mode: str) -> None:
    model = network(step_mode)
    stepped = adapt(model)
    stepped.reset()
    first = stepped.run_step(checks.X[0])
    stepped.run_step(checks.X[0])
    functional.reset_net(model)
    assert torch.equal(stepped.run_step(checks.X[0]), first)


def test_store_v_seq() -> None:
    model = network("m")
    model[1].store_v_seq = True
    checks.assert_trains_as_the_library_does(model, plain)
    checks.assert_coherence_sees_its_gradients(model, plain)


def test_a_neuron_that_is_not_known_says_how_to_register_it() -> None:
    model = network("s")
    model[1] = neuron.QIFNode()
    with pytest.raises(snnprof.SnnprofError, match=r"QIFNode states no leak.*register_neuron"):
        checks.gradients(model, "ottt")
    snnprof.register_neuron(neuron.QIFNode)(lambda node: snnprof.NeuronEquations(leak=0.8))
    try:
        checks.gradients(model, "ottt")
    finally:
        del NEURON_EQUATIONS[neuron.QIFNode]

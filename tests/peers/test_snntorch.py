"""Models of snnTorch, with snnTorch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnprof
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS, equations_of
from snnprof.spiking.neuron_operations import NeuronOperations
from snnprof.training.adapters import adapt
from snnprof.training.kept_graphs import kept_graphs

from . import checks, equations
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


MADE = {
    "Leaky": lambda beta, **kwargs: snn.Leaky(beta=beta, **kwargs),
    "Lapicque": lambda beta, **kwargs: snn.Lapicque(beta=beta, **kwargs),
    "Synaptic": lambda beta, **kwargs: snn.Synaptic(alpha=0.4, beta=beta, **kwargs),
}
EVERY_KIND = pytest.mark.parametrize("kind", MADE)
RESETS = st.sampled_from(["subtract", "zero", "none"])


def drive(neuron: nn.Module, xs: Tensor) -> tuple[Tensor, Tensor]:
    neuron.reset_mem()
    spikes, membranes = [], []
    for x in xs:
        spikes.append(neuron(x))
        membranes.append(neuron.mem)
    neuron.reset_mem()
    return torch.stack(spikes), torch.stack(membranes)


@EVERY_KIND
@given(
    beta=st.sampled_from([0.2, 0.5, 0.9]),
    reset_mechanism=RESETS,
    threshold=st.sampled_from([0.5, 1.0]),
    delay=st.booleans(),
    learn=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=30, deadline=None)
def test_steps(kind: str, delay: bool, learn: bool, seed: int, **hyper: object) -> None:
    hyper |= {"init_hidden": True, "learn_beta": learn, "learn_threshold": learn}
    if kind == "Lapicque":  # which has no such choice, and computes its leak from beta once
        hyper["learn_beta"] = False
    else:
        hyper["reset_delay"] = delay
    # Gradients are summed in another order: 8 ulp of values around 1.
    equations.assert_steps_as_the_library_does(
        MADE[kind](**hyper), drive, equations.currents(seed), rtol=1e-6, atol=1e-6
    )


@EVERY_KIND
def test_leaks(kind: str) -> None:
    neuron = MADE[kind](0.7, init_hidden=True)

    def step(before: Tensor, current: Tensor) -> Tensor:
        neuron(current)  # of the right shape
        neuron.mem = before
        neuron(current)
        return neuron.mem

    equations.assert_leaks_as_the_library_does(neuron, step)


def left(neuron: nn.Module, out: object) -> Tensor:
    return neuron.mem - neuron.threshold * (neuron.mem > neuron.threshold)


@EVERY_KIND
@pytest.mark.parametrize("reset_delay", [True, False])
def test_every_mode_every_neuron(kind: str, reset_delay: bool) -> None:
    extra = {} if kind == "Lapicque" else {"reset_delay": reset_delay}
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 6),
        MADE[kind](0.8, init_hidden=True, **extra),
        nn.Linear(6, 2),
        MADE[kind](0.8, init_hidden=True, output=True, **extra),
    )
    with torch.no_grad():
        model[0].weight *= 4  # Lapicque takes a fifth of what comes in
    checks.assert_trains_as_the_library_does(model, plain)
    checks.assert_coherence_sees_its_gradients(model, plain)
    now = left if kind == "Lapicque" or reset_delay else lambda neuron, out: neuron.mem
    leak = float(equations.known(model[1]).leak)
    checks.assert_traces_as_by_hand(model, plain, type(model[1]), leak, now)
    # 3 operations * (6 + 2) neurons * 4 time steps = 96
    checks.assert_counts_neuron_operations(model, 96)


class Tutorial(nn.Module):
    """snnTorch's tutorial: states made in forward, T steps in a loop, spikes and membranes out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)
        self.lif1, self.lif2 = MADE[kind](0.8), MADE[kind](0.8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes, membranes = [], []
        for step in range(checks.STEPS):
            first = first if isinstance(first, tuple) else (first,)
            second = second if isinstance(second, tuple) else (second,)
            out, *first = self.lif1(self.fc1(x[step] if x.dim() == 3 else x), *first)
            out, *second = self.lif2(self.fc2(out), *second)
            first, second = tuple(first), tuple(second)
            spikes.append(out)
            membranes.append(second[-1])
        return torch.stack(spikes), torch.stack(membranes)


@EVERY_KIND
def test_a_tutorial_that_hands_its_states(kind: str) -> None:
    model = Tutorial(kind)
    stepped = adapt(model)
    assert (stepped.layout, stepped.call) == ("inside", model)
    assert snnprof.coherence(model, checks.X, checks.TARGET).timesteps == checks.STEPS
    for index in (0, 1):  # spikes and membranes as the library makes them

        class Output(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = model

            def forward(self, x: Tensor, index: int = index) -> Tensor:
                return self.net(x)[index]

        result = snnprof.coherence(Output(), checks.X, checks.TARGET)
        assert [row.name for row in result.rows] == ["net.lif1", "net.lif2"]
        loss = torch.nn.functional.cross_entropy(model(checks.X)[index].sum(0), checks.TARGET)
        (expected,) = torch.autograd.grad(loss, model.fc1.weight)
        assert result.rows[0].stbp_norm_weight == pytest.approx(float(expected.norm()), rel=1e-5)
        assert result.rows[0].cosine_membrane < 1
    with NeuronOperations(model) as operations, torch.no_grad():
        model(checks.X[0])
    assert operations.per_sample(3) == 3 * (6 + 2) * checks.STEPS


def test_case_4_the_tutorial_trains_and_counts() -> None:
    step = snnprof.profile_step(
        lambda: Tutorial("Leaky"),
        (checks.X[0], checks.TARGET),
        timesteps=checks.STEPS,
        warmup=0,
        repeats=1,
    )
    assert step.backward_passes == 1


@pytest.mark.parametrize("name", ["SLSTM", "RLeaky"])
def test_recurrent_neurons_train_and_say_how_to_be_registered(name: str) -> None:
    torch.manual_seed(0)
    made = {
        "SLSTM": lambda: snn.SLSTM(6, 6, threshold=0.05, init_hidden=True),
        "RLeaky": lambda: snn.RLeaky(0.8, linear_features=6, init_hidden=True),
    }
    model = nn.Sequential(nn.Linear(5, 6), made[name](), nn.Linear(6, 2))
    checks.gradients(model, "online")
    with pytest.raises(snnprof.SnnprofError, match=f"{name} states no leak.*register_neuron"):
        checks.gradients(model, "ottt")
    snnprof.register_neuron(type(model[1]))(lambda neuron: snnprof.NeuronEquations(leak=0.8))
    try:
        checks.gradients(model, "ottt")
    finally:
        del NEURON_EQUATIONS[type(model[1])]


def test_a_derived_class_has_the_equations_it_does_not_replace() -> None:
    class Renamed(snn.Leaky):
        pass

    class Rewritten(snn.Leaky):
        def forward(self, x: Tensor, mem: Tensor | None = None) -> Tensor:
            return x

    assert equations.known(Renamed(0.5)).leak == 0.5
    assert equations_of(Rewritten(0.5)).unknown == "Rewritten.forward replaces Leaky's"

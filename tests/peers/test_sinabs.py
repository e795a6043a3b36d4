"""Models of sinabs, with sinabs."""

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

from . import checks, equations
from .library import library

layers = library("sinabs.layers")
activation = library("sinabs.activation")

SPIKES = {"multi": activation.MultiSpike, "single": activation.SingleSpike}
RESETS = {
    "subtract": activation.MembraneSubtract(),
    "reset": activation.MembraneReset(),
    "subtract 0.7": activation.MembraneSubtract(0.7),
}
KINDS = ("LIF", "IAF", "ExpLeak", "LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze")
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, *, tau_mem: float = 5.0, **hyper: object) -> nn.Module:
    named = {} if kind.startswith("IAF") else {"tau_mem": tau_mem}
    if kind.startswith("ExpLeak"):
        hyper = {"norm_input": hyper.get("norm_input", False)}
    elif kind.startswith("IAF"):
        hyper.pop("norm_input", None)
    if kind.endswith("Squeeze"):
        named["batch_size"] = 3
    return getattr(layers, kind)(**named, **hyper)


def drive(neuron: nn.Module, xs: Tensor) -> tuple[Tensor, Tensor]:
    neuron.init_state_with_shape(xs.shape[1:])
    squeezed = isinstance(neuron, layers.SqueezeMixin)
    spikes, membranes = [], []
    for x in xs:
        out = neuron(x) if squeezed else neuron(x.unsqueeze(1)).squeeze(1)
        spikes.append(out)
        membranes.append(neuron.v_mem)
    neuron.init_state_with_shape(xs.shape[1:])
    return torch.stack(spikes), torch.stack(membranes)


@EVERY_KIND
@given(
    tau_mem=st.sampled_from([1.5, 5.0, 20.0]),
    tau_syn=st.sampled_from([None, 3.0]),
    spikes=st.sampled_from(sorted(SPIKES)),
    reset=st.sampled_from(sorted(RESETS)),
    min_v_mem=st.sampled_from([None, -0.5]),
    norm_input=st.booleans(),
    spike_threshold=st.sampled_from([0.6, 1.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=25, deadline=None)
def test_steps(
    kind: str, seed: int, spikes: str, reset: str, spike_threshold: float, **hyper: object
) -> None:
    hyper |= {"spike_fn": SPIKES[spikes], "reset_fn": RESETS[reset]}
    hyper["spike_threshold"] = torch.tensor(spike_threshold)
    # Gradients are summed in another order: 8 ulp of values around 1.
    equations.assert_steps_as_the_library_does(
        make(kind, **hyper), drive, equations.currents(seed, 4.0), rtol=1e-6, atol=4e-6
    )


@EVERY_KIND
def test_leaks(kind: str) -> None:
    neuron = make(kind, tau_mem=3.0)

    def step(before: Tensor, current: Tensor) -> Tensor:
        neuron.v_mem = before
        neuron(current if kind.endswith("Squeeze") else current.unsqueeze(1))
        return neuron.v_mem

    # Far below, where the surrogate has no slope.
    equations.assert_leaks_as_the_library_does(neuron, step, low=-100.0)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), make(kind, norm_input=False), nn.Linear(6, 2))


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    neuron = model[1]
    neuron.init_state_with_shape((xs.shape[1], 6))
    outs = []
    for x in xs:
        if online:
            neuron.v_mem = neuron.v_mem.detach()
        squeezed = isinstance(neuron, layers.SqueezeMixin)
        outs.append(model(x) if squeezed else model(x.unsqueeze(1)).squeeze(1))
    return torch.stack(outs)


@pytest.mark.parametrize("kind", ["LIF", "IAF", "LIFSqueeze", "IAFSqueeze"])
def test_every_mode_every_neuron(kind: str) -> None:
    model = network(kind)
    # [B * T] is none of the layouts: a sequence runs by the adapter's own way.
    assert adapt(model).layout == (None if kind.endswith("Squeeze") else "batch-first")
    checks.assert_trains_as_the_library_does(model, plain)
    checks.assert_resets_and_detaches(model)
    checks.assert_coherence_sees_its_gradients(model, plain)
    leak = equations.known(model[1]).leak.item()
    checks.assert_traces_as_by_hand(
        model, plain, type(model[1]), leak, lambda neuron, out: neuron.v_mem
    )
    # 3 operations * 6 neurons * 4 time steps = 72
    checks.assert_counts_neuron_operations(model, 72)


@pytest.mark.parametrize("kind", ["IAF", "IAFSqueeze"])
def test_counts(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), make(kind), nn.Linear(4, 2))
    # v + I, as many spikes as whole numbers in v. Sample 0: v = 3 fires 3 times, v = 0; then
    # nothing. Sample 1: v = 1 fires; then again. 3 firings * 8.
    assert checks.synops(model, 1.0) == [20, 24]


def test_a_squeezed_layer_takes_every_batch_whatever_it_was_made_for() -> None:
    model = network("IAFSqueeze")  # made for batches of 3
    stepped = adapt(model)
    xs = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        stepped.reset()
        whole = stepped.run_sequence(xs)
        stepped.reset()
        alone = []
        for sample in xs.split(1, 1):
            stepped.reset()
            alone.append(stepped.run_sequence(sample))
        stepped.reset()
        steps = torch.stack([stepped.run_step(x) for x in xs])
    torch.testing.assert_close(whole, torch.cat(alone, 1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(steps, whole, rtol=1e-6, atol=1e-6)
    assert (model[1].batch_size, model[1].num_timesteps) == (3, -1)  # as it was


def test_integrators_have_no_row() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 6), layers.LIF(4.0), nn.Linear(6, 2), layers.ExpLeak(tau_mem=4.0)
    )
    result = snnprof.coherence(model, checks.X.transpose(0, 1), checks.TARGET, loss=last_step)
    assert [row.name for row in result.rows] == ["1"]
    with NeuronOperations(model) as operations:
        model(checks.X.transpose(0, 1))
    # (3 operations * 6 neurons + 1 * 2 integrators) * 4 time steps = 80
    assert operations.per_sample(3) == 80


def last_step(out: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out[:, -1], target)


def test_others_say_how_to_be_registered() -> None:
    model = nn.Sequential(nn.Linear(5, 6), layers.ALIF(3.0, 3.0), nn.Linear(6, 2))
    checks.gradients(model, "online")
    with pytest.raises(snnprof.SnnprofError, match=r"ALIF states no leak \(snnprof does not know"):
        checks.gradients(model, "ottt")
    snnprof.register_neuron(layers.ALIF)(lambda neuron: snnprof.NeuronEquations(leak=0.7))
    try:
        checks.gradients(model, "ottt")
    finally:
        del NEURON_EQUATIONS[layers.ALIF]
    recurrent = layers.LIFRecurrent(tau_mem=3.0, rec_connect=nn.Linear(6, 6))
    assert equations_of(recurrent).unknown is not None


class Rows(nn.Module):
    """Squeezed neurons over [B * T, ...] in a network that takes [T, B, ...], or images."""

    def __init__(self, repeats: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 2, 3), nn.Linear(8, 2)
        self.neurons = layers.IAFSqueeze(num_timesteps=4)
        self.repeats = repeats

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(4, *x.shape) if self.repeats else x
        spikes = self.neurons(self.first(x.transpose(0, 1).flatten(0, 1)))
        rows = self.second(spikes.flatten(1))
        out = rows.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)
        return out.mean(0) if self.repeats else out


@pytest.mark.parametrize("repeats", [False, True])
def test_squeezed_neurons_are_told_their_samples_in_every_layout(repeats: bool) -> None:
    x, y = torch.rand(3, 1, 4, 4) * 4, torch.arange(3) % 2
    by_hand = Rows(repeats)  # made for 4 time steps, and run for 4: right by itself
    with torch.no_grad(), snnprof.SopCounter(by_hand, batch_dim=0 if repeats else 1) as counter:
        by_hand(x if repeats else x.expand(4, *x.shape))
    train = x if repeats else x.expand(4, *x.shape)
    (row,) = snnprof.run(
        lambda: Rows(repeats), data=([(train, y)], [(train, y)]), modes="stbp", epochs=0, repeats=1
    ).rows
    assert row.layout == ("inside" if repeats else "time-first")
    assert [one.synops for one in row.counts.rows] == [one.synops for one in counter.result().rows]

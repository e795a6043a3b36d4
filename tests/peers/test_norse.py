"""Models of Norse, with Norse."""

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

norse = library("norse.torch")
reset = library("norse.torch.functional.reset")


def linears(features: int, hidden: int) -> tuple[nn.Linear, nn.Linear]:
    """Weights that let neurons fire which take a tenth of what comes in."""
    torch.manual_seed(0)
    first, second = nn.Linear(features, hidden), nn.Linear(hidden, 2)
    nn.init.normal_(first.weight, std=3.0)
    return first, second


def cells(features: int = 5, hidden: int = 6) -> nn.Module:
    """One time step a call, [B, ...]."""
    first, second = linears(features, hidden)
    return norse.SequentialState(first, norse.LIFBoxCell(), second)


def lifted(features: int = 5, hidden: int = 6) -> nn.Module:
    """Time steps in a call, [T, B, ...]."""
    first, second = linears(features, hidden)
    return norse.SequentialState(norse.Lift(first), norse.LIF(), norse.Lift(second))


NETWORKS = pytest.mark.parametrize("network", [cells, lifted])


def detached(state: list) -> list:
    return [None if one is None else type(one)(*(v.detach() for v in one)) for one in state]


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    over_time = isinstance(model[0], norse.Lift)
    if over_time and not online:
        return model(xs)[0]
    state, outs = None, []
    for x in xs:
        if online and state is not None:
            state = detached(state)
        out, state = model(x.unsqueeze(0) if over_time else x, state)
        outs.append(out[0] if over_time else out)
    return torch.stack(outs)


@NETWORKS
def test_trains(network) -> None:
    checks.assert_trains_as_the_library_does(network(), plain)


@NETWORKS
def test_resets_and_detaches(network) -> None:
    checks.assert_resets_and_detaches(network())


def test_counts_cells() -> None:
    # v + (I - v) / 10, fires above 1, reset to 0. Sample 0: I = 12, v = 1.2 fires; then nothing.
    # Sample 1: I = 4, v = 0.4; then 0.4 + 0.36 = 0.76: never. 1 firing * 8.
    assert checks.synops(cells(3, 4), 4.0) == [20, 8]


def test_counts_lifted() -> None:
    # As above, of a current that keeps 0.8 of itself. Sample 0: fires; then I = 9.6, v = 0.96.
    # Sample 1: I = 4, v = 0.4; then I = 3.2 + 4, v = 0.4 + 0.68 = 1.08 fires. 2 firings * 8.
    assert checks.synops(lifted(3, 4), 4.0) == [20, 16]


def parameters(kind: str, tau: float, v_th: float, v_reset: float, v_leak: float) -> object:
    tensors = {"v_th": torch.tensor(v_th), "v_reset": torch.tensor(v_reset)}
    if kind.startswith("IAF"):
        return norse.IAFParameters(**tensors)
    tensors |= {"tau_mem_inv": torch.tensor(1 / tau), "v_leak": torch.tensor(v_leak)}
    if kind == "LIFBoxCell":
        return norse.LIFBoxParameters(**tensors)
    if kind.startswith("LIF"):
        return norse.LIFParameters(**tensors, tau_syn_inv=torch.tensor(150.0))
    del tensors["v_th"], tensors["v_reset"]
    return norse.LIParameters(**tensors)


KINDS = ("LIFCell", "LIF", "LIFBoxCell", "IAFCell", "LICell", "LI")
OVER_TIME = ("LIF", "LI")


def drive(neuron: nn.Module, xs: Tensor) -> tuple[Tensor, Tensor]:
    state, spikes, membranes = None, [], []
    over_time = type(neuron).__name__ in OVER_TIME
    for x in xs:
        out, state = neuron(x.unsqueeze(0) if over_time else x, state)
        spikes.append(out[0] if over_time else out)
        membranes.append(state.v)
    return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize("kind", KINDS)
@given(
    tau=st.sampled_from([0.003, 0.01, 0.05]),
    v_th=st.sampled_from([0.3, 1.0]),
    v_reset=st.sampled_from([0.0, -0.2]),
    v_leak=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=25, deadline=None)
def test_steps(kind: str, seed: int, **hyper: float) -> None:
    # Gradients are summed in another order: 4 ulp of the largest.
    neuron = getattr(norse, kind)(parameters(kind, **hyper))
    equations.assert_steps_as_the_library_does(
        neuron, drive, equations.currents(seed, 8.0), rtol=1e-6, atol=1e-5
    )


def test_steps_with_a_soft_reset() -> None:
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=reset.reset_subtract))
    equations.assert_steps_as_the_library_does(
        cell, drive, equations.currents(0, 20.0), rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_leaks(kind: str) -> None:
    neuron = getattr(norse, kind)(parameters(kind, 0.004, 1.0, 0.0, 0.0))

    def step(before: Tensor, current: Tensor) -> Tensor:
        over_time = kind in OVER_TIME
        _, rest = neuron(current.unsqueeze(0) if over_time else current)
        state = rest._replace(v=before)
        return neuron(current.unsqueeze(0) if over_time else current, state)[1].v

    # Far below, where the surrogate's slope at the reset is lost in rounding.
    equations.assert_leaks_as_the_library_does(neuron, step, low=-1e9)


def box_over_time() -> nn.Module:
    return norse.Lift(cells())


@pytest.mark.parametrize("network", [cells, lifted, box_over_time])
def test_every_mode(network) -> None:
    model = network()
    run = plain if network is not box_over_time else plain_lift
    checks.assert_trains_as_the_library_does(model, run)
    checks.assert_coherence_sees_its_gradients(model, run)
    # 1 - 0.001 * 100 = 0.9
    kind = norse.LIF if network is lifted else norse.LIFBoxCell
    checks.assert_traces_as_by_hand(model, run, kind, 0.9, lambda neuron, out: out[1].v)
    # 3 operations * 6 neurons * 4 time steps = 72
    checks.assert_counts_neuron_operations(model, 72)


def plain_lift(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    return plain(model.lifted_module, xs, online)


class ReadOut(nn.Module):
    """A loop of the model's own, with a leaky integrator in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = linears(5, 6)
        self.lif, self.out = norse.LIFCell(), norse.LICell()

    def forward(self, xs: Tensor) -> Tensor:
        return self.run(xs, False)

    def run(self, xs: Tensor, online: bool) -> Tensor:
        spiking = leaky = None
        outs = []
        for x in xs:
            if online and spiking is not None:
                spiking, leaky = detached([spiking, leaky])
            spikes, spiking = self.lif(self.first(x), spiking)
            out, leaky = self.out(self.second(spikes), leaky)
            outs.append(out)
        return torch.stack(outs)


def test_integrators_are_cut_and_have_no_row() -> None:
    model = ReadOut()
    assert adapt(model).layout == "inside"
    result = snnprof.coherence(model, checks.X, checks.TARGET)
    assert [row.name for row in result.rows] == ["lif"]
    for online, found in (
        (False, result.rows[0].stbp_norm_weight),
        (True, result.rows[0].online_norm_weight),
    ):
        loss = torch.nn.functional.cross_entropy(model.run(checks.X, online).sum(0), checks.TARGET)
        (expected,) = torch.autograd.grad(loss, model.first.weight)
        assert found == pytest.approx(float(expected.norm()), rel=1e-5)
    with NeuronOperations(model) as operations:
        model(checks.X)
    # (3 operations * 6 neurons + 1 * 2 integrators) * 4 time steps = 80
    assert operations.per_sample(3) == 80


def test_a_lift_around_a_neuron_says_what_to_do() -> None:
    first, second = linears(5, 6)
    model = norse.SequentialState(
        norse.Lift(first), norse.Lift(norse.LIFBoxCell()), norse.Lift(second)
    )
    checks.gradients(model, "stbp")
    with pytest.raises(snnprof.SnnprofError, match=r"Lift\(SequentialState"):
        checks.gradients(model, "online")


def test_recurrent_cells_train_and_say_how_to_be_registered() -> None:
    torch.manual_seed(0)
    model = norse.SequentialState(norse.LIFRecurrentCell(5, 6), nn.Linear(6, 2))
    checks.gradients(model, "online")
    with pytest.raises(snnprof.SnnprofError, match=r"LIFRecurrentCell states no leak \(it has rec"):
        checks.gradients(model, "ottt")
    register = snnprof.register_neuron(norse.LIFRecurrentCell)
    register(lambda cell: snnprof.NeuronEquations(leak=0.9))
    try:
        checks.gradients(model, "ottt")
    finally:
        del NEURON_EQUATIONS[norse.LIFRecurrentCell]


def test_other_cells_say_that_they_are_not_known() -> None:
    assert equations_of(norse.LIFExCell()).unknown == "snnprof does not know this neuron"
    adjoint = norse.LIFCell(norse.LIFParameters(method="adjoint"))
    assert equations_of(adjoint).unknown == "method 'adjoint'"

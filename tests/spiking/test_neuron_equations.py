"""One registration from outside: NOPs, presynaptic traces and coherence follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.spiking.lif import LIF
from snnprof.spiking.network import PerStep
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS, equations_of, numbers
from snnprof.spiking.neuron_registry import neuron_maker
from snnprof.spiking.surrogates import surrogate_spike
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode
from snnprof.training.stepped_model import SteppedModel, stepwise

STEPS, BATCH, NEURONS = 4, 3, 6


class TheirLIF(nn.Module):
    """A soft-reset LIF of another library, which knows nothing of snnprof."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.v_threshold = 0.5, 1.0
        self.v: Tensor | None = None
        self.ran = 0

    def charge_and_fire(self, v: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = x if v is None else self.decay * v + x
        spike = surrogate_spike(h - self.v_threshold)
        return h, spike, h - spike

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for current in x:
            _, spike, self.v = self.charge_and_fire(self.v, current)
            out.append(spike)
            self.ran += 1
        return torch.stack(out)

    def forget(self) -> None:
        self.v, self.ran = None, 0

    def cut(self) -> None:
        if self.v is not None:
            self.v = self.v.detach()


def stated(neuron: TheirLIF) -> snnprof.NeuronEquations:
    return snnprof.NeuronEquations(
        lambda v, x, t: neuron.charge_and_fire(v, x),
        threshold=neuron.v_threshold,
        leak=neuron.decay,
        operations=None if neuron.v is None else 3 * neuron.v[0].numel() * neuron.ran,
        membrane=neuron.v,
    )


@pytest.fixture
def registered() -> Iterator[None]:
    """Their neuron, registered once."""
    snnprof.register_neuron(TheirLIF)(stated)
    yield
    del NEURON_EQUATIONS[TheirLIF]


def network(neuron: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = PerStep(nn.Linear(4, NEURONS)), neuron, PerStep(nn.Linear(NEURONS, 3))
    return nn.Sequential(*layers).double()


def theirs_stepped(model: nn.Sequential) -> SteppedModel:
    neuron = model[1]
    assert isinstance(neuron, TheirLIF)
    return stepwise(
        model, reset=neuron.forget, detach=neuron.cut, step=lambda x: model(x.unsqueeze(0))[0]
    )


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return 2 * torch.randn(STEPS, BATCH, 4, dtype=torch.float64), torch.tensor([0, 2, 1])


def gradients(stepped: SteppedModel, mode: str) -> list[Tensor]:
    x, y = data()
    optimizer = torch.optim.SGD(stepped.model.parameters(), lr=0.0)
    find_mode(mode)(BatchRun(stepped, x, y, optimizer))
    return [p.grad.clone() for p in stepped.model.parameters() if p.grad is not None]


def test_neuron_operations(registered: None) -> None:
    model = network(TheirLIF())
    assert snnprof.neuron_ops(model) is None
    model(data()[0])
    assert snnprof.neuron_ops(model) == 3 * NEURONS * STEPS  # charge, fire, reset


@pytest.mark.parametrize("mode", ["ottt", "ndot"])
def test_traces_are_those_of_the_same_neuron_of_ours(registered: None, mode: str) -> None:
    found = gradients(theirs_stepped(network(TheirLIF())), mode)
    expected = gradients(adapt(network(LIF(STEPS))), mode)
    online = gradients(adapt(network(LIF(STEPS))), "online")
    assert not torch.equal(expected[2], online[2])  # the weight behind the neurons
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_coherence_is_that_of_the_same_neuron_of_ours(registered: None) -> None:
    (theirs,) = snnprof.coherence(network(TheirLIF()), *data()).rows
    (ours,) = snnprof.coherence(network(LIF(STEPS)), *data()).rows
    assert (theirs.neuron, theirs.identity_claimed) == ("TheirLIF", False)
    model = network(TheirLIF())
    spikes = model[:2](data()[0])  # of the linear layer and the neurons
    assert theirs.fired == int((spikes != 0).sum()) / (STEPS * BATCH * NEURONS)
    assert 0 < theirs.fired < 1
    for field in fields(ours):
        if field.name not in ("name", "neuron", "reason"):
            a, b = getattr(theirs, field.name), getattr(ours, field.name)
            assert a == (pytest.approx(b, rel=1e-9, abs=1e-12) if isinstance(b, float) else b)


@pytest.mark.parametrize(
    ("missing", "mode", "who"),
    [
        ("leak", "ottt", "traces"),
        ("membrane", "ndot", "ndot"),
        ("step", None, "gradient coherence"),
        ("leak", None, "gradient coherence"),
    ],
)
def test_what_is_not_stated_is_asked_for_by_name(
    missing: str, mode: str | None, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def partly(neuron: TheirLIF) -> snnprof.NeuronEquations:
        return replace(stated(neuron), **{missing: None})  # type: ignore[arg-type]

    monkeypatch.setitem(NEURON_EQUATIONS, TheirLIF, partly)
    model = network(TheirLIF())
    message = rf"TheirLIF states no {missing}, which {who}.*@snnprof\.register_neuron\(TheirLIF\)"
    with pytest.raises(snnprof.SnnprofError, match=message):
        snnprof.coherence(model, *data()) if mode is None else gradients(
            theirs_stepped(model), mode
        )


def test_only_what_is_known_need_be_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        NEURON_EQUATIONS, TheirLIF, lambda neuron: snnprof.NeuronEquations(leak=0.5)
    )
    model = network(TheirLIF())
    assert len(gradients(theirs_stepped(model), "ottt")) == 4  # two weights, two biases
    assert snnprof.neuron_ops(model) is None


def test_a_class_is_registered_once_and_holds_for_those_derived(registered: None) -> None:
    class Derived(TheirLIF):
        pass

    assert equations_of(Derived()) is not None
    assert equations_of(nn.Linear(2, 2)) is None
    with pytest.raises(ValueError, match="already registered"):
        snnprof.register_neuron(TheirLIF)(stated)


def test_a_parameter_is_one_number_or_one_per_step() -> None:
    steps, like = slice(1, 4), torch.zeros(2, dtype=torch.float64)
    assert numbers(0.7, steps, like, "leak").tolist() == [0.7, 0.7, 0.7]
    per_step = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    assert numbers(lambda s: per_step[s], steps, like, "leak").tolist() == [0.2, 0.3, 0.4]
    with pytest.raises(snnprof.SnnprofError, match="threshold of a registered neuron has shape"):
        numbers(per_step, steps, like, "threshold")


@pytest.mark.parametrize(
    "specification",
    [
        "lif",
        "lif+reset=hard+threshold=0.7",
        "ilif",
        "hdlif",
        "hdlif+four_bit",
        "hdlif+literal",
        "hdlif+parallel",
    ],
)
def test_the_stated_step_of_our_neurons_is_what_they_run(specification: str) -> None:
    torch.manual_seed(0)
    neuron = neuron_maker(specification, STEPS)(NEURONS, second=True).double()
    for parameter in neuron.parameters():
        nn.init.normal_(parameter)
    x = 2 * torch.randn(STEPS, BATCH, NEURONS, dtype=torch.float64)
    equations = equations_of(neuron)
    assert equations is not None and equations.step is not None
    membrane, spikes = None, []
    with torch.no_grad():
        for t, current in enumerate(x):
            _, spike, membrane = equations.step(membrane, current, t)
            spikes.append(spike)
        ran = neuron(x)
    torch.testing.assert_close(torch.stack(spikes), ran, rtol=1e-12, atol=1e-14)
    after = equations_of(neuron)
    assert after is not None and after.operations == snnprof.neuron_ops(neuron)
    if "parallel" not in specification:
        assert membrane is not None and after.membrane is not None
        torch.testing.assert_close(membrane, after.membrane.view_as(membrane))

"""Neurons of other libraries, replayed by the equations that they state."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.coherence.measure import coherence
from snnprof.spiking.hdlif import HDLIF, hdlif_step
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron_equations import (
    NEURON_EQUATIONS,
    NeuronCall,
    NeuronEquations,
    register_neuron,
)


class Foreign(nn.Module):
    """Somebody's soft-reset LIF, called once per time step."""

    def forward(self, current: Tensor) -> Tensor:
        raise AssertionError("its own forward is not run")


class Looped(nn.Module):
    """A network that is one loop over time."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.n, self.b = nn.Linear(5, 8), make(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for current in x:
            held = self.a(current)
            own = isinstance(self.n, LIF | HDLIF)
            out.append(self.b(self.n(held[None])[0] if own else self.n(held)))
        return torch.stack(out)


def hdlif_equations(module: nn.Module) -> NeuronEquations:
    half = torch.tensor(0.5)

    def step(membrane: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        charged = current if membrane is None else half * membrane + current
        spike, left = hdlif_step(None, charged, half, half)
        return charged, spike, left

    return NeuronEquations(step, threshold=0.5, leak=0.5, multi_step=False, identity=True)


def test_another_librarys_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(snnprof.SnnprofError, match="register_neuron"):
        coherence(Looped(Foreign), x, y)
    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    with pytest.raises(ValueError, match="already registered"):
        register_neuron(Foreign)(hdlif_equations)
    (row,) = coherence(Looped(Foreign), x, y).rows
    (own,) = coherence(Looped(lambda: HDLIF(4)), x, y).rows
    assert (row.neuron, own.neuron) == ("Foreign", "hdlif")
    assert row.identity_claimed and row.weights == own.weights == ("a.weight",)
    for name in ("fired", "separability", "cosine_membrane", "cosine_weight", "relative_error"):
        assert getattr(row, name) == pytest.approx(getattr(own, name), rel=1e-5)


def test_neurons_of_more_than_one_tensor_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Given(Looped):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.b(self.n(self.a(current), current)) for current in x])

    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    x, y = torch.randn(4, 6, 5), torch.arange(6) % 3
    with pytest.raises(snnprof.SnnprofError, match=r"called with \(Tensor, Tensor\)"):
        coherence(Given(Foreign), x, y)


@pytest.mark.parametrize(
    ("equations", "message"),
    [
        (lambda module: None, "returned NoneType, not snnprof.NeuronEquations"),
        (
            lambda module: NeuronEquations(lambda m, i, t: (i, i), leak=0.5, multi_step=False),
            "three tensors",
        ),
        (
            lambda module: NeuronEquations(lambda m, i, t: i, leak=0.5, multi_step=False),
            "three tensors",
        ),
    ],
)
def test_equations_that_are_none(
    equations: Callable[[nn.Module], NeuronEquations],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, equations)
    with pytest.raises(snnprof.SnnprofError, match=message):
        coherence(Looped(Foreign), torch.randn(4, 6, 5), torch.arange(6) % 3)


def test_a_learnt_leak_is_one_number() -> None:
    class Leaky(nn.Module):
        def __init__(self, leak: Tensor) -> None:
            super().__init__()
            self.decay = nn.Parameter(leak)

        def forward(self, currents: Tensor) -> Tensor:
            raise AssertionError("it is replayed by its equations")

    @register_neuron(Leaky)
    def equations(neuron: Leaky) -> NeuronEquations:
        half = torch.tensor(0.5, dtype=torch.float64)

        def step(membrane: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
            charged = current if membrane is None else neuron.decay * membrane + current
            spike, left = hdlif_step(None, charged, half, half)
            return charged, spike, left

        return NeuronEquations(step, threshold=0.5, leak=neuron.decay, identity=True)

    try:
        torch.manual_seed(0)
        x, y = torch.randn(4, 3, 6).double(), torch.arange(3)
        net = nn.Sequential(nn.Linear(6, 8), Leaky(torch.tensor(0.7)), nn.Linear(8, 4)).double()
        (row,) = coherence(net, x, y).rows
        assert row.identity_residual is not None
        assert row.identity_residual < 1e-12
        wide = nn.Sequential(nn.Linear(6, 8), Leaky(torch.full((8,), 0.7)), nn.Linear(8, 4))
        with pytest.raises(snnprof.SnnprofError, match="one number for the whole layer"):
            coherence(wide.double(), x, y)
    finally:
        del NEURON_EQUATIONS[Leaky]


def test_a_model_that_takes_a_time_step_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    looped = Looped(Foreign)
    single = nn.Sequential(looped.a, looped.n, looped.b)
    (whole,) = coherence(looped, x, y).rows
    (steps,) = coherence(single, x, y, layout="step").rows
    (own,) = coherence(snnprof.stepwise(single, reset=list, detach=list), x, y).rows
    for name in ("fired", "cosine_membrane", "cosine_weight", "relative_error"):
        assert getattr(steps, name) == getattr(own, name) == getattr(whole, name)
    with pytest.raises(snnprof.SnnprofError, match="layout 'steps'"):
        coherence(single, x, y, layout="steps")


def test_a_layer_that_is_handed_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that keeps nothing: the loop of the network carries its state, which is cut there."""

    class Cell(nn.Module):
        def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            raise AssertionError("its own forward is not run")

    class Carried(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            looped = Looped(Cell)
            self.a, self.n, self.b = looped.a, looped.n, looped.b

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
            state, out = None, []
            for current in x:
                spikes, state = self.n(self.a(current), state)
                out.append(self.b(spikes))
            return torch.stack(out), state

    def handed(module: nn.Module) -> NeuronEquations:
        call = NeuronCall(
            lambda current, state=None: (current.unsqueeze(0), state),
            lambda spikes, state: (spikes[0], state),
            keeps_state=False,
        )
        return replace(hdlif_equations(module), call=call)

    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    monkeypatch.setitem(NEURON_EQUATIONS, Cell, handed)
    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    (kept,) = coherence(Looped(Foreign), x, y).rows
    (carried,) = coherence(Carried(), x, y).rows
    assert replace(carried, neuron="Foreign") == kept

"""Models of other libraries: fakes with the shape of their APIs. The libraries: tests/peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import Tensor, nn

import snnprof
from snnprof.training.adapters import ADAPTERS, adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.kept_graphs import kept_graphs
from snnprof.training.modes import find_mode
from snnprof.training.stepped_model import SteppedModel

from ..support.neurons import charge

STEPS = 4
X = 2 * torch.randn(STEPS, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 1])


def layers() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(5, 6).double(), nn.Linear(6, 2).double()


def reference(mode: str) -> list[Tensor]:
    """Two linear layers with the neuron of the fakes between, by torch's autograd alone."""
    first, second = layers()
    state, losses, outs = None, [], []
    for x in X:
        if mode == "online" and state is not None:
            state = state.detach()
        spikes, state = charge(state, first(x))
        outs.append(second(spikes))
        losses.append(F.cross_entropy(outs[-1], TARGET) / STEPS)
    loss = F.cross_entropy(torch.stack(outs).sum(0), TARGET) if mode == "stbp" else sum(losses)
    parameters = [*first.parameters(), *second.parameters()]
    return list(torch.autograd.grad(torch.as_tensor(loss), parameters))


def assert_trains_right(model: nn.Module | SteppedModel) -> None:
    """The gradients of both modes, twice: the state of the first batch is forgotten."""
    stepped = adapt(model)
    optimizer = torch.optim.SGD(stepped.model.parameters(), lr=0.0)
    for mode in ("stbp", "online", "stbp"):
        find_mode(mode)(BatchRun(stepped, X, TARGET, optimizer, watch=True))
        for p, expected in zip(stepped.model.parameters(), reference(mode), strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, expected, rtol=1e-12, atol=1e-14)


Make = Callable[..., Any]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_spikingjelly_shape(fake_library: Make, step_mode: str) -> None:
    class MemoryModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step_mode = step_mode
            self._memories: dict[str, Tensor | None] = {"v": None}

        def reset(self) -> None:
            self._memories["v"] = None

        def detach(self) -> None:
            if self._memories["v"] is not None:
                self._memories["v"].detach_()

        def one(self, x: Tensor) -> Tensor:
            spikes, self._memories["v"] = charge(self._memories["v"], x)
            return spikes

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if step_mode == "s" else torch.stack([self.one(t) for t in x])

    fake_library("spikingjelly.activation_based.base", MemoryModule=MemoryModule)
    first, second = layers()
    model = nn.Sequential(first, MemoryModule(), second)
    assert (adapt(model).sequence is None) == (step_mode == "s")
    assert_trains_right(model)


@pytest.mark.parametrize("over_time", [False, True])
def test_spikingjelly_of_before(fake_library: Make, over_time: bool) -> None:
    """``clock_driven``: no step modes, and a multi-step layer says so by its name."""

    class MemoryModule(nn.Module):
        v: Tensor | None = None

        def reset(self) -> None:
            self.v = None

        def detach(self) -> None:
            self.v = None if self.v is None else self.v.detach()

        def one(self, x: Tensor) -> Tensor:
            spikes, self.v = charge(self.v, x)
            return spikes

    class LIFNode(MemoryModule):
        def forward(self, x: Tensor) -> Tensor:
            return self.one(x)

    class MultiStepLIFNode(MemoryModule):
        def forward(self, xs: Tensor) -> Tensor:
            return torch.stack([self.one(x) for x in xs])

    fake_library("spikingjelly.clock_driven.base", MemoryModule=MemoryModule)
    fake_library(
        "spikingjelly.clock_driven.neuron", LIFNode=LIFNode, MultiStepLIFNode=MultiStepLIFNode
    )
    first, second = layers()
    model = nn.Sequential(first, MultiStepLIFNode() if over_time else LIFNode(), second)
    assert adapt(model).layout == ("time-first" if over_time else "step")
    assert_trains_right(model)


def test_snntorch_shape(fake_library: Make) -> None:
    class SpikingNeuron(nn.Module):
        def __init__(self, init_hidden: bool = True) -> None:
            super().__init__()
            self.init_hidden = init_hidden
            self.register_buffer("mem", torch.zeros(0), persistent=False)

        def reset_mem(self) -> None:
            self.mem = torch.zeros_like(self.mem)

        def forward(self, x: Tensor) -> Tensor:
            spikes, self.mem = charge(self.mem if self.mem.numel() else None, x)
            return spikes

    fake_library("snntorch", SpikingNeuron=SpikingNeuron)
    first, second = layers()

    class Pair(nn.Module):
        """The last layer of snnTorch gives (spikes, membrane)."""

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    # The neuron lies deep: utils.reset would not see it.
    assert_trains_right(nn.Sequential(nn.Sequential(first, SpikingNeuron()), second, Pair()))
    # One that is handed its state is handed it in a loop of the model's own.
    assert adapt(nn.Sequential(first, SpikingNeuron(init_hidden=False))).layout == "inside"


def test_norse_shape(fake_library: Make) -> None:
    class SequentialState(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(
            self, x: Tensor, state: list[Tensor | None] | None = None
        ) -> tuple[Tensor, list[Tensor | None]]:
            spikes, left = charge(None if state is None else state[1], self.first(x))
            return self.second(spikes), [None, left]

    fake_library("norse.torch.module.sequential", SequentialState=SequentialState)
    assert_trains_right(SequentialState(*layers()))


def test_norse_shape_over_time(fake_library: Make) -> None:
    class Lift(nn.Module):
        """A Norse layer over [T, B, ...]: it wants time steps, never samples in their place."""

        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            outs = []
            for current in x:
                spikes, state = charge(state, self.first(current))
                outs.append(self.second(spikes))
            return torch.stack(outs), state

    fake_library("norse.torch.module.lift", Lift=Lift)
    model = Lift(*layers())
    assert adapt(model).sequence is not None
    assert_trains_right(model)


def test_stepwise_takes_any_model() -> None:
    first, second = layers()
    held: list[Tensor | None] = [None]

    def step(x: Tensor) -> Tensor:
        spikes, held[0] = charge(held[0], first(x))
        out: Tensor = second(spikes)
        return out

    def reset() -> None:
        held[0] = None

    def detach() -> None:
        held[0] = None if held[0] is None else held[0].detach()

    assert_trains_right(
        snnprof.stepwise(nn.ModuleList([first, second]), reset=reset, detach=detach, step=step)
    )


def test_a_wrong_output_says_what_is_needed() -> None:
    optimizer = torch.optim.SGD(layers()[0].parameters())
    for model, message in [
        (nn.Flatten(), r"gave \(1, 15\) for an input of shape \(1, 3, 5\), \[1, B, classes\]"),
        (nn.LSTM(5, 2).double(), r"gave tuple for an input of shape \(1, 3, 5\)"),
    ]:
        with pytest.raises(snnprof.SnnprofError, match=message + r".*snnprof\.stepwise"):
            find_mode("online")(BatchRun(adapt(model), X, TARGET, optimizer))
    with pytest.raises(snnprof.SnnprofError, match=r"\[T, B, classes\] is needed"):
        find_mode("stbp")(BatchRun(adapt(nn.Flatten()), X, TARGET, optimizer))


def test_an_adapter_of_your_own() -> None:
    with pytest.raises(ValueError, match="already registered"):
        ADAPTERS.register("norse")(ADAPTERS["norse"])
    assert list(ADAPTERS)[-1] == "snnprof"  # a model of theirs may hold a layer of ours


def test_graphs_are_looked_for_in_attributes_buffers_lists_and_dictionaries() -> None:
    graph = torch.ones(2, requires_grad=True) * 2
    for held in ({"a": graph}, [graph], graph, ({"b": [graph]},)):
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        assert kept_graphs(model) == {}
        model[1].held = held
        assert kept_graphs(model) == {"1 (ReLU)": 1}
    model = nn.Linear(2, 2)
    model.register_buffer("state", graph)
    assert kept_graphs(model) == {"the model (Linear)": 1}
    pruned = nn.utils.prune.random_unstructured(nn.Linear(2, 2), "weight", 0.5)
    assert pruned.weight.grad_fn is not None
    assert kept_graphs(pruned) == {}

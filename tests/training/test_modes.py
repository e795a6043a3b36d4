"""The training modes against their definitions, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnprof
from snnprof.models import create
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron import neurons_of
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import FAMILIES, MODES, find_mode, mode_names

NAMES = [*MODES, "sltt-1"]
NEURONS = ["lif", "hdlif", "ilif", "hdlif+four_bit+parallel+mem_bn+seca"]


class NoStep(torch.optim.SGD):
    """Keeps the gradients of every optimiser step to be looked at."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network.parameters(), lr=0.1)
        self.seen: list[list[Tensor | None]] = []

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        parameters = self.param_groups[0]["params"]
        self.seen.append([None if p.grad is None else p.grad.clone() for p in parameters])


def small(timesteps: int, neuron: str = "lif") -> SpikingNetwork:
    torch.manual_seed(0)
    network = create("vgg5", neuron=neuron, timesteps=timesteps, in_channels=1, image_size=8)
    return network.double()


def inputs(timesteps: int) -> Tensor:
    torch.manual_seed(1)
    return 2 * torch.randn(timesteps, 4, 1, 8, 8, dtype=torch.float64)


def trained(
    name: str, timesteps: int, neuron: str = "lif", seed: int = 0
) -> tuple[NoStep, BatchRun, Tensor]:
    network = small(timesteps, neuron)
    optimizer = NoStep(network)
    generator = torch.Generator().manual_seed(seed)
    run = BatchRun(
        adapt(network),
        inputs(timesteps),
        torch.arange(4),
        optimizer,
        generator=generator,
        watch=True,
    )
    loss = find_mode(name, timesteps)(run)
    return optimizer, run, loss


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", NAMES)
def test_all_modes_agree_at_one_time_step(name: str, neuron: str) -> None:
    found, run, loss = trained(name, 1, neuron)
    expected, _, expected_loss = trained("stbp", 1, neuron)
    assert (run.forwards, run.backward_passes, run.optimizer_steps) == (1, 1, 1)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-14, atol=0)
    assert_same(found.seen[0], expected.seen[0])


# forwards, backward passes, optimiser steps at T = 4
COSTS = {
    "stbp": (4, 1, 1),
    "stbp-checkpoint": (4, 1, 1),
    "online": (4, 4, 1),
    "online-step": (4, 4, 4),
    "sltt-1": (4, 1, 1),
    "sltt-3": (4, 3, 1),
    "ottt": (4, 4, 1),
    "ottt-step": (4, 4, 4),
    "ndot": (4, 4, 1),
    "ndot-code": (4, 4, 1),
    "ndot-step": (4, 4, 4),
}


@pytest.mark.parametrize("name", COSTS)
def test_what_a_mode_runs(name: str) -> None:
    optimizer, run, _ = trained(name, 4)
    assert (run.forwards, run.backward_passes, run.optimizer_steps) == COSTS[name]
    assert len(optimizer.seen) == run.optimizer_steps


def test_stbp_is_the_gradient_of_the_summed_output() -> None:
    network = small(3)
    loss = F.cross_entropy(network(inputs(3)).sum(0), torch.arange(4))
    expected = torch.autograd.grad(loss, list(network.parameters()))
    assert_same(trained("stbp", 3)[0].seen[0], list(expected))


def single_steps(network: SpikingNetwork, sequence: Tensor) -> list[list[Tensor]]:
    """Per time step, the gradients of its loss with the membrane held fixed."""
    found = []
    for current in sequence:
        for neuron in neurons_of(network):
            held = neuron.membrane
            neuron.membrane = None if held is None else held.clone().detach()
        loss = F.cross_entropy(network(current.unsqueeze(0))[0], torch.arange(4))
        found.append(list(torch.autograd.grad(loss, list(network.parameters()))))
    return found


def summed(steps: list[list[Tensor]], factor: float) -> list[Tensor | None]:
    return [factor * torch.stack(parts).sum(0) for parts in zip(*steps, strict=True)]


@pytest.mark.parametrize("neuron", ["lif", "hdlif"])
def test_online_is_the_sum_of_single_steps(neuron: str) -> None:
    steps = single_steps(small(3, neuron), inputs(3))
    assert_same(trained("online", 3, neuron)[0].seen[0], summed(steps, 1 / 3))


def test_online_step_hands_over_each_time_step_alone() -> None:
    steps = single_steps(small(3), inputs(3))
    seen = trained("online-step", 3)[0].seen
    for found, expected in zip(seen, steps, strict=True):
        assert_same(found, list(expected))


@pytest.mark.parametrize("seed", range(4))
def test_sltt_is_the_sum_over_the_steps_that_it_drew(seed: int) -> None:
    drawn = torch.randperm(4, generator=torch.Generator().manual_seed(seed))[:2].tolist()
    steps = single_steps(small(4), inputs(4))
    expected = summed([steps[t] for t in drawn], 1 / 4)
    assert_same(trained("sltt-2", 4, seed=seed)[0].seen[0], expected)


@pytest.mark.parametrize("seed", range(4))
def test_random_bp_stops_at_the_step_that_it_drew(seed: int) -> None:
    last = int(torch.randperm(4, generator=torch.Generator().manual_seed(seed))[0])
    found, run, _ = trained("random-bp", 4, seed=seed)
    assert (run.forwards, run.backward_passes, run.optimizer_steps) == (last + 1, 1, 1)
    assert_same(found.seen[0], list(single_steps(small(4), inputs(4))[last]))


def test_drawn_steps_are_uniform() -> None:
    run = BatchRun(
        adapt(nn.Linear(1, 1)),
        torch.zeros(4, 1, 1),
        torch.zeros(1),
        torch.optim.SGD([nn.Parameter(torch.zeros(1))]),
        generator=torch.Generator().manual_seed(0),
    )
    draws = [frozenset(run.draw(2)) for _ in range(6000)]
    counts = [draws.count(pair) for pair in set(draws)]
    assert len(counts) == 6  # 4 choose 2
    # 1000 each, deviation sqrt(6000 * 1/6 * 5/6) = 28.9
    assert max(abs(count - 1000) for count in counts) < 5 * 28.9


@settings(max_examples=6, deadline=None)
@given(timesteps=st.integers(1, 4), neuron=st.sampled_from(["lif", "hdlif"]))
def test_sltt_with_every_step_is_online(timesteps: int, neuron: str) -> None:
    a, _, loss = trained(f"sltt-{timesteps}", timesteps, neuron)
    b, _, expected_loss = trained("online", timesteps, neuron)
    assert torch.equal(loss, expected_loss)
    assert_same(a.seen[0], b.seen[0])


@pytest.mark.parametrize("pair", [("ottt", "online"), ("ottt-step", "online-step")])
def test_traces_without_leak_are_the_spikes(pair: tuple[str, str]) -> None:
    a, b = (trained(name, 4, "lif+leak=0")[0] for name in pair)
    # With an update per step OTTT's authors keep loss_t / T.
    share = 1 / 4 if pair[0] == "ottt-step" else 1.0
    for found, expected in zip(a.seen, b.seen, strict=True):
        assert_same(found, [None if x is None else share * x for x in expected])
    assert not torch.equal(*(trained(name, 4)[0].seen[-1][3] for name in pair))


@pytest.mark.parametrize("name", ["ottt", "ndot"])
def test_an_update_per_step_takes_the_shares_that_one_update_sums(name: str) -> None:
    steps, whole = trained(f"{name}-step", 4), trained(name, 4)
    shares = [[x for x in seen if x is not None] for seen in steps[0].seen]
    assert_same(summed(shares, 1.0), whole[0].seen[0])
    torch.testing.assert_close(steps[2], whole[2], rtol=1e-14, atol=0)


def test_online_differs_from_stbp_beyond_one_step() -> None:
    online, stbp = (trained(name, 3)[0].seen[0] for name in ("online", "stbp"))
    assert not all(torch.allclose(a, b) for a, b in zip(online, stbp, strict=True))


@pytest.mark.parametrize("name", ["bptt", "sltt", "stbp-2", "-2", "online-"])
def test_an_unknown_mode_lists_the_known_ones(name: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"known: ndot, ndot-code, .*sltt-K"):
        find_mode(name)


@pytest.mark.parametrize("name", ["sltt-k", "sltt-0", "sltt-1.5", "sltt-", "sltt-\u00b2"])
def test_a_k_that_is_no_number(name: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match="must be a whole number from 1 to T"):
        find_mode(name)


def test_more_steps_than_there_are() -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"K = 5 is more than the T = 4 .*'sltt-4'"):
        find_mode("sltt-5", 4)
    run = BatchRun(adapt(nn.Linear(1, 1)), torch.zeros(1, 1, 1), torch.zeros(1), NoStep(small(1)))
    with pytest.raises(snnprof.SnnprofError, match="2 of 1 time steps"):
        find_mode("sltt-2")(run)
    with pytest.raises(snnprof.SnnprofError, match="timesteps=0: must be at least 1"):
        find_mode("stbp", 0)
    with pytest.raises(snnprof.SnnprofError, match="T = 0"):
        BatchRun(adapt(nn.Linear(1, 1)), torch.zeros(0, 1, 1), torch.zeros(1), NoStep(small(1)))


def test_a_mode_of_your_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MODES, "mine", raising=False)

    @MODES.register("mine")
    def last_step_only(run: BatchRun) -> Tensor:
        run.begin()
        for x in run.sequence[:-1]:
            run.forward_silent(x)
        loss = run.loss(run.forward(run.sequence[-1]))
        run.backward(loss)
        run.update()
        return loss.detach()

    try:
        assert "mine" in mode_names()
        assert_same(trained("mine", 3)[0].seen[0], list(single_steps(small(3), inputs(3))[2]))
        with pytest.raises(ValueError, match="already registered"):
            MODES.register("mine")(last_step_only)
    finally:
        del MODES["mine"]


def test_a_family_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        FAMILIES.register("sltt")(FAMILIES["sltt"])


def test_modes_reset_what_a_broken_sequence_left() -> None:
    network = create("vgg5", timesteps=2, in_channels=1, image_size=8)
    network(torch.randn(1, 4, 1, 8, 8))  # one step of two
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for name in NAMES:
        find_mode(name)(
            BatchRun(adapt(network), torch.randn(2, 3, 1, 8, 8), torch.arange(3), optimizer)
        )


@pytest.mark.parametrize("name", ["stbp", "online", "online-step", "sltt-1", "random-bp"])
def test_modes_serve_any_module_of_time_steps(name: str) -> None:
    linear = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    run = BatchRun(adapt(linear), torch.randn(2, 5, 4), torch.zeros(5).long(), optimizer)
    assert torch.isfinite(find_mode(name)(run))

"""Expectations of a model of any library: 5 features to 2 classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.kept_graphs import kept_graphs
from snnprof.training.modes import find_mode

STEPS = 4
X = 3 * torch.randn(STEPS, 3, 5, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 1])

# Of two samples and two time steps: three spikes, then none; one spike, and the same once more.
SPIKES = torch.tensor([[[1.0, 1, 1], [1, 0, 0]], [[0, 0, 0], [1, 0, 0]]])  # [T, B, features]

# The logits of all time steps, [T, B, classes]; ``online`` with the state detached before each.
Plain = Callable[[nn.Module, Tensor, bool], Tensor]


def gradients(model: nn.Module, mode: str) -> list[Tensor]:
    """Of one batch trained in that mode."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = find_mode(mode)(BatchRun(adapt(model), X, TARGET, optimizer, watch=True))
    assert loss.isfinite()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_trains_as_the_library_does(model: nn.Module, plain: Plain) -> None:
    """STBP and online: the gradients of the library's own loop, twice from rest."""
    expected = {}
    for mode in ("stbp", "online"):
        logits = plain(model, X, mode == "online")
        losses = torch.stack([F.cross_entropy(out, TARGET) / STEPS for out in logits])
        loss = F.cross_entropy(logits.sum(0), TARGET) if mode == "stbp" else losses.sum()
        expected[mode] = torch.autograd.grad(loss, list(model.parameters()))
    assert not all(map(torch.allclose, expected["stbp"], expected["online"]))
    for mode in ("stbp", "online", "stbp", "online"):
        for found, wanted in zip(gradients(model, mode), expected[mode], strict=True):
            assert wanted.abs().sum() > 0
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for mode in ("sltt-2", "random-bp", "online-step"):
        gradients(model, mode)


def assert_resets_and_detaches(model: nn.Module) -> None:
    stepped = adapt(model)
    stepped.reset()
    first = stepped.run_step(X[0])
    stepped.detach()
    assert kept_graphs(model) == {}
    # Detached, not forgotten: what comes again meets a membrane that is charged already.
    again = [stepped.run_step(X[0]) for _ in range(STEPS)]
    assert not all(torch.equal(out, first) for out in again)
    stepped.reset()
    assert kept_graphs(model) == {}
    assert torch.equal(stepped.run_step(X[0]), first)


def synops(model: nn.Module, weight: float) -> list[int]:
    """SOPs of its layers, in order, on SPIKES; the first layer's weights are all ``weight``.

    SPIKES on a layer from 3 features to 4: 3 + 1 + 0 + 1 = 5 spikes * 4 outputs = 20. One that
    follows, to 2 classes, is given the spikes of 4 neurons that fire alike: 4 * 2 = 8 for every
    sample and time step in which they fire.
    """
    first, *_ = (m for m in model.modules() if isinstance(m, nn.Linear))
    nn.init.constant_(first.weight, weight)
    nn.init.zeros_(first.bias)
    stepped = adapt(model)
    totals = []
    for stepwise in (True, False):
        stepped.reset()
        with SopCounter(model) as counter, torch.no_grad():
            if stepwise or stepped.sequence is None:
                for x in SPIKES:
                    stepped.run_step(x)
            else:
                stepped.run_sequence(SPIKES)
        counts = counter.result()
        assert not counts.not_counted
        totals.append([row.synops for row in counts.rows])
    assert totals[0] == totals[1]
    return totals[0]

"""Expectations of a model of any library: 5 features to 2 classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.counting.counter import SopCounter
from snnprof.spiking.neuron_operations import NeuronOperations
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
    trained = [p for p in model.parameters() if p.requires_grad]
    for mode in ("stbp", "online"):
        logits = plain(model, X, mode == "online")
        losses = torch.stack([F.cross_entropy(out, TARGET) / STEPS for out in logits])
        loss = F.cross_entropy(logits.sum(0), TARGET) if mode == "stbp" else losses.sum()
        expected[mode] = torch.autograd.grad(loss, trained)
    assert not all(map(torch.allclose, expected["stbp"], expected["online"]))
    for mode in ("stbp", "online", "stbp", "online"):
        for found, wanted in zip(gradients(model, mode), expected[mode], strict=True):
            assert wanted.abs().sum() > 0
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for mode in ("sltt-2", "random-bp", "online-step"):
        gradients(model, mode)


class OverTime(nn.Module):
    """A model run over [T, B, ...] in one call, in its library's own way."""

    def __init__(self, model: nn.Module, plain: Plain) -> None:
        super().__init__()
        self.model = model
        self.plain = plain

    def forward(self, xs: Tensor) -> Tensor:
        return self.plain(self.model, xs, False)


def assert_coherence_sees_its_gradients(model: nn.Module, plain: Plain) -> None:
    """The replayed neurons pass the gradients that the library's own pass, by STBP and online."""
    (weight, *_) = (m.weight for m in model.modules() if isinstance(m, nn.Linear))
    result = snnprof.coherence(OverTime(model, plain), X, TARGET)
    row = result.rows[0]
    if adapt(model).layout == "step":  # no loop needs to be written
        by_steps = snnprof.coherence(model, X, TARGET, layout="step")
        assert by_steps.rows[0].online_norm_weight == row.online_norm_weight
        assert by_steps.rows[0].stbp_norm_weight == row.stbp_norm_weight
    assert len(row.weights) == 1 and row.weights[0].endswith(".weight")
    assert not row.identity_claimed and 0 < row.fired < 1
    assert not any("between time steps" in remark for remark in result.remarks)
    for online, found in ((False, row.stbp_norm_weight), (True, row.online_norm_weight)):
        loss = F.cross_entropy(plain(model, X, online).sum(0), TARGET)
        (expected,) = torch.autograd.grad(loss, weight)
        assert found == pytest.approx(float(expected.norm()), rel=1e-5)


# From a neuron and what it returned to its membrane potential after the reset.
Left = Callable[[nn.Module, Any], Tensor]


def assert_traces_as_by_hand(
    model: nn.Module, plain: Plain, kind: type[nn.Module], leak: float, left: Left
) -> None:
    """OTTT and NDOT: the second linear layer's gradient by a trace that is computed here.

    Args:
        model: linear, neurons, linear (and perhaps more).
        plain: runs it.
        kind: of the neurons.
        leak: of the trace of OTTT, and of NDOT's where there is no ratio.
        left: the membrane potential after the reset.
    """
    neuron = next(m for m in model.modules() if isinstance(m, kind))
    _, linear, *_ = (m for m in model.modules() if isinstance(m, nn.Linear))
    membranes, spikes, outs = [], [], []

    def passed(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        spikes.append(given[0])
        outs.append(out)

    hooks = [
        neuron.register_forward_hook(lambda m, x, y: membranes.append(left(m, y).detach())),
        linear.register_forward_hook(passed),
    ]
    logits = plain(model, X, True)
    for hook in hooks:
        hook.remove()
    loss = sum(F.cross_entropy(out, TARGET) / STEPS for out in logits)
    slopes = [g.reshape(len(TARGET), -1) for g in torch.autograd.grad(loss, outs)]
    for mode in ("ottt", "ndot"):
        trace, expected = None, torch.zeros_like(linear.weight)
        before: list[Tensor] = []
        for m, s, slope in zip(membranes, spikes, slopes, strict=True):
            m, s = m.reshape(len(TARGET), -1), s.detach().reshape(len(TARGET), -1)
            ratio = leak
            if mode == "ndot" and len(before) > 1:
                ratio = torch.where(before[-2] == 0, leak, before[-1] / before[-2])
            trace = s if trace is None else ratio * trace + s
            before.append(m)
            expected += slope.T @ trace
        gradients(model, mode)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(linear.weight.grad, expected, rtol=1e-5, atol=1e-6)
    for mode in ("ottt-step", "ndot-code", "ndot-step"):
        gradients(model, mode)


def assert_counts_neuron_operations(model: nn.Module, expected: int) -> None:
    """NOPs per sample of STEPS time steps, whichever way they are run."""
    stepped = adapt(model)
    for mode in ("stbp", "online"):
        with NeuronOperations(model) as operations:
            gradients(model, mode)
        assert operations.per_sample(len(TARGET)) == expected
    assert stepped.model is model


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

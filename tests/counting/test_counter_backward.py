"""Backward passes, recomputed activations and transforms add nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import (
    images,
    make,
)


def test_backward_passes_add_nothing():
    model = make()
    with SopCounter(model) as counter:
        model(images()).sum().backward()
        counts = counter.result()
    plain = count(make(), images())
    assert counts == plain


def test_double_backward_adds_nothing():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6, 1))
    x = torch.rand(2, 1, 5, requires_grad=True)
    plain = count(model, x)
    with SopCounter(model) as counter:
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert counter.result() == plain


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Module, reentrant: bool):
        super().__init__()
        self.net, self.reentrant = net, reentrant

    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_activations_add_nothing(reentrant: bool):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
    model = Checkpointed(net, reentrant)
    x = images().requires_grad_()
    plain = model(x)
    (expected,) = torch.autograd.grad(plain.sum(), x) if not reentrant else (None,)
    with SopCounter(model) as counter:
        for _ in range(2):
            x.grad = None
            out = model(x)
            out.sum().backward()
    assert torch.equal(out, plain)
    assert expected is None or torch.equal(x.grad, expected)
    assert all(p.grad is not None for p in net.parameters())
    assert [(row.name, row.calls) for row in counter.result().rows] == [("net.0", 2), ("net.3", 2)]
    assert counter.result().rows[0].nominal_macs == 2 * 3 * 4 * 4 * 18  # 2 calls of 3 samples


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_root_is_counted_once(reentrant: bool):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with SopCounter(net) as counter:
        x = torch.ones(1, 3, requires_grad=True)
        checkpoint(net, x, use_reentrant=reentrant).sum().backward()
    result = counter.result()
    assert (result.samples, result.total("synops")) == (1, 20)  # 3*4 + 4*2


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_backward_pass_within_the_forward_adds_nothing(reentrant: bool):
    class LocalLearning(nn.Module):
        """Learns while it runs, with a local loss through a checkpointed part."""

        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)

        def forward(self, x):
            hidden = checkpoint(self.body, x, use_reentrant=reentrant)
            torch.autograd.backward(hidden.square().sum())
            return self.head(hidden.detach())

    result = count(LocalLearning(), torch.ones(1, 3, requires_grad=True))
    assert [(row.name, row.calls) for row in result.rows] == [("body.0", 1), ("head", 1)]
    assert result.total("synops") == 20  # 3*4 + 4*2


def test_online_training_inside_the_block():
    model = make()
    optimiser = torch.optim.Adam(model.parameters())
    with SopCounter(model, timesteps=4) as counter:
        for _ in range(4):
            optimiser.zero_grad()
            model(images()).sum().backward()
            optimiser.step()
            for lif in (model.lif1, model.block[2]):
                lif.v = lif.v.detach()
    result = counter.result()
    assert (result.samples, result.timesteps) == (3, 4)
    assert [row.calls for row in result.rows] == [4] * 4
    assert result.rows[0].input_density == 1.0
    assert len(result.rows[1].input_density_by_step) == 4


TRANSFORMS = {
    "grad": lambda run, p, x: torch.func.grad(run)(p, x),
    "per-sample grad": lambda run, p, x: torch.vmap(torch.func.grad(run), (None, 0))(p, x),
    "vmap": lambda run, p, x: torch.vmap(run, (None, 0))(p, x),
    "jvp": lambda run, p, x: torch.func.jvp(lambda v: run(p, v), (x,), (x,)),
    "jacrev": lambda run, p, x: torch.func.jacrev(run, 1)(p, x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_torch_func_run_as_without_the_counter(name: str):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def run(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).sum()

    def leaves():
        out = TRANSFORMS[name](run, parameters, x)
        return torch.utils._pytree.tree_leaves(out)

    x = torch.rand(2, 3)
    plain = leaves()
    with SopCounter(model) as counter:
        counted = leaves()
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    result = counter.result()
    assert result.rows == ()
    reason = "linear: inside a transform of torch.func"
    assert result.not_counted == (("0", reason), ("2", reason))


def test_forward_mode_gradients_are_counted_once():
    model = nn.Sequential(nn.Linear(3, 4))
    x = torch.ones(2, 3)
    with SopCounter(model) as counter, torch.autograd.forward_ad.dual_level():
        model(torch.autograd.forward_ad.make_dual(x, x))
    assert counter.result().total("synops") == 24

"""Gradients that reach the outputs of layers: by hand, and beside torch.autograd.grad."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import snnprof
from snnprof.counting.counter import SopCounter
from snnprof.results import GradientCount
from snnprof.spiking.neuron import Neuron

from ..support.counting import count
from .nets import LIF, Net, images


def two_layers() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1.0], [3.0, 1.0], [-1.0, 1.0]]))
        net[2].weight.copy_(torch.tensor([[2.0, 0.0, 5.0], [1.0, 1.0, 1.0]]))
    return net


def test_two_layers_by_hand():
    """x = [1, 0]: fc1 gives [1, 3, -1], fc2 sees [1, 3, 0]; the loss is fc2's first output.

    Its gradient at fc2's output is [1, 0]; at the ReLU's output the first row of fc2's weight,
    [2, 0, 5]; at fc1's output that where fc1 is positive, [2, 0, 0].
    """
    net = two_layers()
    with SopCounter(net, gradients=True) as sops:
        net(torch.tensor([[1.0, 0.0]]))[0, 0].backward()
    first, second = sops.result().rows
    assert first.gradient == GradientCount(elements=3, reached=3, nonzeros=1)
    assert second.gradient == GradientCount(elements=2, reached=2, nonzeros=1)
    assert (first.gradient_density, second.gradient_density) == (1 / 3, 1 / 2)


def test_the_convolution_by_hand():
    """A kernel of 2 on 4 positions has 3 outputs; the loss takes the middle one of 2 channels."""
    conv = nn.Conv1d(1, 2, 2)
    with SopCounter(conv, gradients=True) as sops:
        conv(torch.ones(1, 1, 4))[0, :, 1].sum().backward()
    (row,) = sops.result().rows
    assert row.gradient == GradientCount(elements=6, reached=6, nonzeros=2)  # 1 of 3, twice


def seen_by_torch(net: nn.Module, run) -> list[int]:
    """Non-zeros of the loss's gradient with respect to each layer's outputs, all calls together."""
    outputs: list[list[torch.Tensor]] = []
    handles = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            own: list[torch.Tensor] = []
            outputs.append(own)
            handles.append(
                module.register_forward_hook(lambda m, args, out, own=own: own.append(out))
            )
    loss = run(net)
    for handle in handles:
        handle.remove()
    flat = [out for own in outputs for out in own]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    return [
        sum(0 if (g := next(gradients)) is None else int((g != 0).sum()) for _ in own)
        for own in outputs
    ]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    steps=st.integers(1, 3),
    norm=st.booleans(),
)
def test_linear_networks_equal_enumeration(seed, widths, steps, norm):
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), LIF()]
    net = nn.Sequential(*layers)
    x = torch.randn(steps, 3, widths[0])

    def run(model):
        for module in model.modules():
            if isinstance(module, LIF):
                module.v = 0.0
        return sum(model(step).sum() for step in x)

    expected = seen_by_torch(net, run)
    with SopCounter(net, timesteps=steps, gradients=True) as sops:
        run(net).backward()
    assert [row.gradient.nonzeros for row in sops.result().rows] == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), stride=st.integers(1, 2), groups=st.sampled_from([1, 2]))
def test_convolutions_equal_enumeration(seed, stride, groups):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=stride, padding=1, groups=groups),
        LIF(),
        nn.ConvTranspose2d(4, 2, 2),
        LIF(),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    x = torch.randn(2, 2, 5, 4)
    net(x)

    def run(model):
        net[1].v = net[3].v = 0.0
        return model(x)[:, 0].square().sum()

    expected = seen_by_torch(net, run)
    with SopCounter(net, gradients=True) as sops:
        run(net).backward()
    rows = sops.result().rows
    assert [row.gradient.nonzeros for row in rows] == expected
    assert 0 < rows[0].gradient.nonzeros < rows[0].gradient.elements  # the window is narrow


def test_steps_without_a_backward_pass_add_no_events():
    """As SLTT has it: of T = 4 steps one has a graph."""
    net = nn.Linear(3, 2)
    with SopCounter(net, timesteps=4, gradients=True) as sops:
        for step in range(4):
            with torch.set_grad_enabled(step == 2):
                out = net(torch.ones(5, 3))
            if step == 2:
                out.sum().backward()
    (row,) = sops.result().rows
    assert row.gradient == GradientCount(elements=40, reached=10, nonzeros=10)
    assert row.gradient_density == 1 / 4


def test_without_the_wish_nothing_is_measured():
    (row,) = count(nn.Linear(3, 2), torch.ones(1, 3)).rows
    assert (row.gradient, row.gradient_density) == (None, None)


def test_without_a_backward_pass_inside_nothing_is_measured_and_that_is_said():
    net = two_layers()
    with SopCounter(net, gradients=True) as sops:
        loss = net(torch.ones(1, 2)).sum()
    loss.backward()  # too late
    counts = sops.result()
    assert [row.gradient for row in counts.rows] == [None, None]
    assert counts.not_counted == (
        ("Sequential", "gradients: no backward pass ran inside the counter's block"),
    )


def test_a_second_backward_pass_adds():
    net = nn.Linear(3, 2)
    with SopCounter(net, gradients=True) as sops:
        loss = net(torch.ones(1, 3)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert sops.result().rows[0].gradient == GradientCount(elements=2, reached=4, nonzeros=4)


def test_a_layer_that_the_loss_does_not_reach_has_no_events():
    net = two_layers()
    hidden: list[torch.Tensor] = []
    net[1].register_forward_hook(lambda m, args, out: hidden.append(out))
    with SopCounter(net, gradients=True) as sops:
        net(torch.ones(1, 2))
        hidden[0].sum().backward()
    assert sops.result().rows[1].gradient == GradientCount(elements=2, reached=0, nonzeros=0)


class Recomputed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.net, self.reentrant = two_layers(), reentrant

    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=self.reentrant)


def test_recomputed_activations_have_their_gradients_once():
    model = Recomputed(reentrant=False)
    with SopCounter(model, gradients=True) as sops:
        model(torch.tensor([[1.0, 0.0]]))[0, 0].backward()
    assert [row.gradient.nonzeros for row in sops.result().rows] == [1, 1]


def test_gradients_that_cannot_be_seen_are_not_zero():
    """A re-entrant checkpoint runs the layers without a graph, and again in the backward pass."""
    model = Recomputed(reentrant=True)
    with SopCounter(model, gradients=True) as sops:
        out = model(torch.tensor([[1.0, 0.0]], requires_grad=True))
        (out[0, 0] + 0.0 * sum(p.sum() for p in model.parameters())).backward()
    counts = sops.result()
    assert [row.gradient for row in counts.rows] == [None, None]
    reasons = dict(counts.not_counted)
    assert "without a graph" in reasons["net.0"]
    assert "without a graph" in reasons["net.2"]


def test_nothing_is_disturbed():
    torch.manual_seed(3)
    plain, watched = Net(), Net()
    watched.load_state_dict(plain.state_dict())
    grads = []
    for net in (plain, watched):
        torch.manual_seed(7)
        x = images().requires_grad_()
        if net is plain:
            net(x).sum().backward()
        else:
            with SopCounter(net, gradients=True):
                net(x).sum().backward()
        grads.append([x.grad, *(p.grad for p in net.parameters())])
    for expected, found in zip(*grads, strict=True):
        assert torch.equal(expected, found)


def test_the_counts_are_those_without_gradients():
    torch.manual_seed(0)
    net = Net()
    net(images())
    net.eval()
    x = images()
    with torch.no_grad():
        net.lif1.v = net.block[2].v = 0.0
        plain = count(net, x)
    net.lif1.v = net.block[2].v = 0.0
    with SopCounter(net, gradients=True) as sops:
        net(x).sum().backward()
    found = sops.result()
    assert tuple(replace(row, gradient=None) for row in found.rows) == plain.rows
    assert all(row.gradient for row in found.rows)


def test_an_in_place_change_behind_a_layer_is_passed_through():
    """y += 1 keeps the gradient: that of y as the layer gave it."""

    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            y = self.fc(x)
            y += 1
            return y.relu_()

    net = Adds()
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([1.0, -5.0]))
    with SopCounter(net, gradients=True) as sops:
        net(torch.ones(1, 3)).sum().backward()
    assert sops.result().rows[0].gradient.nonzeros == 1  # the other is -4, cut off by the ReLU


def test_a_product_of_two_activations_has_its_own():
    class Product(nn.Module):
        def forward(self, x):
            return x @ x.mT

    net = Product()
    with SopCounter(net, gradients=True) as sops:
        net(torch.ones(1, 2, 3, requires_grad=True))[0, 0].sum().backward()
    (row,) = sops.result().rows
    assert row.gradient == GradientCount(elements=4, reached=4, nonzeros=2)


def test_neurons_have_the_gradient_of_their_membrane():
    """Behind a batch norm the layer's own gradient has no zero; the membrane's has."""
    model = snnprof.models.create("vgg5", timesteps=2, image_size=8, in_channels=1)
    names = {module: name for name, module in model.named_modules() if isinstance(module, Neuron)}
    held: dict[str, torch.Tensor] = {}

    def hold(module: nn.Module, args: tuple[torch.Tensor]) -> None:
        held[names[module]] = args[0]

    for module in names:
        module.register_forward_pre_hook(hold)
    with SopCounter(model, gradients=True) as sops:
        loss = model(torch.rand(2, 1, 8, 8)).square().sum()
        expected = torch.autograd.grad(loss, [*held.values()], retain_graph=True)
        assert sops.result().neurons  # read in between, which changes nothing
        loss.backward()
    counts = sops.result()
    seen = {row.name: row.gradient for row in counts.neurons}
    assert seen == {
        name: GradientCount(g.numel(), 2 * g.numel(), 2 * int((g != 0).sum()))
        for name, g in zip(held, expected, strict=True)
    }
    assert any(found.nonzeros < found.reached for found in seen.values())
    assert counts.rows[1].gradient.nonzeros == counts.rows[1].gradient.reached


def test_two_measurements_add_exactly():
    one, other = GradientCount(6, 6, 2), GradientCount(4, 2, 1)
    assert one.merge(other) == GradientCount(10, 8, 3)
    net = two_layers()
    parts = []
    for x in ([1.0, 0.0], [0.0, 1.0]):
        with SopCounter(net, gradients=True) as sops:
            net(torch.tensor([x]))[0, 0].backward()
        parts.append(sops.result())
    with SopCounter(net, gradients=True) as sops:
        for x in ([1.0, 0.0], [0.0, 1.0]):
            net(torch.tensor([x]))[0, 0].backward()
    assert parts[0].merge(parts[1]) == sops.result()
    # Where one did not look, what the other saw stands.
    blind = count(net, torch.tensor([[1.0, 1.0]]))
    assert parts[0].merge(blind).rows[0].gradient is None  # the other's elements are not known


def test_samples_can_be_said_of_all_calls_together():
    """A training step of anybody's making: how it calls the model is not looked at."""
    net = nn.Linear(3, 2)
    with SopCounter(net, samples=5, gradients=True) as sops:
        for length in (1, 3, 2):
            net(torch.ones(length, 5, 3)).sum().backward()
    counts = sops.result()
    assert (counts.samples, counts.timesteps) == (5, None)
    assert counts.per_sample("synops") == 6 * 5 * 6 / 5  # 6 steps of 5 samples, 3 * 2 synapses
    assert counts.rows[0].gradient.elements == 60
    assert counts.rows[0].input_density_by_step is None


@pytest.mark.parametrize("also", [{"timesteps": 4}, {"layout": "time-first"}, {"batch_dim": 1}])
def test_samples_and_a_layout_are_not_both_given(also):
    with pytest.raises(snnprof.SnnprofError, match=r"samples=5 .* leave .* out"):
        SopCounter(nn.Linear(3, 2), samples=5, **also)


def test_samples_said_are_whole_and_not_announced_again():
    with pytest.raises(snnprof.SnnprofError, match="samples=0: must be a whole number"):
        SopCounter(nn.Linear(3, 2), samples=0)
    refused = pytest.raises(snnprof.SnnprofError, match="samples=5 was said")
    with SopCounter(nn.Linear(3, 2), samples=5) as sops, refused:
        sops.expect(5, 1)

"""STBP with blocks recomputed: the gradients of STBP to the last bit, in less memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.models import create
from snnprof.spiking.lif import LIF
from snnprof.spiking.network import PerStep
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.layouts import laid_out
from snnprof.training.modes import find_mode
from snnprof.training.stepped_model import SteppedModel

STEPS, BATCH = 3, 4


def run(model: nn.Module | SteppedModel, x: Tensor, mode: str, watch: bool = False) -> Tensor:
    stepped = adapt(model)
    optimizer = torch.optim.SGD(stepped.model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(2)
    return find_mode(mode, len(x))(
        BatchRun(stepped, x, torch.arange(BATCH) % 3, optimizer, watch=watch)
    )


def assert_same_training(build: Callable[[], nn.Module | SteppedModel], x: Tensor) -> nn.Module:
    """Loss, gradients, weights and buffers of two steps are those of stbp to the last bit."""
    models = []
    for mode in ("stbp", "stbp-checkpoint"):
        torch.manual_seed(0)
        model = build()
        losses = [run(model, x, mode), run(model, x, mode)]
        models.append((losses, model.model if isinstance(model, SteppedModel) else model))
    (expected_losses, expected), (losses, found) = models
    assert losses == expected_losses
    assert any(p.grad is not None and p.grad.any() for p in found.parameters())
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)
    for a, b in zip(found.buffers(), expected.buffers(), strict=True):
        assert torch.equal(a, b)
    assert not [m for m in found.modules() if "forward" in vars(m)]
    return found


NETWORKS = [
    ("vgg5", "lif", "fp32"),
    ("vgg5", "hdlif", "1bit"),
    ("vgg5", "ilif", "1.5bit"),
    ("vgg5", "hdlif+seca+mem_bn", "fp32"),
    ("resnet18", "lif+threshold=0.7+reset=hard", "fp32"),
    ("resnet18", "hdlif+four_bit+parallel+mem_bn+seca", "1bit"),
    ("resnet19", "hdlif", "fp32"),
    ("sew_resnet18", "lif", "fp32"),
    ("spikformer_2_384", "lif", "fp32"),
]


@pytest.mark.parametrize(("name", "neuron", "weights"), NETWORKS)
def test_our_networks_train_alike(name: str, neuron: str, weights: str) -> None:
    size = 16 if name.startswith("spikformer") else 8

    def build() -> nn.Module:
        return create(
            name, neuron=neuron, weights=weights, timesteps=STEPS, in_channels=1, image_size=size
        )

    torch.manual_seed(1)
    model = assert_same_training(build, 2 * torch.randn(STEPS, BATCH, 1, size, size))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 2 for norm in norms)  # two steps, once each


class Forgetful(nn.Module):
    """Somebody's neuron, nobody's library: its state is an attribute, and it drops spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | None = None
        self.seen = {"steps": 0}
        self.register_buffer("mean", torch.zeros(1))

    def reset(self) -> None:
        self.v = None
        self.seen["steps"] = 0

    def forward(self, x: Tensor) -> Tensor:
        self.v = x if self.v is None else 0.5 * self.v + x
        self.seen["steps"] += 1
        with torch.no_grad():
            self.mean.mul_(0.9).add_(self.v.mean(), alpha=0.1)
        spike = torch.sigmoid(self.v * self.seen["steps"] - self.mean)
        self.v = self.v - spike
        return nn.functional.dropout(spike, 0.3)


class Layer(nn.Module):
    """A block of somebody's, which is called once per time step."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)
        self.fire = Forgetful()

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.norm(self.linear(x)))


class Net(nn.Module):
    """A network of one time step a call, neurons inside and outside its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(6, 8), Layer(8, 8)])
        self.inner = nn.Sequential(nn.Linear(8, 8), Forgetful(), nn.Linear(8, 8))
        self.last, self.head = Forgetful(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(self.last(self.inner(x)))


def test_a_network_of_single_steps_with_state_dropout_and_batch_norm() -> None:
    x = torch.randn(STEPS, BATCH, 6)
    assert_same_training(lambda: laid_out(adapt(Net()), "step", None), x)


def test_a_sequential_of_whole_sequences() -> None:
    def build() -> nn.Module:
        parts = (PerStep(nn.Linear(6, 16)), LIF(STEPS), PerStep(nn.Linear(16, 16)), LIF(STEPS))
        return nn.Sequential(*parts, PerStep(nn.Linear(16, 3)))

    assert_same_training(build, 2 * torch.randn(STEPS, BATCH, 6))


def peak(mode: str, name: str, neuron: str) -> int:
    profile = snnprof.profile_step(
        lambda: create(name, neuron=neuron, timesteps=8, in_channels=1, image_size=16),
        (torch.randn(4, 1, 16, 16), torch.arange(4)),
        mode, warmup=0, repeats=1, device="cpu",
    )  # fmt: skip
    assert profile.activation_bytes is not None
    return profile.activation_bytes


@pytest.mark.parametrize(("neuron", "most"), [("lif", 0.7), ("hdlif", 0.7)])
def test_it_takes_less_memory(neuron: str, most: float) -> None:
    stbp, recomputed = (peak(mode, "resnet18", neuron) for mode in ("stbp", "stbp-checkpoint"))
    assert recomputed < most * stbp


def test_a_network_without_blocks_is_one_line() -> None:
    with pytest.raises(snnprof.SnnprofError, match="Linear has no module that holds a layer"):
        run(nn.Linear(6, 3), torch.randn(STEPS, BATCH, 6), "stbp-checkpoint")


class Failing(Net):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        raise ValueError("theirs")


def test_nothing_stays_on_the_model_after_an_error() -> None:
    model = Failing()
    with pytest.raises(ValueError, match="theirs"):
        run(laid_out(adapt(model), "step", None), torch.randn(STEPS, BATCH, 6), "stbp-checkpoint")
    assert not [m for m in model.modules() if "forward" in vars(m)]


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        given = torch.relu(x)
        out = self.layers[0](given)
        given += 1  # what the block was given, and will be computed again from
        return self.head(out)


def test_an_input_that_is_written_over_is_refused_not_trained_on() -> None:
    with pytest.raises(snnprof.SnnprofError, match="changed in place"):
        run(laid_out(adapt(InPlace()), "step", None), torch.randn(1, BATCH, 6), "stbp-checkpoint")

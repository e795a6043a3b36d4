"""Spikes told by the membrane: the same gradients to the last bit, from less memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snnprof.models import create
from snnprof.profiling.step_memory import step_memory
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.spike_recomputation import spikes_from_membranes
from snnprof.training.adapters import adapt


def kept_as_they_are() -> torch.autograd.graph.saved_tensors_hooks:
    """Somebody else's hooks: ours stand back."""
    return torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)


def gradients(network: nn.Module, images: Tensor, recomputed: bool) -> list[Tensor]:
    network.zero_grad()
    images = images.clone().requires_grad_()
    if recomputed:
        out = network(images)
    else:
        with kept_as_they_are():
            out = network(images)
    out.square().sum().backward()
    found = [images.grad, *(p.grad for p in network.parameters())]
    return [g.clone() for g in found if g is not None]


NEURONS = [
    "lif",
    "lif+threshold=0.75+reset=hard",
    "ilif",
    "hdlif",
    "hdlif+literal",
    "hdlif+four_bit",
    "hdlif+mem_bn+seca",
]


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", ["resnet18", "vgg5", "sew_resnet18", "spikformer_2_384"])
def test_gradients_are_the_same_to_the_last_bit(name: str, neuron: str) -> None:
    torch.manual_seed(0)
    network = create(name, neuron=neuron, timesteps=2)
    for parameter in network.parameters():
        if parameter.shape == (2,):  # leaks and thresholds: of each time step
            torch.nn.init.normal_(parameter)
    images = torch.randn(2, 3, 32, 32)
    for a, b in zip(
        gradients(network, images, True), gradients(network, images, False), strict=True
    ):
        assert torch.equal(a, b)


def test_channels_last_and_autocast() -> None:
    torch.manual_seed(0)
    network = create("resnet18", timesteps=2).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = [gradients(network, images, recomputed) for recomputed in (True, False)]
    for a, b in zip(*pairs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("neuron", ["lif", "hdlif", "hdlif+literal", "hdlif+four_bit"])
def test_the_peak_is_lower(neuron: str) -> None:
    def peak(recomputed: bool) -> int:
        torch.manual_seed(0)
        network = create("resnet18", neuron=neuron, timesteps=8)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        images = torch.randn(4, 3, 32, 32)

        def step() -> Tensor:
            gradients(network, images, recomputed)
            return torch.zeros(())

        step()
        device = torch.device("cpu")
        return step_memory(step, adapt(network), optimizer, (images,), device)[0].peak_bytes

    # Of 12 bytes per neuron and step (convolution's input, batch norm's input, membrane) 4 go,
    # but for the layers behind other things than a neuron.
    static = 2 * 4 * sum(p.numel() for p in create("resnet18").parameters())
    assert peak(True) - static < 0.9 * (peak(False) - static)


def test_a_freed_storage_is_not_mistaken_for_spikes() -> None:
    """A tensor that comes to lie where spikes lay is saved as it is."""
    neurons, linear = LIF(1), nn.Linear(64, 1, bias=False)
    for _ in range(50):
        neurons.reset()
        with spikes_from_membranes():
            neurons(torch.randn(1, 8, 64, requires_grad=True))  # spikes die at once
            other = torch.randn(1, 8, 64)
            out = linear(other)
        linear.zero_grad()
        out.sum().backward()
        assert linear.weight.grad is not None
        torch.testing.assert_close(linear.weight.grad[0], other.sum((0, 1)))


def test_another_ones_hooks_see_everything() -> None:
    seen = []
    network = create("vgg5", timesteps=1, in_channels=1, image_size=8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        network(torch.randn(2, 1, 8, 8))
    assert torch.Size([2, 128, 4, 4]) in seen  # the spikes that the third convolution got


class Between(SpikingNetwork):
    """LIF, then something between it and a linear layer."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__(4, (1, 8, 8), ())
        self.neuron = LIF(4, LIFSettings(threshold=0.5))
        self.between = between
        self.linear = nn.Linear(64, 3)

    def run_steps(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.between(self.neuron(x).flatten(2)))
        return out


def halved(spikes: Tensor) -> Tensor:
    spikes *= 0.5
    return spikes


@pytest.mark.parametrize(
    "between",
    [
        halved,
        nn.Dropout(0.5, inplace=True),
        nn.ReLU(inplace=True),
        lambda s: s[3:4].expand_as(s),
        lambda s: s.flip(0),
        lambda s: s.transpose(0, 1).transpose(0, 1),
        lambda s: s.add_(1.0),
    ],
)
def test_what_was_written_over_or_is_a_part_is_kept_as_it_is(
    between: Callable[[Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    network = Between(between)
    images = torch.randn(2, 1, 8, 8)
    found = []
    for recomputed in (True, False):
        torch.manual_seed(1)  # of the dropout
        found.append(gradients(network, images, recomputed))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)

"""SEW-ResNet: residual blocks that join spikes to spikes.

A block is convolution, batch norm, neuron, twice; its output spikes are then joined to its
input spikes, element by element, by one of three functions. ADD makes spikes of 0, 1, 2, ...
(the counter calls them INTEGER); AND and IAND keep them binary. The last two are logic on
spikes of 0 and 1: with neurons whose spikes are other numbers (HD-LIF) the formulas still run,
but mean nothing.

Fang et al., Deep residual learning in spiking neural networks, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError, known
from snnprof.spiking.network import PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

LARGEST_SMALL_IMAGE = 64  # pixels; above it the stem is ImageNet's

# (spikes of the residual branch, spikes of the shortcut) -> spikes of the block
Join = Callable[[Tensor, Tensor], Tensor]


def add(out: Tensor, identity: Tensor) -> Tensor:
    """g = out + identity."""
    return out + identity


def both(out: Tensor, identity: Tensor) -> Tensor:
    """g = out AND identity = out * identity."""
    return out * identity


def unless(out: Tensor, identity: Tensor) -> Tensor:
    """g = (NOT out) AND identity = (1 - out) * identity: the branch takes spikes away."""
    return (1 - out) * identity


@dataclass(frozen=True)
class Connection:
    """How a block joins its branch to its shortcut, and how the branch starts.

    Attributes:
        join: the function.
        norm_weight, norm_bias: first values of the branch's last batch norm.
    """

    join: Join
    norm_weight: float = 1
    norm_bias: float = 0


CONNECTIONS = {
    "add": Connection(add),
    # A spike survives a block only where the branch fires too: a deep network would be
    # silent. With a constant current of 1 the branch fires everywhere and the block starts
    # as the identity (the authors' zero initialisation).
    "and": Connection(both, norm_weight=0, norm_bias=1),
    "iand": Connection(unless),
}


def spiking(convolution: nn.Conv2d, make_neuron: NeuronMaker) -> nn.Sequential:
    """Convolution, batch norm, neuron."""
    width = convolution.out_channels
    return nn.Sequential(PerStep(convolution, nn.BatchNorm2d(width)), make_neuron(width))


class Block(nn.Module):
    """Two spiking 3x3 convolutions, joined to the shortcut.

    Where the shape changes, the shortcut is a spiking 1x1 convolution.

    Args:
        channels: of its input.
        width: channels of its output.
        stride: of the first convolution.
        connection: joins the branch's spikes to the shortcut's.
        make_neuron: makes one layer of neurons.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        connection: Connection,
        make_neuron: NeuronMaker,
    ) -> None:
        super().__init__()
        conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        norm2 = nn.BatchNorm2d(width)
        nn.init.constant_(norm2.weight, connection.norm_weight)
        nn.init.constant_(norm2.bias, connection.norm_bias)
        self.join = connection.join
        self.conv1 = spiking(conv1, make_neuron)
        self.conv2 = nn.Sequential(PerStep(conv2, norm2), make_neuron(width, second=True))
        self.shortcut: nn.Sequential | None = None
        if stride > 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = spiking(conv, make_neuron)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return self.join(out, x if self.shortcut is None else self.shortcut(x))


class SEWResNet(SpikingNetwork):
    """Stem, four stages of blocks, average pooling of the spikes, a linear classifier.

    Up to 64 pixels the stem's convolution is 3x3; above, 7x7 of stride 2, and a 3x3 max
    pooling of stride 2 follows its neuron. Each stage after the first halves the image.

    A still image (repeated by ``expand``, as the network itself does) passes the stem's
    convolution and batch norm once, and its current is repeated: the MACs that the authors
    bill. Given step by step, as online training does, it passes them at every step.

    Args:
        depths: blocks in the stages of 64, 128, 256 and 512 channels.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.
        connect: "add", "and" or "iand". The batch norm before the last neuron of an AND block
            starts at weight 0 and bias 1, so that the block starts as the identity.

    Raises:
        SnnprofError: the image is too small to be halved by every stage, an unknown connect,
            or AND and IAND of spikes that are not 0 and 1.
    """

    def __init__(
        self,
        depths: Sequence[int],
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
        connect: str = "add",
    ) -> None:
        image_shape = (in_channels, image_size, image_size)
        super().__init__(timesteps, image_shape, ("stem.0", "classifier.2"))
        halvings = len(depths) - 1
        if image_size < 2**halvings:
            raise SnnprofError(
                f"image_size={image_size} is too small for {halvings} stages that halve it: "
                f"give at least {2**halvings}"
            )
        if connect not in CONNECTIONS:
            raise known("connect", connect, CONNECTIONS)
        if connect != "add" and not make_neuron(1).binary:
            raise SnnprofError(
                f"connect={connect!r} is for spikes of 0 and 1: use neuron 'lif' with threshold 1, "
                "or connect='add'"
            )
        large = image_size > LARGEST_SMALL_IMAGE
        kernel, stride = (7, 2) if large else (3, 1)
        convolution = nn.Conv2d(
            in_channels, 64, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.stem = PerStep(convolution, nn.BatchNorm2d(64))
        self.neuron = make_neuron(64)
        self.pool = PerStep(nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity())

        channels, blocks = 64, []
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(Block(channels, width, stride, CONNECTIONS[connect], make_neuron))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = PerStep(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
        )

    def run_steps(self, x: Tensor) -> Tensor:
        # The same image at every step: expand gives the time dimension the stride 0.
        still = x.stride(0) == 0
        current: Tensor = self.stem(x[:1] if still else x)
        current = current.expand(len(x), *current.shape[1:])
        out: Tensor = self.classifier(self.blocks(self.pool(self.neuron(current))))
        return out


sew_resnet18 = partial(SEWResNet, (2, 2, 2, 2))
sew_resnet34 = partial(SEWResNet, (3, 4, 6, 3))

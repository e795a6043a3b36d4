"""Pre-activation ResNet with spiking neurons: batch norm, neuron, convolution, twice per block.

The stem is a convolution alone. The sum of a block is a current, not spikes: it passes on to
the next block, whose first batch norm and neuron turn it into spikes. So every convolution
but the stem receives spikes, the 1x1 shortcuts too. No neuron stands before the last average
pooling: the classifier sees the mean current.

He et al., Identity mappings in deep residual networks, ECCV 2016, with the depths of He et
al., Deep residual learning for image recognition, CVPR 2016, as the authors of HD-LIF
(arXiv 2410.07547) run them. ResNet-19 has the widths, depths and two linear layers of Zheng
et al., Going deeper with directly-trained larger spiking neural networks, AAAI 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

LARGEST_SMALL_IMAGE = 64  # pixels; above it the stem is ImageNet's


class Block(nn.Module):
    """Two 3x3 convolutions, each after batch norm and neuron, and a shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of the first neuron's spikes;
    else it is the block's input.

    Args:
        channels: of its input.
        width: channels of its output.
        stride: of the first convolution.
        make_neuron: makes one layer of neurons.
    """

    def __init__(self, channels: int, width: int, stride: int, make_neuron: NeuronMaker) -> None:
        super().__init__()
        conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = PerStep(nn.BatchNorm2d(channels))
        self.neuron1 = make_neuron(channels)
        self.conv1 = PerStep(conv1, nn.BatchNorm2d(width))
        self.neuron2 = make_neuron(width, second=True)
        self.conv2 = PerStep(conv2)
        self.shortcut: PerStep | None = None
        if stride > 1 or channels != width:
            self.shortcut = PerStep(nn.Conv2d(channels, width, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron1(self.norm(x))
        out: Tensor = self.conv2(self.neuron2(self.conv1(spikes)))
        return out + (x if self.shortcut is None else self.shortcut(spikes))


class ResNet(SpikingNetwork):
    """Stem, stages of blocks, average pooling, linear layers.

    Up to 64 pixels the stem is a 3x3 convolution; above, a 7x7 convolution of stride 2 and a
    3x3 max pooling of stride 2. Each stage after the first halves the image. The stem and
    the linear layers, which receive no spikes, are never quantised.

    Args:
        stem: channels of the stem.
        stages: (blocks, channels) of each stage.
        hidden: widths of the linear layers before the last.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.

    Raises:
        SnnprofError: the image is too small to be halved by every stage.
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[tuple[int, int]],
        hidden: Sequence[int],
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        linear = [f"classifier.{place}.0" for place in range(1, 2 * len(hidden) + 2, 2)]
        image_shape = (in_channels, image_size, image_size)
        super().__init__(timesteps, image_shape, ("stem.0", *linear))
        halvings = len(stages) - 1
        if image_size < 2**halvings:
            raise SnnprofError(
                f"image_size={image_size} is too small for {halvings} stages that halve it: "
                f"give at least {2**halvings}"
            )
        if image_size > LARGEST_SMALL_IMAGE:
            convolution = nn.Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=False)
            self.stem = PerStep(convolution, nn.MaxPool2d(3, stride=2, padding=1))
        else:
            self.stem = PerStep(nn.Conv2d(in_channels, stem, 3, padding=1, bias=False))

        channels, blocks = stem, []
        for stage, (depth, width) in enumerate(stages):
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(Block(channels, width, stride, make_neuron))
                channels = width
        self.blocks = nn.Sequential(*blocks)

        layers: list[nn.Module] = [PerStep(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
        for width in hidden:
            layer = nn.Linear(channels, width, bias=False)
            layers += [PerStep(layer, nn.BatchNorm1d(width)), make_neuron(width)]
            channels = width
        layers.append(PerStep(nn.Linear(channels, num_classes)))
        self.classifier = nn.Sequential(*layers)

    def run_steps(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.blocks(self.stem(x)))
        return out


resnet18 = partial(ResNet, 64, ((2, 64), (2, 128), (2, 256), (2, 512)), ())
resnet34 = partial(ResNet, 64, ((3, 64), (4, 128), (6, 256), (3, 512)), ())
resnet19 = partial(ResNet, 128, ((3, 128), (3, 256), (2, 512)), (256,))

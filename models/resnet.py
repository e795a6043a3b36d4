"""Pre-activation ResNet with spiking neurons: neuron, convolution, batch norm, twice per block.

A batch norm follows every convolution, the stem's too, and none stands in front of a block's
first neuron. The sum of a block is a current, not spikes: it passes on to the next block, whose
first neuron turns it into spikes. Where the shape changes, the shortcut is a 1x1 convolution of
that current: a real-valued input, dense, so that with fp32 weights each of its events is a MAC.
No neuron stands before the last average pooling: the classifier sees the mean current.

The networks of the authors of HD-LIF (arXiv 2410.07547), as their code has them: He et al.,
Identity mappings in deep residual networks, ECCV 2016, with the depths of He et al., Deep
residual learning for image recognition, CVPR 2016; ResNet-19 has the stages of Zheng et al.,
Going deeper with directly-trained larger spiking neural networks, AAAI 2021, behind a stem of 64
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.network import EVENT_CHANNELS, PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

STEM = 64  # channels
IMAGENET_CLASSES = 1000  # from here on the stem is 7x7, of stride 2
POOLED_CLASSES = 200  # from here on a max pooling follows the stem
# Of SECA: none, behind both batch norms of a block, or the second form, which scales their
# output and the block's inner inputs together.
SECA_FORMS = (False, True, 2)


class Block(nn.Module):
    """Two neurons, each before a 3x3 convolution and its batch norm, and a shortcut.

    Args:
        channels: of its input.
        width: channels of its output.
        stride: of the first convolution.
        make_neuron: makes one layer of neurons.
        seca: one of :data:`SECA_FORMS`. True: attention(conv(.)). 2: attention1(x + conv1(.))
            where the shape of the block's input x allows it, and attention2(y + conv2(.)), y
            being what attention1 gives.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        make_neuron: NeuronMaker,
        seca: bool | int = False,
    ) -> None:
        super().__init__()
        conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.inner_inputs = seca == 2  # True == 1
        self.neuron1 = make_neuron(channels)
        self.conv1 = PerStep(conv1, nn.BatchNorm2d(width))
        self.attention1 = PerStep(ChannelAttention()) if seca else nn.Identity()
        self.neuron2 = make_neuron(width, second=True)
        self.conv2 = PerStep(conv2, nn.BatchNorm2d(width))
        self.attention2 = PerStep(ChannelAttention()) if seca else nn.Identity()
        self.shortcut: PerStep | None = None
        if stride > 1 or channels != width:
            one_by_one = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = PerStep(one_by_one, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.conv1(self.neuron1(x))
        if self.inner_inputs and self.shortcut is None:
            inner = inner + x
        inner = self.attention1(inner)
        out: Tensor = self.conv2(self.neuron2(inner))
        if self.inner_inputs:
            out = out + inner
        out = self.attention2(out)
        return out + (x if self.shortcut is None else self.shortcut(x))


class ResNet(SpikingNetwork):
    """Stem, stages of blocks, average pooling, linear layers.

    The stem goes by the number of classes, as in the authors' code: a 3x3 convolution; from
    200 classes on a 3x3 max pooling of stride 2 behind it; from 1000 on a 7x7 convolution of
    stride 2 in its place. Of two input channels (event frames) it is the first, whatever the
    classes. Each stage after the first halves the image. The stem and the linear layers, which
    receive no spikes, are never quantised.

    Args:
        stages: (blocks, channels) of each stage.
        hidden: widths of the linear layers before the last, each with a neuron behind it.
        event_stride: stride of the first block where the image is event frames.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.
        seca: one of :data:`SECA_FORMS`, see :class:`Block`.

    Raises:
        SnnprofError: the image is too small to be halved so often.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, int]],
        hidden: Sequence[int],
        event_stride: int,
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
        seca: bool | int = False,
    ) -> None:
        linear = [f"classifier.{place}.0" for place in range(1, 2 * len(hidden) + 2, 2)]
        image_shape = (in_channels, image_size, image_size)
        super().__init__(timesteps, image_shape, ("stem.0", *linear))
        events = in_channels == EVENT_CHANNELS
        large = num_classes >= IMAGENET_CLASSES and not events
        pooled = num_classes >= POOLED_CLASSES and not events
        first_stride = event_stride if events else 1
        halvings = large + pooled + (first_stride == 2) + len(stages) - 1
        if image_size < 2**halvings:
            raise SnnprofError(
                f"image_size={image_size} is too small to be halved {halvings} times, as it is "
                f"with {num_classes} classes: give at least {2**halvings}"
            )
        kernel, stride = (7, 2) if large else (3, 1)
        convolution = nn.Conv2d(
            in_channels, STEM, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        pooling = [nn.MaxPool2d(3, stride=2, padding=1)] if pooled else []
        self.stem = PerStep(convolution, nn.BatchNorm2d(STEM), *pooling)

        channels, blocks = STEM, []
        for stage, (depth, width) in enumerate(stages):
            for place in range(depth):
                halving = 1 if place else 2 if stage else first_stride
                blocks.append(Block(channels, width, halving, make_neuron, seca))
                channels = width
        self.blocks = nn.Sequential(*blocks)

        layers: list[nn.Module] = [PerStep(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
        for width in hidden:
            layers += [PerStep(nn.Linear(channels, width)), make_neuron(width)]
            channels = width
        layers.append(PerStep(nn.Linear(channels, num_classes)))
        self.classifier = nn.Sequential(*layers)

    def run_steps(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.blocks(self.stem(x)))
        return out


resnet18 = partial(ResNet, ((2, 64), (2, 128), (2, 256), (2, 512)), (), 1)
resnet34 = partial(ResNet, ((3, 64), (4, 128), (6, 256), (3, 512)), (), 1)
resnet19 = partial(ResNet, ((3, 128), (3, 256), (2, 512)), (256,), 2)

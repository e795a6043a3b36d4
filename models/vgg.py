"""VGG with spiking neurons: convolution, batch norm, neuron; max pooling of spikes.

The first convolution sees the image itself (direct encoding); the last linear layer has no
neuron, its output at each time step is the network's. Every second neuron layer in order is
a "second" one, which the parallel variant replaces: in the plans where convolutions come in
pairs between poolings, the second of each pair.

Simonyan & Zisserman, Very deep convolutional networks for large-scale image recognition,
ICLR 2015. The small form with three convolutions and two linear layers is usual in work on
spiking networks (Rathi & Roy, DIET-SNN, 2020); the one for event cameras is the VGG-SNN of
Deng et al., Temporal efficient training, ICLR 2022, with one linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import cycle

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

POOL = 0  # in a plan, between numbers of channels


class VGG(SpikingNetwork):
    """Convolutions after a plan, then linear layers.

    Args:
        plan: channels of each convolution, with POOL for a 2x2 max pooling.
        hidden: widths of the linear layers before the last.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.

    Raises:
        SnnprofError: the image vanishes in the poolings.
    """

    def __init__(
        self,
        plan: Sequence[int],
        hidden: Sequence[int],
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        last = f"classifier.{1 + 2 * len(hidden)}.0"
        super().__init__(timesteps, (in_channels, image_size, image_size), ("features.0.0", last))
        poolings = plan.count(POOL)
        if image_size < 2**poolings:
            raise SnnprofError(
                f"image_size={image_size} is too small for {poolings} poolings: give at least "
                f"{2**poolings}"
            )
        seconds = cycle((False, True))
        layers: list[nn.Module] = []
        channels = in_channels
        for width in plan:
            if width == POOL:
                layers.append(PerStep(nn.MaxPool2d(2)))
                continue
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            neuron = make_neuron(width, second=next(seconds))
            layers += [PerStep(convolution, nn.BatchNorm2d(width)), neuron]
            channels = width
        self.features = nn.Sequential(*layers)

        features = channels * (image_size // 2**poolings) ** 2
        layers = [PerStep(nn.Flatten())]
        for width in hidden:
            linear = nn.Linear(features, width, bias=False)
            neuron = make_neuron(width, second=next(seconds))
            layers += [PerStep(linear, nn.BatchNorm1d(width)), neuron]
            features = width
        layers.append(PerStep(nn.Linear(features, num_classes)))
        self.classifier = nn.Sequential(*layers)

    def run_steps(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x))
        return out


# The first as small as the digits; then configurations A and D, and the one for 48x48 events.
vgg5 = partial(VGG, (64, POOL, 128, 128, POOL), (128,))
vgg11 = partial(VGG, (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL), ())
vgg16 = partial(
    VGG,
    (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL),
    (),
)
vgg_dvs = partial(VGG, (64, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL), ())

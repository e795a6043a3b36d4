"""VGG with spiking neurons: convolution, batch norm, neuron; pooling of spikes.

The last linear layer has no neuron: its output at each time step is the network's. The first
convolution sees the image itself (direct encoding).

VGG-11, VGG-13 and the one for event cameras are those of the authors of HD-LIF
(arXiv 2410.07547): average pooling, one linear layer, never a parallel neuron; of two input
channels (event frames) the first convolution is quantised too. Their VGG-11 is the VGG-SNN of
Deng et al., Temporal efficient training, ICLR 2022.

The small VGG-5 with three convolutions and two linear layers is usual in work on spiking
networks (Rathi & Roy, DIET-SNN, 2020); VGG-16 is configuration D of Simonyan & Zisserman, Very
deep convolutional networks for large-scale image recognition, ICLR 2015. Both have max pooling,
and every second neuron layer in order is a "second" one, which the parallel variant replaces: in
VGG-16 the second of each pair of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import EVENT_CHANNELS, PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

# In a plan, between numbers of channels: 2x2 poolings, and the mean over all positions.
MAX, AVERAGE, GLOBAL = "max", "average", "global"
Plan = Sequence[int | str]
POOLINGS: dict[str, Callable[[], nn.Module]] = {
    MAX: lambda: nn.MaxPool2d(2),
    AVERAGE: lambda: nn.AvgPool2d(2),
    GLOBAL: lambda: nn.AdaptiveAvgPool2d(1),
}


class VGG(SpikingNetwork):
    """Convolutions after a plan, then linear layers.

    Args:
        plan: channels of each convolution, with MAX, AVERAGE or GLOBAL for a pooling.
        hidden: widths of the linear layers before the last.
        authors: whether it is one of the HD-LIF authors' networks, which have no parallel
            neuron and, of event frames, a quantised first convolution.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.

    Raises:
        SnnprofError: the image vanishes in the poolings.
    """

    def __init__(
        self,
        plan: Plan,
        hidden: Sequence[int],
        authors: bool,
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        last = f"classifier.{1 + 2 * len(hidden)}.0"
        events = authors and in_channels == EVENT_CHANNELS
        kept = (last,) if events else ("features.0.0", last)
        super().__init__(timesteps, (in_channels, image_size, image_size), kept)
        poolings = sum(layer in (MAX, AVERAGE) for layer in plan)
        if image_size < 2**poolings:
            raise SnnprofError(
                f"image_size={image_size} is too small for {poolings} poolings: give at least "
                f"{2**poolings}"
            )
        seconds = cycle((False,) if authors else (False, True))
        layers: list[nn.Module] = []
        channels = in_channels
        for width in plan:
            if isinstance(width, str):
                layers.append(PerStep(POOLINGS[width]()))
                continue
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            neuron = make_neuron(width, second=next(seconds))
            layers += [PerStep(convolution, nn.BatchNorm2d(width)), neuron]
            channels = width
        self.features = nn.Sequential(*layers)

        side = 1 if GLOBAL in plan else image_size // 2**poolings
        features = channels * side**2
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


# As small as the digits, and configuration D.
vgg5 = partial(VGG, (64, MAX, 128, 128, MAX), (128,), False)
_D = (64, 64, MAX, 128, 128, MAX, 256, 256, 256, MAX, 512, 512, 512, MAX, 512, 512, 512, MAX)
vgg16 = partial(VGG, _D, (), False)
# The HD-LIF authors'.
_11 = (64, 128, AVERAGE, 256, 256, AVERAGE, 512, 512, AVERAGE, 512, 512, AVERAGE)
_13 = (64, 64, AVERAGE, 128, 128, AVERAGE, 256, 256, AVERAGE, 512, 512, 512, AVERAGE, 512, GLOBAL)
vgg11 = partial(VGG, _11, (), True)
vgg13 = partial(VGG, _13, (), True)

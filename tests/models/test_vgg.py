"""VGG's plans, and which neurons the parallel variant replaces."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from snnprof.models import create, nominal_macs
from snnprof.models.vgg import vgg5, vgg16, vgg_dvs
from snnprof.spiking.lif import LIF

# (channels, height) of the 3x3 convolutions
VGG16 = [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 3, *[(512, 4)] * 3, *[(512, 2)] * 3]
VGG_DVS = [(64, 48), (128, 48), *[(256, 24)] * 2, *[(512, 12)] * 2, *[(512, 6)] * 2]


@pytest.mark.parametrize(
    ("name", "channels", "plan", "linear"),
    [
        ("vgg16", 3, VGG16, 512 * 10),
        ("vgg_dvs", 2, VGG_DVS, 512 * 3 * 3 * 10),  # 48 / 2 / 2 / 2 / 2 = 3
    ],
)
def test_macs_and_parameters_by_hand(
    name: str, channels: int, plan: list[tuple[int, int]], linear: int
) -> None:
    sides = [side for _, side in plan]
    weights = [9 * a * b for a, b in pairwise([channels, *(width for width, _ in plan)])]
    macs = sum(w * side * side for w, side in zip(weights, sides, strict=True))
    assert nominal_macs(name) == macs + linear
    size = 48 if name == "vgg_dvs" else 32
    with torch.device("meta"):
        network = create(name, in_channels=channels, image_size=size)
    norms = 2 * sum(width for width, _ in plan)
    expected = sum(weights) + norms + linear + 10
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(
    ("build", "convolutions"), [(vgg5, 3), (vgg16, 13), (vgg_dvs, 8)], ids=["5", "16", "dvs"]
)
def test_every_second_neuron_is_a_second_one(build: type, convolutions: int) -> None:
    asked: list[bool] = []

    def make_neuron(channels: int, *, second: bool = False) -> LIF:
        asked.append(second)
        return LIF(1)

    network: nn.Module = build(make_neuron, 1, 10, 3, 32)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(asked) == len(layers) - 1  # none after the last linear layer
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == convolutions
    assert asked == [place % 2 == 1 for place in range(len(asked))]

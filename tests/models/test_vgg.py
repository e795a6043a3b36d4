"""VGG's plans, layer by layer, and which neurons the parallel variant replaces."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import snnprof
from snnprof.models import create, nominal_macs
from snnprof.models.vgg import vgg5, vgg11, vgg13, vgg16
from snnprof.quantization.quantized_layers import quantised_layers
from snnprof.spiking.lif import LIF

from .structure import layers_run

# (channels, height) of the 3x3 convolutions
VGG11 = [(64, 32), (128, 32), *[(256, 16)] * 2, *[(512, 8)] * 2, *[(512, 4)] * 2]
VGG13 = [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 2, *[(512, 4)] * 3, (512, 2)]
VGG16 = [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 3, *[(512, 4)] * 3, *[(512, 2)] * 3]
VGG_DVS = [(64, 48), (128, 48), *[(256, 24)] * 2, *[(512, 12)] * 2, *[(512, 6)] * 2]


@pytest.mark.parametrize(
    ("name", "channels", "plan", "features"),
    [
        ("vgg11", 3, VGG11, 512 * 2 * 2),  # 32 / 2 / 2 / 2 / 2 = 2
        ("vgg13", 3, VGG13, 512),  # the mean over all positions
        ("vgg16", 3, VGG16, 512),
        ("vgg_dvs", 2, VGG_DVS, 512 * 3 * 3),  # 48 / 2 / 2 / 2 / 2 = 3
    ],
)
def test_macs_and_parameters_by_hand(
    name: str, channels: int, plan: list[tuple[int, int]], features: int
) -> None:
    sides = [side for _, side in plan]
    weights = [9 * a * b for a, b in pairwise([channels, *(width for width, _ in plan)])]
    macs = sum(w * side * side for w, side in zip(weights, sides, strict=True))
    assert nominal_macs(name) == macs + features * 10
    size = 48 if name == "vgg_dvs" else 32
    with torch.device("meta"):
        network = create(name, in_channels=channels, image_size=size)
    norms = 2 * sum(width for width, _ in plan)
    expected = sum(weights) + norms + features * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == expected


def conv(place: int, width: int, side: int) -> list[str]:
    shape = f"{width}x{side}x{side}"
    return [
        f"features.{place}.0 Conv2d 3x3/1 {shape}",
        f"features.{place}.1 BatchNorm2d {shape}",
        f"features.{place + 1} LIF {shape}",
    ]


def average(place: int, width: int, side: int) -> list[str]:
    return [f"features.{place}.0 AvgPool2d 2x2/2 {width}x{side}x{side}"]


@pytest.mark.parametrize(
    ("name", "channels", "side", "classes"),
    [("vgg11", 3, 32, 100), ("vgg11", 2, 48, 10), ("vgg_dvs", 2, 48, 10), ("vgg11", 3, 64, 200)],
)
def test_layers_of_vgg11_in_the_order_they_run(
    name: str, channels: int, side: int, classes: int
) -> None:
    s = side
    expected = [*conv(0, 64, s), *conv(2, 128, s), *average(4, 128, s // 2)]
    for place, width in ((5, 256), (10, 512), (15, 512)):
        s //= 2
        expected += [*conv(place, width, s), *conv(place + 2, width, s)]
        expected += average(place + 4, width, s // 2)
    assert layers_run(name, channels, side, classes) == [
        *expected,
        f"classifier.1.0 Linear+bias {classes}",
    ]


def test_layers_of_vgg13_in_the_order_they_run() -> None:
    assert layers_run("vgg13", 3, 32, 10) == [
        *conv(0, 64, 32), *conv(2, 64, 32), *average(4, 64, 16),
        *conv(5, 128, 16), *conv(7, 128, 16), *average(9, 128, 8),
        *conv(10, 256, 8), *conv(12, 256, 8), *average(14, 256, 4),
        *conv(15, 512, 4), *conv(17, 512, 4), *conv(19, 512, 4), *average(21, 512, 2),
        *conv(22, 512, 2), "features.24.0 AdaptiveAvgPool2d 512x1x1",
        "classifier.1.0 Linear+bias 10",
    ]  # fmt: skip


def test_vgg5_pools_the_largest() -> None:
    kinds = [layer.split()[1] for layer in layers_run("vgg5", 1, 8, 10)]
    conv = ["Conv2d", "BatchNorm2d", "LIF"]
    hidden = ["Linear", "BatchNorm1d", "LIF"]
    assert kinds == [
        *conv, "MaxPool2d", *conv, *conv, "MaxPool2d", *hidden, "Linear+bias",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "first"), [(3, "features.2.0"), (2, "features.0.0"), (1, "features.2.0")]
)
def test_the_first_convolution_is_quantised_of_event_frames_alone(
    channels: int, first: str
) -> None:
    network = create("vgg11", weights="1bit", in_channels=channels)
    names = [name for name, _, _ in quantised_layers(network)]
    assert names[0] == first
    assert names[-1] == "features.17.0"  # not the classifier
    assert len(names) == (8 if channels == 2 else 7)


def test_average_pooling_makes_integers_of_binary_spikes() -> None:
    # Means of four spikes of 0 or 1: quarters. As often not zero as their maximum would be.
    torch.manual_seed(0)
    network = create("vgg11", timesteps=2, image_size=16)
    with torch.no_grad(), snnprof.SopCounter(network) as counter:
        network(torch.randn(4, 3, 16, 16))
    kinds = {row.name: row.input_kind for row in counter.result().rows}
    behind = ["features.5.0", "features.10.0", "features.15.0"]
    assert {kinds[name] for name in behind} == {"INTEGER"}
    assert {kinds[f"features.{n}.0"] for n in (2, 7, 12, 17)} == {"BINARY"}


@pytest.mark.parametrize(
    ("build", "convolutions"), [(vgg5, 3), (vgg16, 13)], ids=["5", "16"]
)  # ours
def test_every_second_neuron_is_a_second_one(build: type, convolutions: int) -> None:
    asked, layers = seconds(build)
    assert len(asked) == len(layers) - 1  # none after the last linear layer
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == convolutions
    assert asked == [place % 2 == 1 for place in range(len(asked))]


@pytest.mark.parametrize(("build", "convolutions"), [(vgg11, 8), (vgg13, 10)], ids=["11", "13"])
def test_no_neuron_of_the_authors_is_a_second_one(build: type, convolutions: int) -> None:
    asked, layers = seconds(build)
    assert asked == [False] * convolutions
    assert len(layers) == convolutions + 1


def seconds(build: type) -> tuple[list[bool], list[nn.Module]]:
    """Which neurons are asked for as second ones, and the layers with weights."""
    asked: list[bool] = []

    def make_neuron(channels: int, *, second: bool = False) -> LIF:
        asked.append(second)
        return LIF(1)

    network: nn.Module = build(make_neuron, 1, 10, 3, 32)
    return asked, [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]

"""Bytes of the weights under each accounting, against the paper's figures."""

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.spiking.hdlif import HDLIF

SKIPPED = ("stem", "classifier")


class Block(nn.Module):
    """Pre-activation residual block; its convolutions only, as the size needs no more."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.neuron = HDLIF(4)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        if before != after:
            self.shortcut = nn.Conv2d(before, after, 1, bias=False)


class ResNet18(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
        self.blocks = nn.ModuleList(map(Block, widths[:-1], widths[1:]))
        self.classifier = nn.Linear(512, classes)


def resnet18(classes: int, weights: str | None) -> nn.Module:
    with torch.device("meta"):  # sizes need no numbers
        model = ResNet18(classes)
        return snnprof.quantize(model, weights, skip=SKIPPED) if weights else model


# Weights of the quantised layers, by stage: 3x3 convolutions and 1x1 shortcuts.
#   9 * 4 * 64 * 64                                      =   147,456
#   9 * (64 * 128 + 3 * 128 * 128)                       =   516,096
#   9 * (128 * 256 + 3 * 256 * 256)                      = 2,064,384
#   9 * (256 * 512 + 3 * 512 * 512)                      = 8,257,536
#   64 * 128 + 128 * 256 + 256 * 512                     =   172,032
QUANTISED = 147_456 + 516_096 + 2_064_384 + 8_257_536 + 172_032
# In full precision: the stem, 9 * 3 * 64, and the classifier with its bias, 513 * classes.
FULL = {10: 1_728 + 5_130, 100: 1_728 + 51_300}
# One fp32 scale per output channel: 4 of 64, then 4 and a shortcut of 128, 256, 512.
CHANNEL_SCALES = 4 * (4 * 64 + 5 * (128 + 256 + 512))
# One per layer: 16 3x3 convolutions, 3 shortcuts.
LAYER_SCALES = 4 * 19
# Five trits per byte, rounded up in each layer: 4 of 36,864 weights take 7,373 each; 73,728;
# 3 of 147,456; 294,912; 3 of 589,824; 1,179,648; 3 of 2,359,296; the shortcuts 8,192, 32,768
# and 131,072.
TRIT_BYTES = (
    4 * 7_373
    + (14_746 + 3 * 29_492)
    + (58_983 + 3 * 117_965)
    + (235_930 + 3 * 471_860)
    + (1_639 + 6_554 + 26_215)
)


def test_the_arithmetic_above() -> None:
    assert QUANTISED == 11_157_504
    assert CHANNEL_SCALES == 18_944
    assert TRIT_BYTES == 2_231_510  # 0.2 byte each would be 2,231,500.8


@pytest.mark.parametrize(
    ("weights", "classes", "accounting", "expected", "megabytes"),
    [
        (None, 10, "fp32", 4 * (QUANTISED + FULL[10]), 44.657),
        (None, 100, "fp32", 4 * (QUANTISED + FULL[100]), 44.842),
        (None, 100, "packed", 4 * (QUANTISED + FULL[100]), 44.842),
        (None, 100, "paper", 4 * (QUANTISED + FULL[100]), 44.842),
        ("1bit", 100, "fp32", 4 * (QUANTISED + FULL[100]), 44.842),
        ("1bit", 10, "paper", QUANTISED / 4 + 4 * FULL[10], 2.817),
        ("1bit", 100, "paper", QUANTISED / 4 + 4 * FULL[100], 3.001),
        ("1.5bit", 100, "paper", QUANTISED * 3 / 8 + 4 * FULL[100], 4.396),
        ("1bit", 100, "nominal", QUANTISED / 8 + 4 * FULL[100], 1.607),
        ("1.5bit", 100, "nominal", QUANTISED * 3 / 16 + 4 * FULL[100], 2.304),
        ("1bit", 10, "packed", QUANTISED // 8 + CHANNEL_SCALES + 4 * FULL[10], 1.441),
        ("1bit", 100, "packed", QUANTISED // 8 + CHANNEL_SCALES + 4 * FULL[100], 1.626),
        ("1.5bit", 100, "packed", TRIT_BYTES + LAYER_SCALES + 4 * FULL[100], 2.444),
    ],
)
def test_resnet18(
    weights: str | None, classes: int, accounting: str, expected: float, megabytes: float
) -> None:
    size = snnprof.size_bytes(resnet18(classes, weights), accounting)
    assert size == expected
    assert round(size / 1e6, 3) == megabytes


@pytest.mark.parametrize(("weights", "expected"), [("1bit", 1_625_744), ("1.5bit", 2_443_698)])
def test_packed_is_the_length_of_the_real_payload(weights: str, expected: int) -> None:
    model = snnprof.quantize(ResNet18(100), weights, skip=SKIPPED)
    assert len(snnprof.pack(model).weights) == snnprof.size_bytes(model) == expected


def test_default_is_packed_and_rests_keep_their_own_type() -> None:
    model = snnprof.quantize(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 5)).half(), "1bit", ["0"])
    # 12 fp16 numbers; 15 weights in 2 bytes, 5 fp32 scales, 5 fp16 biases
    assert snnprof.size_bytes(model) == 2 * 12 + 2 + 4 * 5 + 2 * 5
    assert len(snnprof.pack(model).weights) == 56
    assert snnprof.size_bytes(model, "nominal") == 4 * 12 + 15 / 8 + 4 * 5


class NeuronWithLayers(HDLIF):
    def __init__(self) -> None:
        super().__init__(2)
        self.norm = nn.BatchNorm1d(3)
        self.attention = nn.Conv1d(1, 1, 5)


def test_normalisation_and_neurons_count_nothing_with_all_that_is_inside() -> None:
    norms = [
        nn.BatchNorm2d(3),
        nn.LayerNorm(3),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm1d(3, affine=True),
    ]
    model = nn.Sequential(nn.Linear(2, 3), *norms, nn.RMSNorm(3), NeuronWithLayers())
    for accounting in ("packed", "fp32", "nominal", "paper"):
        assert snnprof.size_bytes(model, accounting) == 4 * 9
    assert len(snnprof.pack(model).weights) == 36


class WithToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(5))
        self.layer = nn.Linear(2, 2)
        self.again = self.layer
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_shared_parameters_count_once_and_loose_ones_count() -> None:
    assert snnprof.size_bytes(WithToken()) == 4 * (5 + 4 + 2)
    quantised = snnprof.quantize(WithToken(), "1.5bit")
    assert snnprof.size_bytes(quantised) == 4 * (5 + 2) + 1 + 4  # 4 trits, one scale


def test_unknown_accounting() -> None:
    with pytest.raises(snnprof.SnnprofError, match="'zip'; known: fp32, nominal, packed, paper"):
        snnprof.size_bytes(nn.Linear(1, 1), "zip")

"""ResNet against the authors' networks, the figures of their paper (Tab. 2) and hand counts."""

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.models import create, nominal_macs
from snnprof.models.resnet import Block, resnet18
from snnprof.results import LayerCount
from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron import neurons_of
from snnprof.spiking.neuron_equations import neuron_ops

from .structure import layers_run

STEPS = 4
# (channels in, channels out, stride, height of the input) of the 16 3x3 convolutions behind
# the stem of ResNet-18, and of its three 1x1 shortcuts, at 32x32.
CONVOLUTIONS = [
    *[(64, 64, 1, 32)] * 4,
    *[(64, 128, 2, 32), *[(128, 128, 1, 16)] * 3],
    *[(128, 256, 2, 16), *[(256, 256, 1, 8)] * 3],
    *[(256, 512, 2, 8), *[(512, 512, 1, 4)] * 3],
]
SHORTCUTS = [(64, 128, 2, 32), (128, 256, 2, 16), (256, 512, 2, 8)]


@pytest.fixture(scope="module")
def rows() -> dict[str, LayerCount]:
    """Counts of ResNet-18, one image, 4 steps."""
    torch.manual_seed(0)
    network = create("resnet18", timesteps=STEPS)
    with torch.no_grad(), snnprof.SopCounter(network) as counter:
        network(torch.randn(1, 3, 32, 32))
    return {row.name: row for row in counter.result().rows}


def test_nominal_macs_per_step(rows: dict[str, LayerCount]) -> None:
    stem, *behind = rows.values()
    assert stem.name == "stem.0"
    assert stem.stem
    # 64 of 3 channels, 9 taps, 32x32 positions
    assert stem.nominal_macs == STEPS * 64 * 3 * 9 * 32 * 32 == STEPS * 1_769_472
    others = sum(row.nominal_macs for row in behind if row.op == "conv2d")
    expected = sum(a * b * 9 * (size // stride) ** 2 for a, b, stride, size in CONVOLUTIONS)
    # 4 * 37_748_736 = 150_994_944 in the first stage; in each of the others
    # 18_874_368 + 3 * 37_748_736 = 132_120_576, and 2_097_152 for the shortcut
    assert expected == 150_994_944 + 3 * 132_120_576
    expected += sum(a * b * (size // stride) ** 2 for a, b, stride, size in SHORTCUTS)
    assert others == STEPS * expected
    assert expected == 553_648_128  # the paper's 553.6 M
    linear = 512 * 10
    assert nominal_macs("resnet18") == 1_769_472 + 553_648_128 + linear


def test_dense_macs_leave_padded_taps_out(rows: dict[str, LayerCount]) -> None:
    # Along one side of n positions, a 3-tap kernel of stride 1 loses a tap at both ends:
    # 3 n - 2. One of stride 2 on an even side has n / 2 positions and loses the first tap.
    def taps(stride: int, size: int) -> int:
        return 3 * size - 2 if stride == 1 else 3 * (size // 2) - 1

    expected = sum(a * b * taps(stride, size) ** 2 for a, b, stride, size in CONVOLUTIONS)
    expected += sum(a * b * (size // stride) ** 2 for a, b, stride, size in SHORTCUTS)
    others = [r for r in rows.values() if r.op == "conv2d" and r.name != "stem.0"]
    assert sum(row.dense_macs for row in others) == STEPS * expected
    assert round(expected / 1e6, 1) == 480.2


def test_3x3_convolutions_receive_spikes_and_shortcuts_currents(
    rows: dict[str, LayerCount],
) -> None:
    stem, *others = (row for row in rows.values() if row.op == "conv2d")
    assert (stem.input_kind, stem.operation) == ("REAL", "MAC")
    shortcuts = [row for row in others if "shortcut" in row.name]
    spiking = [row for row in others if "shortcut" not in row.name]
    assert (len(spiking), len(shortcuts)) == (16, 3)
    assert {(row.input_kind, row.operation) for row in spiking} == {("BINARY", "AC")}
    assert all(0 < row.input_density < 1 for row in spiking)
    assert {(row.input_kind, row.operation) for row in shortcuts} == {("REAL", "MAC")}
    assert not any(row.stem for row in shortcuts)
    # Dense: a 1x1 kernel of stride 2 reads one position of four, whose currents are not zero.
    # 64*128*16*16 + 128*256*8*8 + 256*512*4*4 = 3 * 2_097_152 a step; 25.2 M in four.
    assert sum(row.synops for row in shortcuts) == STEPS * 3 * 2_097_152 == 25_165_824
    assert [r.input_kind for r in rows.values() if r.op == "linear"] == ["REAL"]  # no neuron


@pytest.mark.parametrize("weights", ["1bit", "1.5bit"])
def test_quantised_shortcuts_accumulate(weights: str) -> None:
    torch.manual_seed(0)
    network = create("resnet18", timesteps=1, weights=weights, image_size=8)
    with torch.no_grad(), snnprof.SopCounter(network) as counter:
        network(torch.randn(2, 3, 8, 8))
    shortcuts = [row for row in counter.result().rows if "shortcut" in row.name]
    assert {(row.input_kind, row.operation) for row in shortcuts} == {("REAL", "AC")}
    assert len(shortcuts) == 3


@pytest.mark.parametrize(("classes", "megabytes"), [(10, 44.657), (100, 44.842)])
def test_size_in_full_precision(classes: int, megabytes: float) -> None:
    # stem 3*64*9, 3x3 convolutions, shortcuts, 512 weights and a bias per class
    weights = 3 * 64 * 9 + sum(9 * a * b for a, b, _, _ in CONVOLUTIONS)
    weights += sum(a * b for a, b, _, _ in SHORTCUTS) + 513 * classes
    size = snnprof.size_bytes(create("resnet18", num_classes=classes), "fp32")
    assert size == 4 * weights
    assert round(size / 1e6, 3) == megabytes


@pytest.mark.parametrize(
    ("classes", "weights", "accounting", "megabytes"),
    [
        (10, "1bit", "paper", 2.817),
        (100, "1bit", "paper", 3.001),
        (100, "1bit", "nominal", 1.607),
        (100, "1.5bit", "nominal", 2.304),
        (100, "1.5bit", "paper", 4.396),  # printed as 4.40
    ],
)
def test_size_quantised(classes: int, weights: str, accounting: str, megabytes: float) -> None:
    quantised = sum(9 * a * b for a, b, _, _ in CONVOLUTIONS) + sum(
        a * b for a, b, _, _ in SHORTCUTS
    )
    bits = {"1bit": 1, "1.5bit": 1.5}[weights] * (2 if accounting == "paper" else 1)
    expected = quantised * bits / 8 + 4 * (3 * 64 * 9 + 513 * classes)
    network = create("resnet18", num_classes=classes, weights=weights)
    assert snnprof.size_bytes(network, accounting) == expected
    assert round(expected / 1e6, 3) == megabytes


def test_neuron_operations() -> None:
    # Neurons before the first convolution of a block see its input, those before the second
    # its width. First: 2 * 64*32*32, then 64*32*32 + 128*16*16, 128*16*16 + 256*8*8,
    # 256*8*8 + 512*4*4. Second: twice 64*32*32, 128*16*16, 256*8*8, 512*4*4.
    first = 2 * 65536 + (65536 + 32768) + (32768 + 16384) + (16384 + 8192)
    second = 2 * (65536 + 32768 + 16384 + 8192)
    made: list[tuple[LIF, bool]] = []

    def make_neuron(channels: int, *, second: bool = False) -> LIF:
        made.append((LIF(STEPS), second))
        return made[-1][0]

    network = resnet18(make_neuron, STEPS, 10, 3, 32)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert sum(n.neurons or 0 for n, is_second in made if not is_second) == first
    assert sum(n.neurons or 0 for n, is_second in made if is_second) == second
    # charge, fire, reset: 6.586 M; a stateless neuron fires only: 4.620 M
    assert neuron_ops(network) == (3 * first + 3 * second) * STEPS == 6_586_368
    assert (3 * first + 1 * second) * STEPS == 4_620_288


@pytest.mark.parametrize(("parallel", "operations"), [(False, 6_586_368), (True, 4_620_288)])
def test_neuron_operations_of_hdlif(parallel: bool, operations: int) -> None:
    network = create("resnet18", neuron="hdlif", parallel=parallel)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert neuron_ops(network) == operations


def block_layers(place: int, channels: int, width: int, side: int, stride: int) -> list[str]:
    """The layers of a block in the order they run, each with its output's shape."""
    inner, out = f"{channels}x{side}x{side}", f"{width}x{side // stride}x{side // stride}"
    layers = [
        f"blocks.{place}.neuron1 LIF {inner}",
        f"blocks.{place}.conv1.0 Conv2d 3x3/{stride} {out}",
        f"blocks.{place}.conv1.1 BatchNorm2d {out}",
        f"blocks.{place}.neuron2 LIF {out}",
        f"blocks.{place}.conv2.0 Conv2d 3x3/1 {out}",
        f"blocks.{place}.conv2.1 BatchNorm2d {out}",
    ]
    if channels != width:
        layers.append(f"blocks.{place}.shortcut.0 Conv2d 1x1/{stride} {out}")
        layers.append(f"blocks.{place}.shortcut.1 BatchNorm2d {out}")
    return layers


CIFAR = ["stem.0 Conv2d 3x3/1 64x32x32", "stem.1 BatchNorm2d 64x32x32"]
IMAGENET200 = [
    "stem.0 Conv2d 3x3/1 64x64x64",
    "stem.1 BatchNorm2d 64x64x64",
    "stem.2 MaxPool2d 3x3/2 64x32x32",
]
IMAGENET = [
    "stem.0 Conv2d 7x7/2 64x112x112",
    "stem.1 BatchNorm2d 64x112x112",
    "stem.2 MaxPool2d 3x3/2 64x56x56",
]
DVS = ["stem.0 Conv2d 3x3/1 64x48x48", "stem.1 BatchNorm2d 64x48x48"]
STAGES18 = ((2, 64), (2, 128), (2, 256), (2, 512))
STAGES34 = ((3, 64), (4, 128), (6, 256), (3, 512))
STAGES19 = ((3, 128), (3, 256), (2, 512))


@pytest.mark.parametrize(
    ("name", "channels", "image", "classes", "stem", "stages", "side", "first_stride"),
    [
        ("resnet18", 3, 32, 10, CIFAR, STAGES18, 32, 1),
        ("resnet18", 3, 32, 100, CIFAR, STAGES18, 32, 1),
        ("resnet18", 3, 64, 200, IMAGENET200, STAGES18, 32, 1),
        ("resnet34", 3, 224, 1000, IMAGENET, STAGES34, 56, 1),
        ("resnet18", 2, 48, 10, DVS, STAGES18, 48, 1),
        ("resnet19", 3, 32, 100, CIFAR, STAGES19, 32, 1),
        ("resnet19", 2, 48, 10, DVS, STAGES19, 48, 2),
        ("resnet19", 2, 48, 200, DVS, STAGES19, 48, 2),  # event frames: no pooling in any case
    ],
)
def test_layers_in_the_order_they_run(
    name: str,
    channels: int,
    image: int,
    classes: int,
    stem: list[str],
    stages: tuple[tuple[int, int], ...],
    side: int,
    first_stride: int,
) -> None:
    expected, width = list(stem), 64
    for stage, (depth, out) in enumerate(stages):
        for block in range(depth):
            stride = 1 if block else 2 if stage else first_stride
            place = sum(n for n, _ in stages[:stage]) + block
            expected += block_layers(place, width, out, side, stride)
            width, side = out, side // stride
    expected += ["classifier.0.0 AdaptiveAvgPool2d 512x1x1"]
    if name == "resnet19":
        expected += ["classifier.1.0 Linear+bias 256", "classifier.2 LIF 256"]
    expected.append(f"classifier.{3 if name == 'resnet19' else 1}.0 Linear+bias {classes}")
    assert layers_run(name, channels, image, classes) == expected


def test_resnet19_macs_and_parameters_by_hand() -> None:
    # stem; a 3x3 of 64 to 128, five of 128 and the shortcut 64 to 128 at 32x32; a strided one,
    # five more and a shortcut at 16x16; a strided one, three more and a shortcut at 8x8
    same = 128 * 128 * 9 * 1024
    stem, first, shortcut = 3 * 64 * 9 * 1024, same // 2, 64 * 128 * 1024
    halved = 128 * 256 * 9 * 256
    body = first + 5 * same + shortcut
    body += (halved + 5 * same + 128 * 256 * 256) + (halved + 3 * same + 256 * 512 * 64)
    assert nominal_macs("resnet19") == stem + body + 512 * 256 + 256 * 10
    weights = 3 * 64 * 9 + 9 * (64 * 128 + 5 * 128**2) + 64 * 128
    weights += 9 * (128 * 256 + 5 * 256**2) + 128 * 256 + 9 * (256 * 512 + 3 * 512**2) + 256 * 512
    norms = 2 * (64 + 7 * 128 + 7 * 256 + 5 * 512)
    linear = 513 * 256 + 257 * 10
    network = create("resnet19")
    assert sum(p.numel() for p in network.parameters()) == weights + norms + linear


def test_resnet34_macs_by_hand() -> None:
    # Blocks of 3, 4, 6, 3; each stage's 3x3 convolutions after the first cost the same
    # 64*64*9*56*56, its first one half, its shortcut 64*128*28*28
    same, stem = 64 * 64 * 9 * 56 * 56, 64 * 3 * 49 * 112 * 112
    body = 6 * same + sum(same // 2 + n * same + 64 * 128 * 28 * 28 for n in (7, 11, 5))
    assert nominal_macs("resnet34") == stem + body + 512 * 1000


def lif(channels: int, *, second: bool = False) -> LIF:
    return LIF(1)


def test_a_block_adds_a_current_to_its_input() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1, lif).eval()
    assert block.shortcut is None
    x = torch.randn(1, 2, 4, 5, 5) * 3
    conv1, norm1 = block.conv1
    conv2, norm2 = block.conv2
    nn.init.normal_(conv1.weight)  # currents large enough to fire
    norm2.running_mean.fill_(0.5)
    with torch.no_grad():
        branch = norm2(conv2((norm1(conv1((x[0] >= 1).float())) >= 1).float()))
        assert torch.allclose(block(x)[0], x[0] + branch, atol=1e-6)
        assert branch.abs().max() > 0.6


def test_the_shortcut_takes_the_raw_input_and_norms_it() -> None:
    torch.manual_seed(0)
    block = Block(4, 6, 2, lif).eval()
    assert block.shortcut is not None
    convolution, norm = block.shortcut
    norm.running_mean.fill_(0.5)
    x = torch.randn(1, 2, 4, 6, 6) * 0.1  # silent: the branch is its norms' constant
    with torch.no_grad():
        expected = nn.functional.conv2d(x[0], convolution.weight, stride=2) - 0.5
        assert torch.allclose(block(x)[0], expected, atol=1e-5)


def scale(current: Tensor, attention: nn.Module) -> Tensor:
    """SECA by hand on [B, C, H, W]."""
    (seca,) = attention
    assert isinstance(seca, ChannelAttention)
    means = current.mean((2, 3)).unsqueeze(1)
    mixed = nn.functional.conv1d(means, seca.mix.weight, seca.mix.bias, padding=2)
    return current * mixed.sigmoid().squeeze(1)[:, :, None, None]


@pytest.mark.parametrize("width", [4, 6])
@pytest.mark.parametrize("seca", [True, 2])
def test_attention_stands_behind_both_norms(seca: bool | int, width: int) -> None:
    torch.manual_seed(0)
    block = Block(4, width, 1, lif, seca).eval()
    for layer in (block.conv1, block.conv2):
        nn.init.normal_(layer[0].weight)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 4, 5, 5) * 2
    plain = x[0]
    with torch.no_grad():
        inner = block.conv1[1](block.conv1[0]((plain >= 1).float()))
        if seca == 2 and width == 4:
            inner = inner + plain
        inner = scale(inner, block.attention1)
        out = block.conv2[1](block.conv2[0]((inner >= 1).float()))
        out = scale(out + inner if seca == 2 else out, block.attention2)
        short = plain if width == 4 else block.shortcut[1](block.shortcut[0](plain))  # type: ignore[index]
        assert torch.allclose(block(x)[0], out + short, atol=1e-5)
        assert (inner >= 1).any()


@pytest.mark.parametrize(
    "arguments",
    [{"neuron": "hdlif+seca"}, {"neuron": "hdlif", "seca": True}, {"neuron": "lif", "seca": "2"}],
)
def test_seca_is_the_networks_and_never_quantised(arguments: dict[str, object]) -> None:
    network = create("resnet19", weights="1bit", **arguments)  # type: ignore[arg-type]
    attentions = [m for m in network.modules() if isinstance(m, ChannelAttention)]
    assert len(attentions) == 2 * (3 + 3 + 2)
    inside = [m for neuron in neurons_of(network) for m in neuron.modules()]
    assert not any(isinstance(m, ChannelAttention) for m in inside)
    assert not any(hasattr(a.mix, "parametrizations") for a in attentions)
    plain = create("resnet19", weights="1bit", neuron="lif")
    assert snnprof.size_bytes(network) == snnprof.size_bytes(plain)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet19"])
def test_parallel_is_the_second_neuron_of_a_block_and_has_no_mem_bn(name: str) -> None:
    with torch.device("meta"):
        network = create(name, neuron="hdlif", parallel=True, mem_bn=True, num_classes=10)
    for layer, neuron in network.named_modules():
        if isinstance(neuron, HDLIF):
            assert neuron.parallel == layer.endswith("neuron2"), layer
            assert (neuron.membrane_norm is None) == neuron.parallel, layer

"""ResNet against the figures of the HD-LIF paper (Tab. 2) and against hand counts."""

import pytest
import torch
from torch import nn

import snnprof
from snnprof.models import create, nominal_macs
from snnprof.models.resnet import Block, resnet18
from snnprof.results import LayerCount
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron_equations import neuron_ops

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


def test_every_convolution_but_the_stem_receives_spikes(rows: dict[str, LayerCount]) -> None:
    convolutions = [row for row in rows.values() if row.op == "conv2d"]
    assert len(convolutions) == 1 + 16 + 3
    stem, *others = convolutions
    assert stem.input_kind == "REAL"
    assert {row.input_kind for row in others} == {"BINARY"}
    assert all(row.input_density > 0 for row in others)
    assert [r.input_kind for r in rows.values() if r.op == "linear"] == ["REAL"]  # no neuron


@pytest.mark.parametrize(("classes", "megabytes"), [(10, 44.657), (100, 44.842)])
def test_size_in_full_precision(classes: int, megabytes: float) -> None:
    # stem 3*64*9, 3x3 convolutions, shortcuts, 512 weights and a bias per class
    weights = 3 * 64 * 9 + sum(9 * a * b for a, b, _, _ in CONVOLUTIONS)
    weights += sum(a * b for a, b, _, _ in SHORTCUTS) + 513 * classes
    size = snnprof.size_bytes(create("resnet18", num_classes=classes), "fp32")
    assert size == 4 * weights
    assert round(size / 1e6, 3) == megabytes


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


def test_resnet19_has_nineteen_layers() -> None:
    network = create("resnet19", num_classes=7)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 1 + 2 * (3 + 3 + 2)
    assert [(m.in_features, m.out_features) for m in linear] == [(512, 256), (256, 7)]
    assert {m.out_channels for m in convolutions} == {128, 256, 512}
    # stem; six 3x3 of 128 at 32x32; a strided one, five more and a shortcut at 16x16; a
    # strided one, three more and a shortcut at 8x8; two linear layers
    stem, same = 3 * 128 * 9 * 1024, 128 * 128 * 9 * 1024
    halved, shortcut = 128 * 256 * 9 * 256, 128 * 256 * 256
    expected = stem + 6 * same + (halved + 5 * same + shortcut) + (halved + 3 * same + shortcut)
    assert nominal_macs("resnet19") == expected + 512 * 256 + 256 * 10


def test_large_images_get_the_stem_of_imagenet() -> None:
    with torch.device("meta"):
        small, large = (create("resnet18", image_size=size) for size in (64, 65))
        assert small.stem[0].kernel_size == (3, 3)  # type: ignore[index, union-attr]
        assert large.stem[0].kernel_size == (7, 7)  # type: ignore[index, union-attr]
        # 224 / 2 by the convolution, / 2 by the pooling
        network = create("resnet34", image_size=224, timesteps=1).eval()
        assert network.stem(torch.empty(1, 1, 3, 224, 224)).shape == (1, 1, 64, 56, 56)  # type: ignore[operator]
    # ResNet-34: blocks of 3, 4, 6, 3; each stage's 3x3 convolutions after the first cost the
    # same 64*64*9*56*56, its first one half, its shortcut 64*128*28*28
    same, stem = 64 * 64 * 9 * 56 * 56, 64 * 3 * 49 * 112 * 112
    body = 6 * same + sum(same // 2 + n * same + 64 * 128 * 28 * 28 for n in (7, 11, 5))
    assert nominal_macs("resnet34") == stem + body + 512 * 1000


def test_a_block_adds_a_current_to_its_input() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1, lambda channels, second=False: LIF(1)).eval()
    assert block.shortcut is None
    x = torch.randn(1, 2, 4, 5, 5) * 3
    spikes = (x >= 1).float()  # batch norm at rest, up to its epsilon of 1e-5
    conv1, conv2 = block.conv1[0], block.conv2[0]
    nn.init.normal_(conv1.weight)  # currents large enough to fire
    branch = conv2((conv1(spikes[0]) >= 1).float())
    with torch.no_grad():
        assert torch.allclose(block(x), x + branch, atol=1e-4)
        assert branch.abs().max() > 0

"""SEW-ResNet: how spikes join, the stem that runs once, the published size."""

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.models import create, nominal_macs
from snnprof.models.sew_resnet import CONNECTIONS, Block
from snnprof.results import CountResult
from snnprof.spiking.lif import LIF


def counted(network: nn.Module, x: Tensor) -> CountResult:
    with torch.no_grad(), snnprof.SopCounter(network) as counter:
        network(x)
    return counter.result()


@pytest.mark.parametrize(
    ("connect", "table"),
    # (out, identity): 00, 01, 10, 11. Fang et al. 2021, Tab. 1: IAND inverts the branch.
    [("add", [0, 1, 1, 2]), ("and", [0, 0, 0, 1]), ("iand", [0, 1, 0, 0])],
)
def test_how_spikes_join(connect: str, table: list[int]) -> None:
    out, identity = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 1, 0, 1])
    assert CONNECTIONS[connect].join(out, identity).tolist() == table


@pytest.mark.parametrize(
    ("connect", "kinds"), [("ADD", {"INTEGER"}), ("AND", {"BINARY"}), ("IAnd", {"BINARY"})]
)
def test_kinds_of_spikes(connect: str, kinds: set[str]) -> None:
    torch.manual_seed(0)
    network = create("sew_resnet18", connect=connect, timesteps=2, image_size=16)
    rows = {row.name: row for row in counted(network, torch.randn(2, 3, 16, 16)).rows}
    assert rows["stem.0"].input_kind == "REAL"
    behind = [rows[f"blocks.{block}.conv1.0.0"].input_kind for block in range(1, 8)]
    assert set(behind) == kinds  # the spikes that blocks hand on
    within = [rows[f"blocks.{block}.conv2.0.0"].input_kind for block in range(8)]
    assert set(within) == {"BINARY"}


def test_an_and_block_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1, CONNECTIONS["and"], lambda channels, second=False: LIF(3))
    spikes = (torch.rand(3, 2, 4, 5, 5) > 0.5).float()
    assert torch.equal(block(spikes), spikes)


@pytest.mark.parametrize(("size", "kernel", "side"), [(16, 3, 16), (72, 7, 36)])
def test_a_still_image_passes_the_stem_once(size: int, kernel: int, side: int) -> None:
    torch.manual_seed(0)
    network = create("sew_resnet18", timesteps=4, image_size=size)
    image = torch.randn(2, 3, size, size)
    once = 2 * 64 * 3 * kernel * kernel * side * side  # two samples
    for still in (image, image.expand(4, *image.shape)):
        rows = counted(network, still).rows
        assert rows[0].name == "stem.0"
        assert rows[0].nominal_macs == once
        block = rows[1]
        assert block.name == "blocks.0.conv1.0.0"
        width = side if size <= 64 else side // 2  # the pooling
        assert block.nominal_macs == 4 * 2 * 64 * 64 * 9 * width * width
    moving = image.expand(4, *image.shape).contiguous()
    assert counted(network, moving).rows[0].nominal_macs == 4 * once


def test_once_or_at_every_step_is_the_same_network() -> None:
    torch.manual_seed(0)
    network = create("sew_resnet18", timesteps=3, image_size=8).double()
    image = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        # Batch norm: the mean and variance of one image are those of its three copies.
        still, moving = network(image), network(image.expand(3, *image.shape).contiguous())
    assert torch.allclose(still, moving, rtol=0, atol=1e-9)
    assert not torch.allclose(still[0], still[1])


@pytest.mark.parametrize(
    ("name", "depths", "parameters"),
    [("sew_resnet18", (2, 2, 2, 2), 11_689_512), ("sew_resnet34", (3, 4, 6, 3), 21_797_672)],
)
def test_as_large_as_resnet(name: str, depths: tuple[int, ...], parameters: int) -> None:
    # The layers are those of He et al.'s ResNet: 1.814 and 3.664 G MACs, 11.69 and 21.80 M
    # parameters. Convolutions of a stage after its first cost 64*64*9*56*56 each.
    same, stem = 64 * 64 * 9 * 56 * 56, 64 * 3 * 49 * 112 * 112
    assert stem == 118_013_952  # the published 118.0 M
    first, *others = depths
    body = 2 * first * same
    body += sum(same // 2 + (2 * n - 1) * same + 64 * 128 * 28 * 28 for n in others)
    assert nominal_macs(name) == stem + body + 512 * 1000
    with torch.device("meta"):
        network = create(name, image_size=224, num_classes=1000)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("neuron", ["hdlif", "ilif", "lif+threshold=0.5"])
def test_and_takes_only_spikes_of_0_and_1(neuron: str) -> None:
    for connect in ("and", "iand"):
        with pytest.raises(snnprof.SnnprofError, match="connect='add'"):
            create("sew_resnet18", neuron=neuron, connect=connect)
    create("sew_resnet18", neuron=neuron, connect="add")

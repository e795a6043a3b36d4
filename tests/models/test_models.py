"""The registry of networks."""

from itertools import pairwise

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

import snnprof
from snnprof.models import create, list_models


def test_names_are_sorted() -> None:
    assert list_models() == sorted(list_models())
    assert {"vgg5", "vgg11"} <= set(list_models())


@pytest.mark.parametrize("neuron", ["lif", "hdlif"])
@pytest.mark.parametrize("name", ["vgg5", "vgg11"])
def test_every_network_runs_and_learns(name: str, neuron: str) -> None:
    network = create(name, neuron=neuron, timesteps=2, num_classes=7)
    out = network(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 2, 7)
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_vgg11_parameters_by_hand() -> None:
    # 3x3 convolutions 3-64-128-256-256-512-512-512-512, batch norms, one linear layer
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    expected = convolutions + 2 * sum(widths[1:]) + 512 * 10 + 10
    network = create("vgg11")
    assert sum(p.numel() for p in network.parameters()) == expected == 9_228_362
    assert snnprof.size_bytes(network) == 4 * (expected - 2 * sum(widths[1:]))


@pytest.mark.parametrize("name", ["vgg5", "vgg11"])
def test_nominal_macs_equal_fvcores(name: str) -> None:
    network = create(name, timesteps=3).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(norm.bias)
    image = torch.randn(1, 3, 32, 32)
    with snnprof.SopCounter(network) as counter:
        network(image)
    flops = FlopCountAnalysis(create(name, timesteps=3).eval(), image)
    flops.unsupported_ops_warnings(False)
    by_operator = flops.by_operator()
    assert counter.result().total("nominal_macs") == by_operator["conv"] + by_operator["linear"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg6"}, "unknown model 'vgg6'; known: vgg11, vgg5"),
        ({"name": "vgg5", "neuron": "if"}, "unknown neuron 'if'; known: hdlif, lif"),
        ({"name": "vgg5", "weights": "int8"}, "unknown weights 'int8'; known: fp32"),
        ({"name": "vgg5", "timesteps": 0}, "timesteps=0"),
        ({"name": "vgg11", "image_size": 8}, "give at least 32"),
        ({"name": "vgg5", "wings": True}, "unknown variant 'wings'"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        create(**arguments)  # type: ignore[arg-type]


def test_an_unknown_size_accounting_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="known: fp32, nominal, packed, paper"):
        snnprof.size_bytes(nn.Linear(1, 1), "zip")

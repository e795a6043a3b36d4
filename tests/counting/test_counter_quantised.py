"""Counts of networks that snnprof.quantize has quantised equal enumeration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import snnprof
from snnprof.quantization.quantizers import SCHEMES

from .oracle import Synapses, enumerated


class Spikes(nn.Module):
    """Graded spikes, as HD-LIF fires them: real numbers, many of them 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        Spikes(),
        nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2),
        Spikes(),
        nn.Flatten(),
        nn.Linear(4 * 81, 3),
    )


LAYERS = ("0", "2", "5")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_counts_equal_enumeration(scheme: str, grad: bool, cached: bool) -> None:
    model = snnprof.quantize(network(), scheme)
    batches = [torch.randn(2, 2, 4, 4), torch.randn(1, 2, 4, 4)]
    expected = {name: Synapses(0, 0.0, 0) for name in LAYERS}
    zeros = 0
    for batch in batches:
        x = batch
        for name, module in model.named_children():
            if name in expected:
                zeros += int((module.weight == 0).sum())
                expected[name] += enumerated(module, x)
            x = module(x)
    assert (zeros > 0) == (scheme == "1.5bit")
    with torch.set_grad_enabled(grad), snnprof.SopCounter(model) as counter:
        for batch in batches:
            if cached:
                with parametrize.cached():
                    model(batch)
            else:
                model(batch)
    counts = counter.result()
    assert [row.name for row in counts.rows] == list(LAYERS)
    for row in counts.rows:
        assert (row.synops, row.dense_macs) == (expected[row.name].synops, expected[row.name].dense)
        assert (row.input_kind, row.weight_kind, row.operation) == ("REAL", "TERNARY", "AC")
        assert row.calls == 2
    assert not counts.not_counted


def test_zeros_of_one_and_a_half_bits_are_no_synapses_by_hand() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0, 0.25, -0.25]]))  # Delta 0.4375: two stay
    model = snnprof.quantize(nn.Sequential(layer), "1.5bit")
    with snnprof.SopCounter(model) as counter:
        model(torch.tensor([[0.5, 0.0, 0.5, 0.5]]))
    (row,) = counter.result().rows
    assert (row.synops, row.dense_macs, row.nominal_macs) == (1, 2, 4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_between_counted_calls_is_followed(scheme: str) -> None:
    model = snnprof.quantize(network(), scheme)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    expected = Synapses(0, 0.0, 0)
    with snnprof.SopCounter(model) as counter:
        for _ in range(3):
            x = torch.randn(1, 2, 4, 4)
            expected += enumerated(model[0], x)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    row = counter.result().by_layer()["0"]
    assert (row.synops, row.weight_kind) == (expected.synops, "TERNARY")

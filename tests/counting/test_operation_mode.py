"""The operands counted are those that the operation really received."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from snnprof.counting.counter import SopCounter

from ..support.counting import count, count_row
from .oracle import enumerated, reference


def spikes(*shape: int, seed: int = 0, share: float = 0.4) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def ternarise(weight: Tensor) -> Tensor:
    """1.5 bit: -alpha, 0, alpha."""
    return weight.sign() * (weight.abs() > 0.1) * weight.abs().mean()


def twin_of(weight: Tensor, **settings) -> nn.Conv2d:
    """A plain convolution with this weight, for the oracle."""
    out_channels, in_channels, *kernel = weight.shape
    twin = nn.Conv2d(in_channels, out_channels, tuple(kernel), **settings)
    twin.weight = nn.Parameter(weight.detach().clone())
    return twin


class QuantisedConv(nn.Conv2d):
    def forward(self, x):
        weight = ternarise(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class QuantisedByConvForward(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, ternarise(self.weight), self.bias)


class PlainModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, ternarise(self.weight), padding=1)


class ByKeyword(PlainModule):
    def forward(self, x):
        return F.conv2d(weight=ternarise(self.weight), padding=(1, 1), input=x, groups=1)


class Ternary(nn.Module):
    def forward(self, weight):
        return ternarise(weight)


def parametrised():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    parametrize.register_parametrization(layer, "weight", Ternary())
    return layer


QUANTISED = {
    "conv subclass": lambda: QuantisedConv(3, 4, 3, padding=1),
    "conv subclass using _conv_forward": lambda: QuantisedByConvForward(3, 4, 3, padding=1),
    "plain module": PlainModule,
    "all by keyword": ByKeyword,
    "parametrize": parametrised,
}


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("training", [True, False])
def test_a_weight_quantised_in_the_forward_is_counted_as_quantised(name: str, training: bool):
    torch.manual_seed(0)
    layer = QUANTISED[name]().train(training)
    latent = layer.parametrizations.weight.original if name == "parametrize" else layer.weight
    nn.init.normal_(latent, std=0.2)
    x = spikes(2, 3, 5, 5)
    row = count_row(nn.Sequential(layer), x, x)
    quantised = ternarise(latent)
    assert 0 < int((quantised == 0).sum()) < quantised.numel()
    expected = enumerated(twin_of(quantised, padding=1), x)
    assert row.synops == 2 * expected.synops
    assert row.dense_macs == 2 * expected.dense
    assert (row.weight_kind, row.calls) == ("TERNARY", 2)
    assert (row.name, row.op) == ("0", "conv2d")


def test_a_quantised_weight_in_a_circular_convolution():
    torch.manual_seed(0)
    layer = QuantisedByConvForward(3, 4, 3, padding=1, padding_mode="circular")
    x = spikes(2, 3, 5, 5)
    row = count_row(layer, x)
    expected = reference(twin_of(ternarise(layer.weight), padding=1, padding_mode="circular"), x)
    assert (row.synops, row.dense_macs) == (expected.synops, expected.dense)
    assert row.inputs == x.numel()


def test_a_circular_convolution_called_by_keyword_counts_its_own_input():
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    x = spikes(1, 1, 4, 4)
    with SopCounter(layer) as counter:
        layer(input=x)
    (row,) = counter.result().rows
    assert (row.inputs, row.nonzeros) == (16, int(x.sum()))
    assert row.nominal_macs == 288  # 2 channels * 16 positions * 9 taps


def test_the_input_is_counted_as_the_operation_received_it():
    class Binarising(nn.Linear):
        def forward(self, x):
            return super().forward((x > 0.5).float())

    x = torch.tensor([[0.2, 0.9, 0.6]])
    row = count_row(Binarising(3, 4), x)
    assert (row.input_kind, row.synops) == ("BINARY", 8)  # 2 values over 0.5 * 4


def test_a_pruned_layer_is_counted_with_its_mask():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    prune.random_unstructured(layer, "weight", amount=0.5)
    x = spikes(2, 3, 5, 5)
    expected = reference(twin_of(layer.weight, padding=1), x)
    assert count_row(layer, x).synops == expected.synops


def test_weight_norm_is_counted():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    assert count_row(layer, torch.ones(2, 4)).synops == 24  # 2 * 4 * 3


def test_lazy_layers_are_counted():
    model = nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(5))
    conv, linear = count(model, torch.ones(1, 1, 4, 4)).rows
    assert conv.synops == 72  # 2 channels * 2*2 positions * 9 taps
    assert (conv.name, linear.name) == ("0", "2")


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(2, 1, 3))
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(4, 10))

    def forward(self, x):
        x = torch.conv1d(x, self.kernel, padding=1)
        return torch.nn.functional.linear((x > 1).float().flatten(1), self.body.weight)


def test_functional_calls_are_counted_under_the_name_of_their_parameter():
    conv, linear = count(Functional(), torch.ones(1, 1, 5)).rows
    assert (conv.name, linear.name) == ("kernel", "body")
    assert conv.synops == 26  # fan-out 2 3 3 3 2 = 13, * 2 channels
    assert linear.synops == 40  # every sum is over 1: 10 spikes * 4


def test_a_functional_call_with_a_nameless_weight_goes_by_its_module():
    class Block(nn.Module):
        def forward(self, x):
            return F.linear(x, torch.ones(3, 4))

    model = nn.Sequential(nn.Identity(), nn.Sequential(Block()))
    row = count_row(model, torch.ones(2, 4))
    assert row.synops == 24
    assert row.name == "1.0"  # a leaf without a parameter, which has no hook


def test_several_nameless_weights_in_one_module_lose_no_event():
    class Block(nn.Module):
        def forward(self, x):
            return F.linear(F.linear(x, torch.ones(3, 4)), torch.eye(3)) + F.linear(
                x, torch.ones(3, 4) * 2
            )

    result = count(Block(), torch.ones(2, 4))
    # 2 rows: 4*3 + 3 (the identity's 3 synapses) + 4*3
    assert result.total("synops") == 54
    assert len(result.by_layer()) == len(result.rows)


def test_a_weight_vector_is_counted():
    class Readout(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 0.0, 2.0]))

        def forward(self, x):
            return F.linear(x, self.weight)

    model, x = Readout(), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    assert counter.result().total("synops") == 2  # row 0: the first; row 1: the third


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_whole_number_tensors_run_as_without_the_counter(dtype):
    class IntegerOnly(nn.Module):
        def forward(self, x):
            return F.linear(x, torch.tensor([[1, 0, -2]], dtype=dtype))

    model, x = IntegerOnly(), torch.tensor([[1, 1, 0], [0, 0, 3]], dtype=dtype)
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    assert counter.result().total("synops") == 2


@pytest.mark.parametrize(
    ("prepare", "dtype", "reason"),
    [
        (
            lambda x: x.to(torch.complex64),
            torch.complex64,
            "operands of type torch.complex64 and torch.complex64",
        ),
        (Tensor.to_sparse, torch.float32, "a sparse operand"),
    ],
    ids=["complex", "sparse"],
)
def test_operands_that_cannot_be_counted_run_as_without_the_counter(prepare, dtype, reason):
    class Odd(nn.Module):
        def forward(self, x):
            return F.linear(prepare(x), torch.ones(2, 3, dtype=dtype))

    model, x = Odd(), torch.eye(3)
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    result = counter.result()
    assert result.rows == ()
    assert result.not_counted == (("Odd", f"linear: {reason}"),)


def test_one_weight_used_with_two_settings_is_counted_with_each():
    class Trident(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1, 3))

        def forward(self, x):
            return F.conv1d(x, self.weight) + F.conv1d(x, self.weight, dilation=2, padding=1)

    # Length 5. Plain: 1 2 3 2 1 = 9. Dilated: outputs read {1,3}, {0,2,4}, {1,3}: 7.
    assert count(Trident(), *[torch.ones(1, 1, 5)] * 2).total("synops") == 32

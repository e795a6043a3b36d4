"""Linear operations that are registered from outside, after the import."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function

import snnprof
from snnprof.counting.linear_ops import OPERATIONS, Argument, linear_operation
from snnprof.training.presynaptic_traces import SwapOperands

from ..support.counting import Function, count


@pytest.fixture(autouse=True)
def registered_only_here() -> Iterator[None]:
    before = dict(OPERATIONS)
    yield
    OPERATIONS.clear()
    OPERATIONS.update(before)


def named_linear(label: object, weight: Tensor, x: Tensor) -> Tensor:
    """A user's operation: no bias, the weight before the input."""
    if has_torch_function((weight, x)):
        return handle_torch_function(named_linear, (weight, x), label, weight, x=x)
    return F.linear(x, weight)


PLACES = {"weight": Argument(1, "weight"), "input": Argument(2, "x"), "bias": None}
WEIGHT = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, -1.0]])  # fan-outs 1, 0, 2
X = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])


def test_an_operation_is_counted_once_it_is_registered():
    model = Function(lambda x: named_linear("a", WEIGHT, x))
    assert count(model, X).rows == ()  # what is inside it runs out of the counter's sight
    linear_operation("named_linear", **PLACES)(named_linear)
    (row,) = count(model, X, X).rows
    assert (row.name, row.op, row.calls) == ("Function", "named_linear", 2)
    assert row.synops == 2 * (1 + 0 + 2 + 0 + 2)
    assert row.dense_macs == 2 * 2 * (1 + 0 + 2)
    assert row.nominal_macs == 2 * 2 * 6  # calls, rows, weights


def test_a_counter_made_before_the_registration_counts_from_its_start_on():
    model = Function(lambda x: named_linear("a", WEIGHT, x))
    counter = snnprof.SopCounter(model)
    linear_operation("named_linear", **PLACES)(named_linear)
    with counter:
        model(X)
    assert [row.op for row in counter.result().rows] == ["named_linear"]


def test_an_operation_of_a_library_is_registered_by_its_overload():
    library = torch.library.Library("snnprof_tests", "DEF")
    library.define("pool_conv(Tensor x, Tensor weight, int groups) -> Tensor")
    library.impl(
        "pool_conv",
        lambda x, weight, groups: F.avg_pool1d(F.conv1d(x, weight, groups=groups), 1),
        "CompositeImplicitAutograd",
    )
    operator = torch.ops.snnprof_tests.pool_conv
    linear_operation("pool_conv", spatial_dims=1, bias=None, groups=Argument(2, "groups"))(
        operator.default
    )
    # 4 -> 2 channels in 2 groups, 2 taps: on a line of 3 the fan-out is 1 2 1, to 1 channel.
    model = Function(lambda x: operator.default(x, torch.ones(2, 2, 2), 2))
    (row,) = count(model, torch.ones(1, 4, 3)).rows
    assert (row.op, row.synops) == ("pool_conv", 4 * (1 + 2 + 1))
    assert row.nominal_macs == 8 * 2  # weights * positions


def test_layers_chooses_registered_operations_by_their_dimensions():
    linear_operation("named_linear", **PLACES)(named_linear)
    model = Function(lambda x: named_linear("a", WEIGHT, x))
    assert len(count(model, X, layers=("linear",)).rows) == 1
    left_out = count(model, X, layers=("conv",))
    assert left_out.rows == ()
    assert left_out.not_counted == (("Function", "named_linear: left out by layers="),)


def test_an_operation_with_a_tensor_among_its_settings_is_listed():
    linear_operation("named_linear", **PLACES)(named_linear)
    model = Function(lambda x: named_linear(torch.tensor([1.0, 0.0]), WEIGHT, x))
    result = count(model, X, X)
    assert result.rows == ()
    reason = "named_linear: an argument is a tensor besides input, weight and bias"
    assert result.not_counted == (("Function", reason),)


def test_an_operation_that_cannot_be_replayed_is_listed_and_runs():
    def rounding(x: Tensor, weight: Tensor) -> Tensor:  # no gradient
        if has_torch_function((x, weight)):
            return handle_torch_function(rounding, (x, weight), x, weight)
        return F.linear(x, weight).detach()

    linear_operation("rounding", bias=None)(rounding)
    model = Function(lambda x: rounding(x, WEIGHT))
    with snnprof.SopCounter(model) as counter:
        assert torch.equal(model(X), X @ WEIGHT.T)
    ((name, reason),) = counter.result().not_counted
    assert name == "Function"
    assert reason.startswith("rounding: counting it failed (RuntimeError: ")
    assert counter.result().rows == ()


def test_an_operation_that_scales_its_output_is_listed():
    """Its fan-outs would be halves."""

    def halved(x: Tensor, weight: Tensor) -> Tensor:
        if has_torch_function((x, weight)):
            return handle_torch_function(halved, (x, weight), x, weight)
        return F.linear(x, weight) / 2

    linear_operation("halved", bias=None)(halved)
    result = count(Function(lambda x: halved(x, WEIGHT)), X)
    assert result.rows == ()
    assert "no whole numbers" in result.not_counted[0][1]


def test_an_operation_is_registered_once():
    with pytest.raises(ValueError, match="linear operation 'conv2d' is already registered"):
        linear_operation("mine", spatial_dims=2)(F.conv2d)


def test_the_decorated_function_is_left_as_it_is():
    assert linear_operation("named_linear", **PLACES)(named_linear) is named_linear


def test_traces_of_ottt_reach_a_registered_operation():
    """Its weight gradient is that of the trace of its input, wherever the input stands."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return named_linear("a", self.weight, x)

    linear_operation("named_linear", **PLACES)(named_linear)
    layer, trace = Layer(), torch.full((2, 3), 5.0)
    with forward_ad.dual_level(), SwapOperands():
        layer(forward_ad.make_dual(X, trace)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full((2, 3), 10.0))  # 2 rows of 5

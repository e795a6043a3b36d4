"""Kinds of weight, judged per output channel over a whole measurement."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row
from .nets import as_on_another_device
from .values import ALPHA, DTYPES, SIGNS, TERNARY, choose, reals


def weight_kind(weight: Tensor, layer: nn.Module | None = None) -> str:
    if layer is None:
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight = nn.Parameter(weight)
    shape = (2, weight.shape[1])
    return count_row(layer, torch.ones(shape, dtype=weight.dtype)).weight_kind


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_signs_per_output_channel_are_ternary(dtype):
    assert weight_kind((SIGNS * ALPHA).to(dtype)) == "TERNARY"
    assert weight_kind((TERNARY * ALPHA).to(dtype)) == "TERNARY"


def test_positive_scales_per_output_channel_are_binary():
    assert weight_kind(SIGNS.clamp(min=0) * ALPHA) == "BINARY"
    assert weight_kind(torch.ones(3, 4)) == "BINARY"


def test_a_scale_per_input_channel_is_not_ternary():
    assert weight_kind(SIGNS * reals((1, 12), seed=8)) == "REAL"


@pytest.mark.parametrize("dtype", DTYPES)
def test_trained_weights_are_real(dtype):
    assert weight_kind((reals((5, 12), seed=9) + 0.5).to(dtype)) == "REAL"


def test_one_real_channel_among_ternary_ones_makes_the_weight_real():
    weight = SIGNS * ALPHA
    weight[4] = reals((12,), seed=10)
    assert weight_kind(weight) == "REAL"


def test_four_bit_integers_scaled_per_channel_are_integer():
    levels = choose([float(k) for k in range(-7, 8)], shape=(5, 32), seed=11)
    levels[:, 0] = 1
    assert weight_kind(levels * ALPHA) == "INTEGER"


def test_a_channel_without_the_smallest_level_is_integer_all_the_same():
    assert weight_kind(torch.tensor([[2.0, 3.0, -5.0], [1.0, 2.0, 3.0]])) == "INTEGER"


# The rule and the tolerance are those of an input.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 1.5], "INTEGER"),  # 2 and 3 halves, though 1 is the least
        ([0.75, -0.5], "INTEGER"),
        ([3.0, 2.5, 64.0], "REAL"),  # 64 is 128 halves
        ([3 / 1024, 2 / 1024], "INTEGER"),
        ([3 / 2048, 2 / 2048], "REAL"),  # no finer step, and 1/2048 is not among them
        ([3 / 2048, 1 / 2048], "INTEGER by its least"),
        ([0.375, 0.3125, 31.75], "REAL"),
        ([0.3, 0.6], "INTEGER by its least"),
        ([0.6, 0.9], "REAL"),
    ],
)
def test_steps_of_a_weight(values: list[float], kind: str, dtype: torch.dtype):
    coarse = torch.finfo(dtype).bits == 16  # its steps are binary fractions only
    expected = {"INTEGER by its least": "REAL" if coarse else "INTEGER"}.get(kind, kind)
    assert weight_kind(choose(values, (3, 8), dtype=dtype)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_of_any_one_magnitude_beside_whole_numbers(dtype: torch.dtype):
    weight = torch.tensor([[0.3, -0.3, 0.0], [1.0, 2.0, 3.0]], dtype=dtype)
    assert weight_kind(weight) == "INTEGER"


def test_magnitudes_that_rounding_tells_apart_are_one():
    alike = [1.0, 1 + 2.0**-20]  # 2^-20 of themselves is the tolerance of float32
    assert weight_kind(choose(alike, (3, 8))) == "BINARY"
    assert weight_kind(choose([1.0, 1 + 2.0**-19], (3, 8))) == "REAL"
    assert weight_kind(choose(alike, (3, 8), dtype=torch.float64)) == "REAL"


def test_channels_of_transposed_convolutions_are_the_second_dimension():
    # [C_in, C_out, k]: a scale per output channel is ternary, one per input channel is not.
    signs = choose([-1.0, 1.0], shape=(4, 5, 3), seed=12)
    per_out, per_in = ALPHA.view(1, 5, 1), ALPHA[:4].view(4, 1, 1)
    for scale, kind in [(per_out, "TERNARY"), (per_in, "REAL")]:
        layer = nn.ConvTranspose1d(4, 5, 3)
        layer.weight = nn.Parameter(signs * scale)
        assert count_row(layer, torch.ones(1, 4, 6)).weight_kind == kind


def test_channels_of_grouped_transposed_convolutions():
    signs = choose([-1.0, 1.0], shape=(4, 2, 3), seed=12)  # 2 groups: outputs (0, 1), (2, 3)
    signs[:2] *= torch.tensor([0.3, 0.7]).view(1, 2, 1)
    signs[2:] *= torch.tensor([1.1, 2.3]).view(1, 2, 1)
    layer = nn.ConvTranspose1d(4, 4, 3, groups=2)
    layer.weight = nn.Parameter(signs)
    assert count_row(layer, torch.ones(1, 4, 6)).weight_kind == "TERNARY"


@pytest.mark.parametrize("first", ["real", "ternary"])
def test_the_weights_kind_is_the_widest_seen_in_place(first: str):
    layer = nn.Linear(12, 5)
    weights = {"real": reals((5, 12), seed=13) + 0.1, "ternary": SIGNS}
    second = {"real": "ternary", "ternary": "real"}[first]
    with SopCounter(layer) as counter, torch.no_grad():
        for name in (first, second):
            layer.weight.copy_(weights[name])
            layer(torch.ones(1, 12))
    assert counter.result().rows[0].weight_kind == "REAL"


@pytest.mark.parametrize("first", ["real", "ternary"])
def test_the_weights_kind_is_the_widest_seen_of_replaced_parameters(first: str):
    layer = nn.Linear(12, 5)
    weights = {"real": reals((5, 12), seed=13) + 0.1, "ternary": SIGNS}
    second = {"real": "ternary", "ternary": "real"}[first]
    with SopCounter(layer) as counter, torch.no_grad():
        for name in (first, second):
            layer.weight = nn.Parameter(weights[name].clone())
            layer(torch.ones(1, 12))
    assert counter.result().rows[0].weight_kind == "REAL"


# What is done to the model after the block is no part of the measurement.


def test_weights_replaced_after_the_block_do_not_change_the_kind():
    layer = nn.Linear(12, 5)
    with SopCounter(layer) as counter:
        layer(reals((2, 12)))
    layer.weight = nn.Parameter(SIGNS.clone())
    row = counter.result().rows[0]
    assert (row.weight_kind, row.operation) == ("REAL", "MAC")


def test_weights_overwritten_after_the_block_do_not_change_the_kind():
    layer = nn.Linear(12, 5)
    with SopCounter(layer) as counter:
        layer(reals((2, 12)))
    with torch.no_grad():
        layer.weight.copy_(SIGNS)
    row = counter.result().rows[0]
    assert (row.weight_kind, row.operation) == ("REAL", "MAC")


@pytest.mark.parametrize(("levels", "kind"), [(64, "INTEGER"), (65, "REAL")])
def test_a_weight_of_more_than_64_levels_is_real(levels: int, kind: str):
    layer = nn.Linear(levels, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1, levels + 1).expand(2, -1))
    assert count_row(layer, reals((2, levels))).weight_kind == kind


def signed_layer() -> nn.Linear:
    layer = nn.Linear(12, 5)
    with torch.no_grad():
        layer.weight.copy_(SIGNS)
    return layer


def test_an_update_after_the_last_use_does_not_change_the_kind():
    layer = signed_layer()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    with SopCounter(layer) as counter:
        layer(reals((2, 12))).sum().backward()
        optimiser.step()
        inside = counter.result()
    for result in (inside, counter.result()):
        assert (result.rows[0].weight_kind, result.rows[0].operation) == ("TERNARY", "AC")
        assert result.not_counted == ()


def test_real_weights_put_back_after_each_use_are_not_what_was_used():
    # BinaryConnect: signs while it runs, the real weights for the update.
    layer, real = nn.Linear(12, 5), reals((5, 12)) - 0.5
    with SopCounter(layer) as counter, torch.no_grad():
        for _ in range(3):
            layer.weight.copy_(real.sign())
            layer(reals((2, 12)))
            layer.weight.copy_(real)
    result = counter.result()
    assert result.rows[0].weight_kind == "TERNARY"
    assert result.not_counted == ()


def through_data(layer: nn.Linear, values: torch.Tensor) -> None:
    layer.weight.data.copy_(values)


def by_a_fused_optimiser(layer: nn.Linear, values: torch.Tensor) -> None:
    layer.weight.grad = layer.weight.detach() - values
    torch.optim.SGD([layer.weight], lr=1.0, fused=True).step()


@pytest.mark.parametrize("write", [through_data, by_a_fused_optimiser])
@pytest.mark.parametrize("device", ["host", "other"])
def test_a_kind_that_changed_without_a_trace_is_a_remark(write, device, monkeypatch):
    if device == "other":
        as_on_another_device(monkeypatch)
    layer = signed_layer()
    with SopCounter(layer) as counter:
        layer(reals((2, 12)))
        write(layer, 1.5 + torch.rand(5, 12))
        layer(reals((2, 12)))
    with pytest.warns(RuntimeWarning, match="fused optimiser"):
        result = counter.result()
    assert result.rows[0].weight_kind == "TERNARY"
    ((_, remark),) = result.not_counted
    assert "the kind that it had first" in remark


KINDS_OF_WEIGHT = {
    "BINARY": torch.ones(5, 12),
    "TERNARY": SIGNS,
    "INTEGER": choose([-2.0, -1.0, 1.0, 2.0], shape=(5, 12), seed=6),
    "REAL": reals((5, 12)) + 0.1,
}


@pytest.mark.parametrize(("first", "then"), itertools.combinations(KINDS_OF_WEIGHT, 2))
def test_every_wider_kind_that_comes_without_a_trace_is_a_remark(first: str, then: str):
    layer = nn.Linear(12, 5)
    with torch.no_grad():
        layer.weight.copy_(KINDS_OF_WEIGHT[first])
    with SopCounter(layer) as counter:
        layer(reals((2, 12)))
        layer.weight.data.copy_(KINDS_OF_WEIGHT[then])
    with pytest.warns(RuntimeWarning, match="without a trace"):
        assert counter.result().rows[0].weight_kind == first


def shrink(layer: nn.Linear) -> None:
    layer.weight.data = torch.ones(3, 5)


def flatten(layer: nn.Linear) -> None:
    layer.weight.data = torch.ones(7)


def convert(layer: nn.Linear) -> None:
    layer.half()


def move(layer: nn.Linear) -> None:
    layer.to("meta")


def free(layer: nn.Linear) -> None:
    layer.weight.untyped_storage().resize_(0)


@pytest.mark.parametrize("change", [shrink, flatten, convert, move, free])
def test_a_weight_that_is_another_tensor_at_the_end_is_no_matter(change):
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1e-9, 1.0]]))  # 0 in half precision
    with SopCounter(layer) as counter:
        layer(reals((4, 2)))
        change(layer)
    result = counter.result()
    assert result.rows[0].synops == 8
    assert result.not_counted == ()


def test_weights_pruned_through_data_after_the_block_are_no_matter_of_the_result():
    layer = nn.Linear(12, 5)
    with SopCounter(layer) as counter:
        layer(reals((2, 12)))
    layer.weight.data.mul_(TERNARY.abs())
    assert counter.result().not_counted == ()

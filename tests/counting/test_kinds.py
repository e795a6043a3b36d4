"""Kinds of operand, over a whole measurement, and the operation that follows from them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter
from snnprof.results.kinds import operation

from .nets import as_on_another_device


def counted(layer: nn.Module, *inputs: Tensor):
    with SopCounter(layer) as counter, torch.no_grad():
        for x in inputs:
            layer(x)
    (row,) = counter.result().rows
    return row


def kind_of(*inputs: Tensor) -> str:
    """Kind of a linear layer's input over calls with these."""
    layer = nn.Linear(inputs[0].shape[-1], 2, dtype=inputs[0].dtype)
    return counted(layer, *inputs).input_kind


def choose(values: list[float], shape=(6, 16), seed: int = 0, dtype=torch.float32) -> Tensor:
    """Random draws of ``values``, each at least once."""
    index = torch.randint(len(values), shape, generator=torch.Generator().manual_seed(seed))
    index.view(-1)[: len(values)] = torch.arange(len(values))
    return torch.tensor(values, dtype=dtype)[index]


def reals(shape=(6, 16), seed: int = 0, dtype=torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

# --- inputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [1.0, 1.25, 0.3, 0.1, 1 / 3, 7.0, 255.0, 1e-6, 12345.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_spikes_of_one_height_are_binary(theta: float, dtype: torch.dtype):
    x = choose([0.0, theta], dtype=dtype)
    row = counted(nn.Linear(16, 2, dtype=dtype), x)
    assert row.input_kind == "BINARY"
    assert row.unrolled_synops == row.synops == 2 * int((x != 0).sum())


@pytest.mark.parametrize("c", [1.0, 0.3, 1.25, 5.0])
def test_spikes_of_either_sign_are_ternary(c: float):
    row = counted(nn.Linear(16, 2), choose([-c, 0.0, c]))
    assert row.input_kind == "TERNARY"
    assert row.unrolled_synops == row.synops


def test_two_magnitudes_of_different_sign_are_not_ternary():
    assert kind_of(choose([-1.0, 0.0, 0.5])) == "INTEGER"
    assert kind_of(choose([-1.0, 0.0, 0.7310585])) == "REAL"


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.0, 1.0, 2.0, 3.0], 1.0),
        ([0.0, 2.0, 4.0], 1.0),  # whole numbers: the step is 1
        ([-2.0, 0.0, 1.0], 1.0),
        ([0.0, 0.25, 0.5, 1.0], 0.25),  # quarter steps, as I-LIF normalised by D = 4
        ([0.0, 0.5, 1.0], 0.5),
        ([0.0, 0.75, 1.25], 0.25),
        ([0.0, 0.3, 0.6, 0.9], 0.3),  # an odd threshold
        ([0.0, 1 / 3, 2 / 3, 1.0], 1 / 3),
        ([-1.4, 0.0, 0.7, 2.1], 0.7),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_multiples_of_a_step_are_integer_and_unrolled(values, step, dtype):
    x = choose(values, dtype=dtype)
    row = counted(nn.Linear(16, 2, dtype=dtype), x)
    assert row.input_kind == "INTEGER"
    levels = (x.abs().double() / step).round().sum().item()
    assert row.unrolled_synops == int(levels) * 2  # fan-out 2
    assert row.synops == 2 * int((x != 0).sum())


def test_a_step_that_is_no_binary_fraction_must_itself_be_seen():
    assert kind_of(choose([0.0, 0.6, 0.9])) == "REAL"
    assert kind_of(choose([0.0, 0.3, 0.6, 0.9])) == "INTEGER"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0, 3.0], [0.0, 0.25, 0.75, 1.0]])
def test_integers_in_half_precision(values, dtype):
    x = choose(values, dtype=dtype)
    row = counted(nn.Linear(16, 2, dtype=dtype), x)
    step = 1.0 if values[1] == 1.0 else 0.25
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == int(x.double().sum().item() / step) * 2


def test_sixty_four_levels_are_few_and_an_eight_bit_image_is_not():
    assert kind_of(choose([float(k) for k in range(65)], shape=(20, 16))) == "INTEGER"
    assert kind_of(choose([float(k) for k in range(256)], shape=(40, 16))) == "REAL"
    assert kind_of(choose([k / 255 for k in range(256)], shape=(40, 16))) == "REAL"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signed", [False, True])
def test_reals_are_real_and_not_unrolled(dtype, signed):
    x = reals(dtype=dtype) - (0.5 if signed else 0)
    row = counted(nn.Linear(16, 2, dtype=dtype), x)
    assert row.input_kind == "REAL"
    assert row.unrolled_synops is None
    assert row.synops == 2 * int((x != 0).sum())


def test_silence_is_binary_and_costs_nothing():
    row = counted(nn.Linear(16, 2), torch.zeros(3, 16))
    assert (row.input_kind, row.synops, row.unrolled_synops) == ("BINARY", 0, 0)
    assert row.firing_rate == row.rate_synops == 0.0
    assert row.dense_macs == 96  # 3 * 16 * 2


def test_negative_zero_is_zero():
    row = counted(nn.Linear(2, 3), torch.tensor([[-0.0, 1.0]]))
    assert (row.input_kind, row.synops) == ("BINARY", 3)


def test_the_smallest_float_is_an_event():
    tiny = torch.tensor([[0.0, 1e-45]])
    assert float(tiny[0, 1]) > 0
    assert counted(nn.Linear(2, 3), tiny).synops == 3


CALLS = {
    "binary": choose([0.0, 1.0], seed=1),
    "binary of another height": choose([0.0, 3.0], seed=2),
    "ternary": choose([-1.0, 0.0, 1.0], seed=3),
    "integer": choose([0.0, 1.0, 2.0], seed=4),
    "real": reals(seed=5),
    "silent": torch.zeros(6, 16),
}
WIDEST = [
    ("binary", "silent", "BINARY"),
    ("binary", "ternary", "TERNARY"),
    ("binary", "binary of another height", "INTEGER"),
    ("ternary", "binary of another height", "INTEGER"),
    ("binary", "integer", "INTEGER"),
    ("integer", "ternary", "INTEGER"),
    ("binary", "real", "REAL"),
    ("integer", "real", "REAL"),
    ("silent", "real", "REAL"),
]


@pytest.mark.parametrize(("one", "other", "expected"), WIDEST)
def test_the_kind_is_the_widest_seen_whatever_the_order(one, other, expected):
    rows = [counted(nn.Linear(16, 2), CALLS[a], CALLS[b]) for a, b in [(one, other), (other, one)]]
    assert [row.input_kind for row in rows] == [expected] * 2
    assert rows[0] == rows[1]


@pytest.mark.parametrize("theta", [1.0, 0.3])
@pytest.mark.parametrize("silent_first", [True, False])
def test_a_silent_call_leaves_spikes_binary(theta: float, silent_first: bool):
    calls = [torch.zeros(40, 1000), choose([0.0, theta], shape=(40, 1000))]  # large calls
    row = counted(nn.Linear(1000, 2), *(calls if silent_first else calls[::-1]))
    assert (row.input_kind, row.operation) == ("BINARY", "AC")


def test_the_order_of_three_calls_does_not_matter():
    calls = [CALLS["binary"], CALLS["binary of another height"], CALLS["ternary"]]
    layer = nn.Linear(16, 2)
    rows = {counted(layer, *order) for order in itertools.permutations(calls)}
    assert len(rows) == 1


def test_levels_that_come_in_different_calls_are_one_integer_input():
    ones, threes = choose([0.0, 1.0], seed=1), choose([0.0, 3.0], seed=2)
    row = counted(nn.Linear(16, 2), ones, threes)
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == 2 * int(ones.sum() + threes.sum())


@pytest.mark.parametrize("theta", [0.3, 0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("pruned", [False, True])
def test_many_events_of_an_odd_step_are_counted_to_the_last(theta: float, pruned: bool):
    """Value 7 * 0.3 is no float32: what is missing in each must not add up."""
    levels = torch.randint(0, 8, (3000, 200))
    layer = nn.Linear(200, 64)
    expected = 0
    with SopCounter(layer) as counter, torch.no_grad():
        for _ in range(3):
            layer(levels.float() * theta)
            expected += int((levels.sum(0) * (layer.weight != 0).sum(0)).sum())
            if pruned:
                layer.weight[:, ::3] *= torch.rand(64, 67) < 0.8
    (row,) = counter.result().rows
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", expected)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("read_inside", [False, True])
def test_the_least_level_may_come_after_a_change_of_the_weight(elsewhere, read_inside, monkeypatch):
    """2 and 3 levels on 2 synapses, then 1 on 1: nothing is rounded to the 0.6 seen so far."""
    if elsewhere:
        as_on_another_device(monkeypatch)
    layer = nn.Linear(1, 2, bias=False)
    nn.init.ones_(layer.weight)
    with SopCounter(layer) as counter, torch.no_grad():
        layer(torch.zeros(4, 1))
        layer(torch.tensor([[0.6], [0.9]]))
        if read_inside:
            counter.result()
        layer.weight[0] = 0
        layer(torch.tensor([[0.3]]))
    (row,) = counter.result().rows
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", (2 + 3) * 2 + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kind_of_an_odd_step_does_not_change_with_time(dtype: torch.dtype):
    many, calls = 200_000, 5
    x = torch.full((many, 2), 0.9, dtype=dtype)
    x[0] = 0.3
    row = counted(nn.Linear(2, 1, dtype=dtype), *[x] * calls)
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", (6 * many - 4) * calls)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_knows_binary_fractions_only(dtype: torch.dtype):
    layer = nn.Linear(16, 2, dtype=dtype)
    assert counted(layer, choose([0.0, 0.25, 0.75]).to(dtype)).input_kind == "INTEGER"
    assert counted(layer, choose([0.0, 0.3, 0.9]).to(dtype)).input_kind == "REAL"


def test_odd_levels_that_come_in_different_calls_are_one_integer_input():
    one, two = choose([0.0, 0.3], seed=1), choose([0.0, 0.6], seed=2)
    row = counted(nn.Linear(16, 2), one, two)
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == 2 * (int((one != 0).sum()) + 2 * int((two != 0).sum()))


def test_one_real_value_in_a_thousand_calls_is_seen():
    spikes = choose([0.0, 1.0])
    odd = spikes.clone()
    odd[3, 3] = 0.7310585
    assert kind_of(*[spikes] * 500, odd, *[spikes] * 500) == "REAL"


def test_an_image_and_its_negative_are_real():
    # 12 bit per pixel, 4096 levels; at every pixel the two add up to exactly 1.
    image = (reals(seed=6) * 4096).round() / 4096
    assert kind_of(image, 1 - image) == "REAL"


def test_an_image_and_its_negative_in_one_call_are_real():
    image = (reals((1, 16), seed=7) * 4096).round() / 4096
    assert kind_of(torch.cat([image, 1 - image])) == "REAL"


@pytest.mark.parametrize("features", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_many_reals_in_few_features_are_real(features: int, dtype: torch.dtype, seed: int):
    assert kind_of(reals((3000, features), seed, dtype)) == "REAL"


@pytest.mark.parametrize("theta", [1.0, 0.3, 0.7, 255.0, 999.0, 12345.0, 1 + 2**-10])
def test_binary_stays_binary_in_a_long_measurement(theta: float):
    # 32 calls of 60 000 rows: as a transformer's linear layer sees in some 40 batches.
    x = choose([0.0, theta, theta, theta], shape=(60_000, 2))
    assert kind_of(*[x] * 32) == "BINARY"


@pytest.mark.parametrize("theta", [1.0, 0.3, 255.0, 999.0])
def test_binary_stays_binary_in_many_time_steps(theta: float):
    x = choose([0.0, theta, theta, theta], shape=(64, 4096, 2))
    with SopCounter(layer := nn.Linear(2, 2), batch_dim=1) as counter, torch.no_grad():
        layer(x)
    assert counter.result().rows[0].input_kind == "BINARY"


def test_integers_of_many_time_steps_are_unrolled_exactly():
    # 128 steps * 4096 samples * 63, but for one 62: 33 030 143 > 2^24, and odd.
    x = torch.full((128, 4096, 1), 63.0)
    x[5, 7] = 62
    with SopCounter(layer := nn.Linear(1, 1), batch_dim=1) as counter, torch.no_grad():
        layer(x)
    (row,) = counter.result().rows
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == 33_030_143


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_real_and_named(bad: float):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    x = torch.ones(2, 4)
    x[0, 1] = bad
    with SopCounter(net) as counter:
        net(x)
    result = counter.result()
    assert "0" in result.non_finite
    assert result.rows[0].input_kind == "REAL"
    assert result.rows[0].synops == 32  # every one of the 8 inputs is not zero, * 4


def test_what_is_not_finite_is_named_after_inputs_that_are_real_whatever_comes():
    layer = nn.Linear(16, 2)
    with SopCounter(layer) as counter, torch.no_grad():
        for x in (reals(), torch.full((1, 16), float("nan")), reals()):
            layer(x)
    with pytest.warns(RuntimeWarning, match="NaN"):
        result = counter.result()
    assert result.rows[0].input_kind == "REAL"
    assert result.rows[0].nonzeros == 6 * 16 + 16 + 6 * 16


def test_what_comes_after_reals_is_counted_as_before():
    spikes, levels = choose([0.0, 1.0]), choose([0.0, 0.5, 3.0])
    row = counted(nn.Linear(16, 2), reals() + 0.1, spikes, levels, -spikes)
    assert row.input_kind == "REAL"
    assert row.nonzeros == 6 * 16 + sum(int(x.count_nonzero()) for x in (spikes, levels, spikes))


@pytest.mark.parametrize(("timesteps", "calls"), [(None, 1100), (3, 3300)])
def test_more_spikes_than_float32_counts(timesteps, calls):
    """More than 2^24 at every position and time step; the calls are small, and put aside."""
    layer = nn.Linear(2, 3)
    x = torch.ones(16383, 2)
    with SopCounter(layer, timesteps=timesteps) as counter, torch.no_grad():
        for _ in range(calls):
            layer(x)
    (row,) = counter.result().rows
    assert row.nonzeros == calls * 16383 * 2
    assert row.synops == 3 * row.nonzeros
    assert set(row.firing_rate_by_step or ()) <= {1.0}


@pytest.mark.parametrize("timesteps", [None, 3])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64])
def test_spikes_of_every_type_that_are_put_aside(dtype, timesteps):
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 2, dtype=torch.float64)

        def forward(self, x):
            return nn.functional.linear(x, self.layer.weight.to(x.dtype))

    calls = [choose([0, 1], seed=n).to(dtype) for n in range(12)]
    with SopCounter(model := Any(), timesteps=timesteps) as counter, torch.no_grad():
        for x in calls:
            model(x)
    assert counter.result().rows[0].nonzeros == sum(int(x.sum()) for x in calls)


def test_the_largest_doubles_are_real():
    assert kind_of(torch.tensor([[2e306, 1.7e308]], dtype=torch.float64)) == "REAL"


# --- weights --------------------------------------------------------------------------------


def weight_kind(weight: Tensor, layer: nn.Module | None = None) -> str:
    if layer is None:
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight = nn.Parameter(weight)
    shape = (2, weight.shape[1])
    return counted(layer, torch.ones(shape, dtype=weight.dtype)).weight_kind


SIGNS = choose([-1.0, 1.0], shape=(5, 12), seed=3)
TERNARY = choose([-1.0, 0.0, 1.0], shape=(5, 12), seed=4)
ALPHA = torch.tensor([0.1, 0.37, 1.0, 2.5, 0.0123]).unsqueeze(1)


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


def test_channels_of_transposed_convolutions_are_the_second_dimension():
    # [C_in, C_out, k]: a scale per output channel is ternary, one per input channel is not.
    signs = choose([-1.0, 1.0], shape=(4, 5, 3), seed=12)
    per_out, per_in = ALPHA.view(1, 5, 1), ALPHA[:4].view(4, 1, 1)
    for scale, kind in [(per_out, "TERNARY"), (per_in, "REAL")]:
        layer = nn.ConvTranspose1d(4, 5, 3)
        layer.weight = nn.Parameter(signs * scale)
        assert counted(layer, torch.ones(1, 4, 6)).weight_kind == kind


def test_channels_of_grouped_transposed_convolutions():
    signs = choose([-1.0, 1.0], shape=(4, 2, 3), seed=12)  # 2 groups: outputs (0, 1), (2, 3)
    signs[:2] *= torch.tensor([0.3, 0.7]).view(1, 2, 1)
    signs[2:] *= torch.tensor([1.1, 2.3]).view(1, 2, 1)
    layer = nn.ConvTranspose1d(4, 4, 3, groups=2)
    layer.weight = nn.Parameter(signs)
    assert counted(layer, torch.ones(1, 4, 6)).weight_kind == "TERNARY"


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
    assert counted(layer, reals((2, levels))).weight_kind == kind


def test_values_that_make_whole_sums_are_told_by_the_weighted_ones():
    """1.25 and 1.75 at one position: their sum is 3, but not their weighted sum."""
    x = torch.tensor([[1.0, 1.0], [1.0, 1.25], [2.0, 1.75]])
    row = counted(nn.Linear(2, 1), x)
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", 4 * 8)  # in quarters


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


# --- the rule -------------------------------------------------------------------------------

RULE = {
    ("BINARY", "BINARY"): "AC",
    ("BINARY", "TERNARY"): "AC",
    ("BINARY", "INTEGER"): "AC",
    ("BINARY", "REAL"): "AC",
    ("TERNARY", "BINARY"): "AC",
    ("TERNARY", "TERNARY"): "AC",
    ("TERNARY", "INTEGER"): "AC",
    ("TERNARY", "REAL"): "AC",
    ("INTEGER", "BINARY"): "AC",
    ("INTEGER", "TERNARY"): "AC",
    ("INTEGER", "REAL"): "AC",
    ("REAL", "BINARY"): "AC",
    ("REAL", "TERNARY"): "AC",
    ("REAL", "REAL"): "MAC",
}
INPUTS = {
    "BINARY": choose([0.0, 1.0], (3, 12)),
    "TERNARY": choose([-1.0, 0.0, 1.0], (3, 12)),
    "INTEGER": choose([0.0, 1.0, 2.0], (3, 12)),
    "REAL": reals((3, 12)),
}
WEIGHTS = {
    "BINARY": torch.ones(5, 12),
    "TERNARY": SIGNS * ALPHA,
    "INTEGER": choose([-2.0, -1.0, 1.0, 2.0, 3.0], (5, 12)) * ALPHA,
    "REAL": reals((5, 12), seed=14) + 0.1,
}


@pytest.mark.parametrize(("input_kind", "weight_kind"), RULE)
def test_the_rule_of_mac_or_ac(input_kind: str, weight_kind: str):
    layer = nn.Linear(12, 5)
    layer.weight = nn.Parameter(WEIGHTS[weight_kind].clone())
    row = counted(layer, INPUTS[input_kind])
    assert (row.input_kind, row.weight_kind) == (input_kind, weight_kind)
    assert row.operation == RULE[input_kind, weight_kind]


def test_integer_inputs_on_real_weights_can_be_billed_as_macs():
    assert operation("INTEGER", "REAL") == "AC"
    assert operation("INTEGER", "REAL", integer="mac") == "MAC"
    assert operation("BINARY", "REAL", integer="mac") == "AC"
    assert operation("INTEGER", "TERNARY", integer="mac") == "AC"


def test_the_stem_is_the_first_layer_if_its_input_is_real():
    net = nn.Sequential(nn.Linear(12, 4), nn.Sigmoid(), nn.Linear(4, 2))
    with SopCounter(net) as counter:
        net(reals((2, 12)))
    assert [row.stem for row in counter.result().rows] == [True, False]
    with SopCounter(net) as counter:
        net(INPUTS["BINARY"])
    assert [row.stem for row in counter.result().rows] == [False, False]

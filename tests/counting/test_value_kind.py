"""Kinds of input, judged over a whole measurement."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row
from .nets import as_on_another_device
from .values import DTYPES, choose, reals


def kind_of(*inputs: Tensor) -> str:
    """Kind of a linear layer's input over calls with these."""
    layer = nn.Linear(inputs[0].shape[-1], 2, dtype=inputs[0].dtype)
    return count_row(layer, *inputs).input_kind


@pytest.mark.parametrize("theta", [1.0, 1.25, 0.3, 0.1, 1 / 3, 7.0, 255.0, 1e-6, 12345.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_spikes_of_one_height_are_binary(theta: float, dtype: torch.dtype):
    x = choose([0.0, theta], dtype=dtype)
    row = count_row(nn.Linear(16, 2, dtype=dtype), x)
    assert row.input_kind == "BINARY"
    assert row.unrolled_synops == row.synops == 2 * int((x != 0).sum())


@pytest.mark.parametrize("c", [1.0, 0.3, 1.25, 5.0])
def test_spikes_of_either_sign_are_ternary(c: float):
    row = count_row(nn.Linear(16, 2), choose([-c, 0.0, c]))
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
    row = count_row(nn.Linear(16, 2, dtype=dtype), x)
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
    row = count_row(nn.Linear(16, 2, dtype=dtype), x)
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
    row = count_row(nn.Linear(16, 2, dtype=dtype), x)
    assert row.input_kind == "REAL"
    assert row.unrolled_synops is None
    assert row.synops == 2 * int((x != 0).sum())


def test_silence_is_binary_and_costs_nothing():
    row = count_row(nn.Linear(16, 2), torch.zeros(3, 16))
    assert (row.input_kind, row.synops, row.unrolled_synops) == ("BINARY", 0, 0)
    assert row.input_density == row.rate_synops == 0.0
    assert row.dense_macs == 96  # 3 * 16 * 2


def test_negative_zero_is_zero():
    row = count_row(nn.Linear(2, 3), torch.tensor([[-0.0, 1.0]]))
    assert (row.input_kind, row.synops) == ("BINARY", 3)


def test_the_smallest_float_is_an_event():
    tiny = torch.tensor([[0.0, 1e-45]])
    assert float(tiny[0, 1]) > 0
    assert count_row(nn.Linear(2, 3), tiny).synops == 3


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
    rows = [
        count_row(nn.Linear(16, 2), CALLS[a], CALLS[b]) for a, b in [(one, other), (other, one)]
    ]
    assert [row.input_kind for row in rows] == [expected] * 2
    assert rows[0] == rows[1]


@pytest.mark.parametrize("theta", [1.0, 0.3])
@pytest.mark.parametrize("silent_first", [True, False])
def test_a_silent_call_leaves_spikes_binary(theta: float, silent_first: bool):
    calls = [torch.zeros(40, 1000), choose([0.0, theta], shape=(40, 1000))]  # large calls
    row = count_row(nn.Linear(1000, 2), *(calls if silent_first else calls[::-1]))
    assert (row.input_kind, row.operation) == ("BINARY", "AC")


def test_the_order_of_three_calls_does_not_matter():
    calls = [CALLS["binary"], CALLS["binary of another height"], CALLS["ternary"]]
    layer = nn.Linear(16, 2)
    rows = {count_row(layer, *order) for order in itertools.permutations(calls)}
    assert len(rows) == 1


def test_levels_that_come_in_different_calls_are_one_integer_input():
    ones, threes = choose([0.0, 1.0], seed=1), choose([0.0, 3.0], seed=2)
    row = count_row(nn.Linear(16, 2), ones, threes)
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
    row = count_row(nn.Linear(2, 1, dtype=dtype), *[x] * calls)
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", (6 * many - 4) * calls)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_knows_binary_fractions_only(dtype: torch.dtype):
    layer = nn.Linear(16, 2, dtype=dtype)
    assert count_row(layer, choose([0.0, 0.25, 0.75]).to(dtype)).input_kind == "INTEGER"
    assert count_row(layer, choose([0.0, 0.3, 0.9]).to(dtype)).input_kind == "REAL"


def test_odd_levels_that_come_in_different_calls_are_one_integer_input():
    one, two = choose([0.0, 0.3], seed=1), choose([0.0, 0.6], seed=2)
    row = count_row(nn.Linear(16, 2), one, two)
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
    row = count_row(nn.Linear(16, 2), reals() + 0.1, spikes, levels, -spikes)
    assert row.input_kind == "REAL"
    assert row.nonzeros == 6 * 16 + sum(int(x.count_nonzero()) for x in (spikes, levels, spikes))


@pytest.mark.parametrize(("timesteps", "calls"), [(None, 1100), (3, 3300)])
def test_more_spikes_than_float32_counts(timesteps, calls):
    """More than 2^24 at every position and time step; the calls are small, and buffered."""
    layer = nn.Linear(2, 3)
    x = torch.ones(16383, 2)
    with SopCounter(layer, timesteps=timesteps) as counter, torch.no_grad():
        for _ in range(calls):
            layer(x)
    (row,) = counter.result().rows
    assert row.nonzeros == calls * 16383 * 2
    assert row.synops == 3 * row.nonzeros
    assert row.input_density_by_step == (None if timesteps is None else (1.0,) * timesteps)


@pytest.mark.parametrize("timesteps", [None, 3])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64])
def test_spikes_of_every_type_are_buffered(dtype, timesteps):
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


def test_values_whose_sums_are_whole_are_recognised_by_the_weighted_sums():
    """1.25 and 1.75 at one position: their sum is 3, but not their weighted sum."""
    x = torch.tensor([[1.0, 1.0], [1.0, 1.25], [2.0, 1.75]])
    row = count_row(nn.Linear(2, 1), x)
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", 4 * 8)  # in quarters

"""Counts equal enumeration, to the last event, on every kind of layer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row
from .oracle import Synapses, enumerated, nominal_macs, reference

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PADDING_MODES = ("zeros", "circular", "reflect", "replicate")


def assert_counts(row, layer: nn.Module, inputs: list[Tensor], count=reference) -> None:
    expected = sum((count(layer, x) for x in inputs), Synapses(0, 0.0, 0))
    elements = sum(x.numel() for x in inputs)
    nonzeros = sum(int((x != 0).sum()) for x in inputs)
    nominal = sum(nominal_macs(layer, x) for x in inputs)
    assert row.synops == expected.synops
    assert row.dense_macs == expected.dense
    assert row.nominal_macs == nominal
    assert (row.nonzeros, row.inputs, row.calls) == (nonzeros, elements, len(inputs))
    assert row.input_density == nonzeros / elements
    assert math.isclose(row.rate_synops, nonzeros / elements * nominal, rel_tol=1e-12)
    for name in ("synops", "dense_macs", "nominal_macs", "nonzeros", "inputs", "calls"):
        assert type(getattr(row, name)) is int


def spikes(shape, share: float, seed: int, where: str = "anywhere") -> Tensor:
    """0/1; ``border``: only in the first and last position of every spatial dimension."""
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()
    if where == "border":
        border = torch.zeros(shape, dtype=torch.bool)
        for dim in range(2, len(shape)):
            border.select(dim, 0).fill_(True)
            border.select(dim, shape[dim] - 1).fill_(True)
        x *= border
    return x


def with_zero_weights(layer: nn.Module, share: float, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        layer.weight *= torch.rand(layer.weight.shape, generator=generator) >= share
    return layer


# --- small cases, every tap in plain Python -------------------------------------------------

SMALL = {
    "conv1d": (nn.Conv1d(2, 3, 3, padding=1), (2, 2, 5)),
    "conv1d strided dilated": (nn.Conv1d(2, 2, 2, stride=2, dilation=3), (1, 2, 9)),
    "conv1d same, even kernel": (nn.Conv1d(1, 2, 4, padding="same"), (2, 1, 5)),
    "conv1d valid": (nn.Conv1d(1, 2, 3, padding="valid"), (1, 1, 5)),
    "conv1d padding wider than kernel": (nn.Conv1d(1, 1, 2, padding=3), (1, 1, 2)),
    "conv1d stride beyond kernel": (nn.Conv1d(1, 2, 1, stride=3), (1, 1, 8)),
    "conv2d": (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 4, 5)),
    "conv2d depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (1, 4, 4, 4)),
    "conv2d grouped uneven": (
        nn.Conv2d(4, 6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2),
        (2, 4, 3, 5),
    ),
    "conv2d same dilated": (nn.Conv2d(1, 2, (2, 3), padding="same", dilation=2), (1, 1, 5, 4)),
    "conv2d circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 1, 4, 3)),
    "conv2d circular around once": (
        nn.Conv2d(1, 1, 3, padding=(3, 2), padding_mode="circular"),
        (1, 1, 3, 2),
    ),
    "conv2d reflect": (nn.Conv2d(2, 1, 3, padding=2, padding_mode="reflect"), (1, 2, 4, 3)),
    "conv2d replicate strided": (
        nn.Conv2d(1, 2, 3, stride=2, padding=3, padding_mode="replicate"),
        (2, 1, 3, 4),
    ),
    "conv2d same circular, even kernel": (
        nn.Conv2d(1, 1, (2, 4), padding="same", padding_mode="circular"),
        (1, 1, 3, 5),
    ),
    "conv3d": (nn.Conv3d(1, 2, 2, padding=1), (1, 1, 2, 3, 2)),
    "conv3d replicate": (
        nn.Conv3d(2, 1, (1, 2, 3), padding=(0, 1, 2), padding_mode="replicate"),
        (1, 2, 2, 2, 3),
    ),
    "conv_transpose1d": (nn.ConvTranspose1d(2, 3, 3), (2, 2, 4)),
    "conv_transpose1d cropped": (
        nn.ConvTranspose1d(2, 2, 4, stride=3, padding=2, output_padding=1, dilation=2),
        (1, 2, 4),
    ),
    "conv_transpose1d, output padding inside the kernel": (
        nn.ConvTranspose1d(1, 1, 3, stride=2, padding=2, output_padding=1),
        (1, 1, 4),
    ),
    "conv_transpose2d grouped": (
        nn.ConvTranspose2d(4, 6, 2, stride=2, padding=1, groups=2),
        (2, 4, 3, 2),
    ),
    "conv_transpose3d": (
        nn.ConvTranspose3d(1, 2, 2, stride=(1, 2, 2), padding=(0, 1, 0)),
        (1, 1, 2, 2, 2),
    ),
    "linear": (nn.Linear(5, 3), (4, 5)),
    "linear on tokens": (nn.Linear(3, 2), (2, 4, 3)),
    "linear on one vector": (nn.Linear(6, 2), (6,)),
    "conv1d unbatched": (nn.Conv1d(2, 2, 3, padding=1), (2, 4)),
    "conv2d unbatched circular": (
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        (2, 3, 4),
    ),
    "conv_transpose2d unbatched": (nn.ConvTranspose2d(2, 1, 3, stride=2), (2, 2, 3)),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("zero_weights", [0.0, 0.4])
def test_a_small_layer_is_counted_as_enumerated_tap_by_tap(name: str, zero_weights: float):
    layer, shape = SMALL[name]
    with_zero_weights(layer, zero_weights, seed=3)
    x = spikes(shape, 0.4, seed=5)
    assert_counts(count_row(layer, x), layer, [x], count=enumerated)


@pytest.mark.parametrize("name", SMALL)
def test_the_two_oracles_agree(name: str):
    layer, shape = SMALL[name]
    with_zero_weights(layer, 0.3, seed=7)
    x = spikes(shape, 0.5, seed=8) * 3
    assert enumerated(layer, x) == reference(layer, x)


@pytest.mark.parametrize("name", SMALL)
def test_whole_numbers_are_unrolled_as_enumerated(name: str):
    layer, shape = SMALL[name]
    with_zero_weights(layer, 0.3, seed=9)
    x = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(4)).float()
    x.view(-1)[:2] = torch.tensor([1.0, 3.0])  # at least two levels
    row = count_row(layer, x)
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == enumerated(layer, x).unrolled


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_a_single_spike_anywhere_in_a_padded_line_has_its_own_fan_out(position: int, mode: str):
    layer = nn.Conv1d(1, 1, 3, padding=2, padding_mode=mode)
    x = torch.zeros(1, 1, 5)
    x[..., position] = 1
    assert count_row(layer, x).synops == enumerated(layer, x).synops


# --- random configurations against the float64 reference -------------------------------------


@st.composite
def convolutions(draw, transposed: bool):
    """A layer and the shapes of one or two inputs."""
    dims = draw(st.integers(1, 3))
    most = {1: 9, 2: 7, 3: 4}[dims]

    def each(least: int, top: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, top)) for _ in range(dims))

    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    settings = {"dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    sizes = [each(1, most) for _ in range(draw(st.integers(1, 2)))]
    if transposed:
        padding = each(0, 2)
        limit = tuple(max(s, d) - 1 for s, d in zip(stride, dilation, strict=True))
        output_padding = tuple(draw(st.integers(0, top)) for top in limit)
        settings |= {"stride": stride, "padding": padding, "output_padding": output_padding}
        layer = TRANSPOSED[dims](*channels, kernel, **settings)
    else:
        mode = draw(st.sampled_from(PADDING_MODES))
        padding = draw(st.sampled_from(["number", "same", "valid"]))
        if padding == "number":
            padding = each(0, 3)
        settings |= {"stride": 1 if padding == "same" else stride}
        settings |= {"padding": padding, "padding_mode": mode}
        layer = CONV[dims](*channels, kernel, **settings)
    shapes = [(draw(st.integers(1, 3)), channels[0], *size) for size in sizes]
    for shape in shapes:
        assume(_runs(layer, shape))
    return layer, shapes


def _runs(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            return layer(torch.zeros(shape)).numel() > 0
    except (RuntimeError, ValueError):  # output of size zero, reflection beyond the input
        return False


EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 10_000)
SHARES = st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0])
WHERE = st.sampled_from(["anywhere", "border"])
ZERO_WEIGHTS = st.sampled_from([0.0, 0.3, 0.9, 1.0])


@EXAMPLES
@given(convolutions(transposed=False), SEEDS, SHARES, WHERE, ZERO_WEIGHTS)
def test_any_convolution_is_counted_exactly(config, seed, share, where, zero_weights):
    layer, shapes = config
    with_zero_weights(layer, zero_weights, seed)
    inputs = [spikes(shape, share, seed + i, where) for i, shape in enumerate(shapes)]
    assert_counts(count_row(layer, *inputs), layer, inputs)


@EXAMPLES
@given(convolutions(transposed=True), SEEDS, SHARES, WHERE, ZERO_WEIGHTS)
def test_any_transposed_convolution_is_counted_exactly(config, seed, share, where, zero_weights):
    layer, shapes = config
    with_zero_weights(layer, zero_weights, seed)
    inputs = [spikes(shape, share, seed + i, where) for i, shape in enumerate(shapes)]
    assert_counts(count_row(layer, *inputs), layer, inputs)


@settings(EXAMPLES, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=3),
    st.booleans(),
    SEEDS,
    SHARES,
    ZERO_WEIGHTS,
)
def test_any_linear_layer_is_counted_exactly(
    features, outputs, leading, bias, seed, share, zero_weights
):
    layer = with_zero_weights(nn.Linear(features, outputs, bias=bias), zero_weights, seed)
    inputs = [spikes((*lead, features), share, seed + i) for i, lead in enumerate(leading)]
    assert_counts(count_row(layer, *inputs), layer, inputs)


@settings(EXAMPLES, max_examples=60)
@given(convolutions(transposed=False), SEEDS, st.integers(2, 40))
def test_many_calls_of_different_sizes_add_up(config, seed, calls):
    layer, shapes = config
    with_zero_weights(layer, 0.3, seed)
    inputs = [spikes(shapes[i % len(shapes)], 0.3, seed + i) for i in range(calls)]
    assert_counts(count_row(layer, *inputs), layer, inputs)


# --- sizes and layouts at which an implementation may change its way --------------------------


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 4095, 4096, 4097, 40_000, 1 << 18])
def test_any_number_of_rows_is_summed_exactly(rows: int):
    layer = with_zero_weights(nn.Linear(7, 3), 0.3, seed=1)
    x = spikes((rows, 7), 0.7, seed=rows)
    assert_counts(count_row(layer, x), layer, [x])


@pytest.mark.parametrize("calls", [1, 7, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("features", [3, 1 << 15, (1 << 15) + 1])
def test_any_number_of_small_and_large_calls_adds_up(calls: int, features: int):
    layer = nn.Linear(features, 2)
    inputs = [spikes((1, features), 0.3, seed=i) for i in range(calls)]
    nonzeros = sum(int(x.sum()) for x in inputs)
    row = count_row(layer, *inputs)
    assert (row.calls, row.nonzeros) == (calls, nonzeros)
    assert row.synops == 2 * nonzeros  # each spike reaches both outputs


def test_more_events_than_a_float32_can_count():
    layer = nn.Linear(2, 4096)
    x = torch.ones(5001, 2)
    x[0, 0] = 0
    # 5001 * 2 - 1 = 10001 spikes * 4096 outputs = 40 964 096; twice: 81 928 192 > 2^24
    assert count_row(layer, x, x).synops == 81_928_192


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x[:, :, ::1].flip(3),
        lambda x: x[:1].expand(4, -1, -1, -1),
        lambda x: torch.cat([x, x], 3)[..., ::2],
    ],
    ids=["channels_last", "transposed", "flipped", "expanded", "strided"],
)
def test_memory_layout_of_the_input_does_not_matter(arrange):
    layer = with_zero_weights(nn.Conv2d(3, 2, 3, padding=1), 0.3, seed=2)
    x = arrange(spikes((4, 3, 5, 6), 0.3, seed=2))
    assert_counts(count_row(layer, x, x), layer, [x, x])


def test_memory_layout_of_the_weight_does_not_matter():
    layer = with_zero_weights(nn.Conv2d(3, 2, 3, padding=1), 0.3, seed=2)
    layer = layer.to(memory_format=torch.channels_last)
    x = spikes((4, 3, 5, 6), 0.3, seed=2)
    assert_counts(count_row(layer, x), layer, [x])


def test_size_given_to_a_transposed_convolution_call_is_respected():
    layer = nn.ConvTranspose1d(1, 1, 3, stride=2, padding=1)
    x = torch.ones(1, 1, 3)
    with SopCounter(layer) as counter:
        layer(x, output_size=[5])
        layer(x, output_size=[6])
    (row,) = counter.result().rows
    # Taps land at 2i-1, 2i, 2i+1. Length 5: -1 is cut and 5 is cut: 9 - 2 = 7.
    # Length 6: only -1 is cut: 8. Together 15.
    assert row.synops == 15


def test_nominal_macs_are_fvcores():
    fvcore = pytest.importorskip("fvcore.nn")
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    )
    x = torch.rand(2, 3, 8, 8)
    by_module = fvcore.FlopCountAnalysis(model, x).by_module()
    with SopCounter(model) as counter:
        model(x)
    rows = counter.result().by_layer()
    assert {name: row.nominal_macs for name, row in rows.items()} == {
        name: by_module[name] for name in rows
    }

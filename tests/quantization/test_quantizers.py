"""The formulas of 1-bit and 1.5-bit weights, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnprof.quantization.quantizers import (
    SCHEMES,
    Channels,
    Quantiser,
    Scheme,
    binarise,
    straight_through,
    ternarise,
)

ROWS = Channels()
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def channel_of(index: tuple[int, ...], shape: tuple[int, ...], channels: Channels) -> int:
    """Output channel of one weight, from the definition of the layers."""
    if not channels.transposed:
        return index[0]
    group = index[0] // (shape[0] // channels.groups)
    return group * shape[1] + index[1]


def by_the_book(weight: Tensor, name: str, channels: Channels) -> list[float]:
    """Both schemes in plain Python, weight by weight; sums without rounding."""
    values = weight.flatten().tolist()
    places = [tuple(i.tolist()) for i in torch.ones(weight.shape).nonzero()]
    if name == "1bit":
        members: dict[int, list[float]] = {}
        of = [channel_of(place, tuple(weight.shape), channels) for place in places]
        for channel, value in zip(of, values, strict=True):
            members.setdefault(channel, []).append(abs(value))
        scale = {channel: math.fsum(m) / len(m) for channel, m in members.items()}
        return [scale[c] * (1 if v >= 0 else -1) for c, v in zip(of, values, strict=True)]
    delta = 0.7 * (math.fsum(map(abs, values)) / len(values))
    kept = [abs(v) for v in values if abs(v) > delta]
    alpha = math.fsum(kept) / len(kept) if kept else 0.0
    return [math.copysign(alpha, v) if abs(v) > delta else 0.0 for v in values]


shapes = st.lists(st.integers(1, 4), min_size=2, max_size=5)
# Multiples of 1/64, so that sums are exact in every order; 0 and +-1 often.
numbers = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.integers(-128, 128).map(lambda n: n / 64))


@st.composite
def weights(draw: st.DrawFn) -> tuple[Tensor, Channels]:
    transposed, groups = draw(st.booleans()), draw(st.integers(1, 3))
    shape = draw(shapes.filter(lambda s: len(s) > 2 or not transposed))
    if transposed:
        shape[0] *= groups
    count = math.prod(shape)
    values = draw(st.lists(numbers, min_size=count, max_size=count))
    weight = torch.tensor(values).reshape(shape)
    return weight, Channels(True, groups) if transposed else Channels()


@pytest.mark.parametrize("name", SCHEMES)
@settings(deadline=None, max_examples=60)
@given(case=weights())
def test_values_equal_the_book(name: str, case: tuple[Tensor, Channels]) -> None:
    weight, channels = case
    quantised = SCHEMES[name].quantise(weight, channels)
    expected = torch.tensor(by_the_book(weight, name, channels), dtype=torch.float64)
    assert quantised.shape == weight.shape and quantised.dtype == weight.dtype
    assert torch.equal(quantised.flatten(), expected.float())


def test_one_bit_by_hand() -> None:
    weight = torch.tensor([[0.5, -0.25, 0.0], [-1.0, -2.0, -3.0]])
    # means: 0.75 / 3 = 0.25 and 6 / 3 = 2; 0 is positive
    assert binarise(weight, ROWS).tolist() == [[0.25, -0.25, 0.25], [-2.0, -2.0, -2.0]]


def test_one_bit_of_a_grouped_transposed_convolution_by_hand() -> None:
    # [C_in = 4, C_out / groups = 1], 2 groups: rows 0, 1 make channel 0, rows 2, 3 channel 1
    weight = torch.tensor([[1.0], [-2.0], [-3.0], [6.0]]).reshape(4, 1, 1)
    expected = [1.5, -1.5, -4.5, 4.5]  # 3 / 2 and 9 / 2
    assert binarise(weight, Channels(True, 2)).flatten().tolist() == expected
    assert Channels(True, 2).count(weight.shape) == 2


def test_one_and_a_half_bits_by_hand() -> None:
    weight = torch.tensor([[1.0, -0.5], [0.25, -0.25]])
    # mean 2 / 4 = 0.5, Delta 0.35: 1 and 0.5 stay, alpha 0.75
    assert ternarise(weight).tolist() == [[0.75, -0.75], [0.0, 0.0]]


def test_a_magnitude_on_the_threshold_is_dropped() -> None:
    # mean (7 + 13) / 2 / 64 = 10 / 64, Delta 7 / 64: only 13 / 64 is above
    assert ternarise(torch.tensor([7 / 64, -13 / 64])).tolist() == [0.0, -13 / 64]


def test_rounding_the_threshold_does_not_decide() -> None:
    # Of w, b, b, b the mean is (w + 3 b) / 4, and w is on the threshold at w = 2.1 b / 3.3.
    # Delta lies between float32 numbers: rounded to one, it would often be w itself.
    decided_by_rounding = 0
    for n in range(1, 100):
        b = torch.tensor(n / 64)
        middle = 2.1 * b / 3.3
        for ulps in range(-3, 4):
            w = (middle.view(torch.int32) + ulps).view(torch.float32)
            delta = 0.7 * ((w.item() + 3 * b.item()) / 4)
            stays = w.item() > delta
            assert (ternarise(torch.stack([w, b, b, b]))[0].item() != 0) == stays
            decided_by_rounding += (w.item() > torch.tensor(delta).item()) != stays
    assert decided_by_rounding > 0


@pytest.mark.parametrize("name", SCHEMES)
def test_all_zero_weights_stay_zero(name: str) -> None:
    for zero in (0.0, -0.0):
        weight = torch.full((3, 4), zero, requires_grad=True)
        quantised = straight_through(weight, SCHEMES[name], ROWS)
        assert quantised.tolist() == [[0.0] * 4] * 3
        assert not torch.signbit(quantised).any()
        quantised.sum().backward()
        assert weight.grad is not None
        assert weight.grad.tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SCHEMES)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), exponent=st.integers(-50, 20))
def test_quantising_twice_changes_nothing(
    name: str, dtype: torch.dtype, seed: int, rows: int, exponent: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, 7, 3, generator=generator) * 2.0 ** max(exponent, -20)
    if dtype != torch.float16:
        weight *= 2.0 ** min(exponent + 20, 0)
    scheme = SCHEMES[name]
    once = scheme.quantise(weight.to(dtype).clamp(-60000, 60000), ROWS)
    assert torch.equal(scheme.quantise(once, ROWS), once)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_smallest_numbers_quantise_twice_to_the_same(name: str) -> None:
    least = torch.finfo(torch.float32).smallest_normal * 2.0**-23
    weight = torch.tensor([[least, -least, 0.0, least]])
    once = SCHEMES[name].quantise(weight, ROWS)
    assert torch.equal(SCHEMES[name].quantise(once, ROWS), once)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scale_stands_a_million_weights(name: str) -> None:
    # A float32 sum of 2^20 equal numbers would round; the scale must be the number itself.
    weight = torch.full((1, 1 << 20), 0.1)
    weight[0, ::3] *= -1
    assert torch.equal(SCHEMES[name].quantise(weight, ROWS), weight)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_do_not_vanish(name: str, bad: float) -> None:
    weight = torch.tensor([[0.5, bad], [0.25, 0.5]])
    assert not SCHEMES[name].quantise(weight, ROWS)[0].isfinite().any()


# --- gradients ------------------------------------------------------------------------------


def test_where_the_gradient_passes_by_hand() -> None:
    values = [-1.5, -1.0, -0.5, 0.0, 0.999, 1.0, 1.001]
    expected = {"1bit": [0, 1, 1, 1, 1, 1, 0], "1.5bit": [0, 0, 1, 1, 1, 0, 0]}
    assert expected.keys() == SCHEMES.keys()
    for name, passes in expected.items():
        weight = torch.tensor([values], requires_grad=True)
        upstream = torch.arange(1.0, 8.0).unsqueeze(0)
        straight_through(weight, SCHEMES[name], ROWS).backward(upstream)
        assert weight.grad is not None
        assert weight.grad.tolist() == [[g * p for g, p in zip(range(1, 8), passes, strict=True)]]


# The gradient of clamp is 1 on the boundary, that of hardtanh 0.
CUTS = {"1bit": lambda w: w.clamp(-1, 1), "1.5bit": F.hardtanh}


@pytest.mark.parametrize("name", SCHEMES)
@settings(deadline=None, max_examples=60)
@given(case=weights())
def test_gradients_equal_plain_autograd(name: str, case: tuple[Tensor, Channels]) -> None:
    weight, channels = case
    ours, plain = (weight.clone().requires_grad_() for _ in range(2))
    quantised = straight_through(ours, SCHEMES[name], channels)
    cut = CUTS[name](plain)
    same = (
        cut + (quantised.detach() - cut).detach()
    )  # the usual trick: value of one, slope of other
    upstream = torch.linspace(-3, 3, weight.numel()).reshape(weight.shape)
    quantised.backward(upstream)
    same.backward(upstream)
    assert ours.grad is not None and plain.grad is not None
    assert torch.equal(ours.grad, plain.grad)


@pytest.mark.parametrize("name", SCHEMES)
def test_an_infinite_gradient_outside_is_still_cut(name: str) -> None:
    weight = torch.tensor([[2.0, 0.5]], requires_grad=True)
    straight_through(weight, SCHEMES[name], ROWS).backward(torch.tensor([[float("inf"), 1.0]]))
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_is_one_byte_per_weight(name: str, dtype: torch.dtype) -> None:
    weight = torch.randn(6, 5, 3, 3).to(dtype).requires_grad_()
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = straight_through(weight, SCHEMES[name], ROWS)
    assert sum(tensor.nbytes for tensor in kept) == 6 * 5 * 3 * 3
    assert out.dtype == dtype
    out.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == dtype


@pytest.mark.parametrize("name", SCHEMES)
def test_nothing_is_kept_or_found_where_no_gradient_is_asked_for(name: str) -> None:
    found: list[Tensor] = []

    def passes(weight: Tensor) -> Tensor:
        found.append(weight)
        return SCHEMES[name].passes(weight)

    scheme = Scheme(SCHEMES[name].bits, SCHEMES[name].quantise, passes)
    weight = torch.randn(3, 4, requires_grad=True)
    with torch.no_grad():
        assert straight_through(weight, scheme, ROWS).grad_fn is None
    with torch.inference_mode():
        straight_through(weight, scheme, ROWS)
    straight_through(weight.detach(), scheme, ROWS)
    assert not found
    straight_through(weight, scheme, ROWS)
    assert len(found) == 1


@pytest.mark.parametrize("name", SCHEMES)
def test_gradients_under_torch_func(name: str) -> None:
    weight = torch.tensor([[0.5, -2.0], [1.5, 0.25]])
    quantiser = Quantiser(name, ROWS)
    gradient = torch.func.grad(lambda w: (3 * quantiser(w)).sum())(weight)
    assert gradient.tolist() == [[3.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_clipped_weight_that_diverged_does_not_look_like_one(value: float) -> None:
    assert Quantiser("1.5bit", ROWS, clip=True)(torch.tensor([[value, 0.5]])).isnan().all()


@pytest.mark.parametrize("value", [1.0, -1.0, 1.5])
def test_no_gradient_passes_a_clipped_weight_of_1_or_more(value: float) -> None:
    weight = torch.tensor([[value, 0.5]], requires_grad=True)
    Quantiser("1.5bit", ROWS, clip=True)(weight).backward(torch.tensor([[2.0, 3.0]]))
    assert weight.grad.tolist() == [[0, 3]]

"""Spikes as bits: what fits comes back the same, what does not is left."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import snnprof
from snnprof.training.spike_bits import from_bits, keep, restore, to_bits


def same(a: Tensor, b: Tensor) -> bool:
    """To the last bit, -0 and NaN too, and laid out alike."""
    kind = {8: torch.int64, 4: torch.int32, 2: torch.int16}[a.element_size()]
    return torch.equal(a.view(kind), b.view(kind)) and a.stride() == b.stride()


@given(
    fired=st.lists(st.booleans(), min_size=8, max_size=40),
    height=st.sampled_from([1.0, 0.7, 1e-40, float("inf"), float("nan")]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_two_values_come_back_from_an_eighth_of_a_byte_each(
    fired: list[bool], height: float, dtype: torch.dtype
) -> None:
    spikes = torch.where(torch.tensor(fired), torch.tensor(height, dtype=dtype), 0.0).to(dtype)
    bits = to_bits(spikes)
    assert bits is not None
    assert bits.bits.numel() == -(-len(fired) // 8)
    assert same(from_bits(bits), spikes)


@pytest.mark.parametrize("value", [2.0, -1.0, -0.0, float("nan"), 0.5])
def test_a_third_value_is_left_as_it_is(value: float) -> None:
    spikes = torch.tensor([0.0, 1, 0, 1, 1, 0, 0, 0, 1])
    spikes[4] = value
    assert to_bits(spikes) is None
    assert restore(keep(spikes)) is spikes


def test_the_bits_by_hand() -> None:
    # 1 + 4 + 128 = 133, and 1 of the ninth
    bits = to_bits(torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 1, 1]))
    assert bits is not None
    assert bits.bits.tolist() == [133, 1]


def test_the_layout_comes_back() -> None:
    spikes = (torch.arange(2 * 3 * 4 * 4) % 3 == 0).float().view(2, 3, 4, 4)
    for laid_out in (spikes.contiguous(memory_format=torch.channels_last), spikes.transpose(0, 2)):
        bits = to_bits(laid_out)
        assert bits is not None
        assert same(from_bits(bits), laid_out)


def test_what_does_not_lie_in_one_piece_is_left() -> None:
    spikes = torch.ones(4, 8)
    assert to_bits(spikes[:, :4]) is None
    assert to_bits(torch.ones(1, 8).expand(4, 8)) is None
    assert to_bits(torch.ones(16, dtype=torch.int64)) is None


def test_what_was_written_over_is_refused() -> None:
    currents = torch.rand(16)
    kept = keep(currents)
    currents += 1
    with pytest.raises(snnprof.SnnprofError, match="changed in place"):
        restore(kept)

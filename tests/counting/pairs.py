"""The oracle of products, every pair of elements that meets; and models that have products."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from snnprof.results import LayerCount

from ..support.counting import Function, count


def one_row(function, *inputs: Tensor) -> LayerCount:
    one_sample = torch.ones(1)  # an operand may have no dimension to read samples off
    result = count(Function(lambda _, *x: function(*x)), (one_sample, *inputs))
    assert result.not_counted == ()
    (row,) = result.rows
    return row


# --- the oracle: every index tuple, one by one --------------------------------------------------


class Pairs:
    """Walks every tuple of indices of an einsum of two operands."""

    def __init__(self, a: Tensor, b: Tensor, left: str, right: str) -> None:
        letters = sorted({*left, *right})
        sizes = dict.fromkeys(letters, 1)
        for letter, size in (*zip(left, a.shape, strict=True), *zip(right, b.shape, strict=True)):
            sizes[letter] = max(sizes[letter], size)
        self.synops = self.unrolled = self.nnz = self.dense = 0
        for at in itertools.product(*(range(sizes[letter]) for letter in letters)):
            place = dict(zip(letters, at, strict=True))
            x, y = _element(a, left, place), _element(b, right, place)
            self.dense += 1
            self.nnz += x != 0
            self.synops += x != 0 and y != 0
            self.unrolled += abs(x) if y != 0 else 0


def _element(x: Tensor, letters: str, place: dict[str, int]) -> float:
    at = (place[n] if size > 1 else 0 for n, size in zip(letters, x.shape, strict=True))
    return float(x[tuple(at)])


def assert_counts(row: LayerCount, a: Tensor, b: Tensor, left: str, right: str) -> None:
    expected = Pairs(a, b, left, right)
    assert row.synops == expected.synops
    assert row.nnz_synops == expected.nnz
    assert row.nominal_macs == row.dense_macs == expected.dense
    if len(set(left)) == len(left):
        nonzeros = sum(value != 0 for value in a.flatten().tolist())
        assert (row.nonzeros, row.inputs) == (nonzeros, a.numel())
        assert row.input_density == nonzeros / a.numel()
    # The Spikformer formula: the operand that is spikes, the first if both or none are.
    second = row.input_kind == "REAL" and row.weight_kind != "REAL"
    spikes, letters = (b, right) if second else (a, left)
    if len(set(letters)) == len(letters):
        density = sum(value != 0 for value in spikes.flatten().tolist()) / spikes.numel()
        assert row.rate_synops == pytest.approx(density * expected.dense, rel=1e-12)
    if row.input_kind == "INTEGER":
        assert row.unrolled_synops == expected.unrolled
    elif row.input_kind == "REAL":
        assert row.unrolled_synops is None
    else:
        assert row.unrolled_synops == row.synops


VALUES = {
    "BINARY": [0.0, 1.0],
    "TERNARY": [-1.0, 0.0, 1.0],
    "INTEGER": [0.0, 1.0, 2.0, 3.0],
    "REAL": None,
}


def draw(kind: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    levels = VALUES[kind]
    if levels is None:
        return ((x - 0.3).clamp(min=0) * math.pi).to(dtype)
    return torch.tensor(levels)[(x * len(levels)).long()].to(dtype)


# --- models ---


class SelfAttention(nn.Module):
    """Spiking self-attention without softmax, T steps in a loop."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def spikes(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype).unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def step(self, x: Tensor) -> Tensor:
        q, k, v = (self.spikes(layer(x)) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1)
        out = scores @ v
        return self.proj((out.transpose(-3, -2).flatten(-2) > 1).to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:  # [T, B, N, D]
        return torch.stack([self.step(step) for step in x])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = SelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x)


class Weighted(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.w = nn.Parameter(torch.tensor([[0.5, -0.5, 0.0], [0.5, 0.0, 0.0]] * 2))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)

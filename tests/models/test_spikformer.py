"""Spikformer: published sizes, spiking self-attention by enumeration, kinds of spikes."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.models import create, nominal_macs, usual
from snnprof.models.spikformer import SpikingSelfAttention, spikformer_2_384
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron import Neuron


def lif(channels: int, *, second: bool = False) -> Neuron:
    return LIF(2)


@pytest.mark.parametrize(
    ("name", "published"),
    # millions, as published: truncated to two decimals, but the last, which is rounded
    [
        ("spikformer_4_256", "4.15"),
        ("spikformer_2_384", "5.76"),
        ("spikformer_4_384", "9.32"),
        ("spikformer_8_384", "16.81"),
        ("spikformer_8_512", "29.68"),
        ("spikformer_8_768", "66.34"),
    ],
)
def test_parameters(name: str, published: str) -> None:
    depth, dim = map(int, name.split("_")[1:])
    imagenet = depth == 8
    # Patch splitting 3 - dim/8 - dim/4 - dim/2 - dim and the position, without bias, each
    # with a batch norm of two parameters per channel.
    widths = [3, dim // 8, dim // 4, dim // 2, dim, dim]
    stem = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    # q, k, v and the projection: dim*dim; MLP: dim*4dim and 4dim*dim. Biases of all (those
    # of q, k, v for CIFAR only), batch norms of 4 * dim + 4dim + dim channels.
    weights = 4 * dim * dim + 2 * 4 * dim * dim
    biases = dim + 4 * dim + dim + (0 if imagenet else 3 * dim)
    block = weights + biases + 2 * (4 + 4 + 1) * dim
    classes = 1000 if imagenet else 10
    expected = stem + depth * block + (dim + 1) * classes
    with torch.device("meta"):
        network = usual(name)
    assert sum(p.numel() for p in network.parameters()) == expected
    millions = round(expected / 1e6, 2) if name == "spikformer_8_768" else expected // 10**4 / 100
    assert f"{millions:.2f}" == published


def test_macs_of_4_384_by_hand() -> None:
    # 32x32 for the first three convolutions, 16x16 and 8x8 after a pooling each
    patches = 9 * (3 * 48 * 1024 + 48 * 96 * 1024 + 96 * 192 * 1024 + 192 * 384 * 256)
    position = 9 * 384 * 384 * 64
    tokens = 64
    linear = tokens * 12 * 384 * 384  # q, k, v, projection: 4; MLP: 2 * 4
    products = 2 * tokens * tokens * 384  # q k^T and (q k^T) v, over all heads
    expected = patches + position + 4 * (linear + products) + 384 * 10
    assert nominal_macs("spikformer_4_384") == expected


def test_macs_of_8_512_by_hand() -> None:
    # 224x224, and a pooling after each convolution: 14x14 = 196 tokens
    stem = 9 * 3 * 64 * 224**2
    assert stem == 86_704_128  # the published 86.7 M
    patches = 9 * (64 * 128 * 112**2 + 128 * 256 * 56**2 + 256 * 512 * 28**2)
    position = 9 * 512 * 512 * 14**2
    block = 196 * 12 * 512 * 512 + 2 * 196 * 196 * 512
    assert nominal_macs("spikformer_8_512") == stem + patches + position + 8 * block + 512 * 1000


def enumerate_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Iterator[Tensor]:
    """Column by column of one step and sample, [C, N]: scale * sum_m (sum_c q_n k_m) v_m."""
    channels, tokens = q.shape
    width = channels // heads
    for n in range(tokens):
        column = torch.zeros(channels, dtype=q.dtype)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for m in range(tokens):
                meet = sum(q[c, n] * k[c, m] for c in range(part.start, part.stop))
                column[part] += 0.125 * meet * v[part, m]
        yield column


def test_attention_equals_enumeration() -> None:
    torch.manual_seed(0)
    heads, channels, tokens = 3, 12, 5
    attention = SpikingSelfAttention(channels, heads, True, lif)
    seen: dict[str, Tensor] = {}
    for name in ("q", "k", "v"):
        layer = attention.get_submodule(name)
        nn.init.ones_(layer.norm.bias)  # about half of the neurons fire
        layer.register_forward_hook(lambda _, given, out, name=name: seen.update({name: out}))
    attention.neuron.register_forward_pre_hook(lambda _, given: seen.update({"mixed": given[0]}))
    spikes = (torch.rand(2, 4, channels, tokens) > 0.6).float()
    assert attention(spikes).shape == spikes.shape
    assert (seen["mixed"] > 1).any()
    for step in range(2):
        for sample in range(4):
            q, k, v = (seen[name][step, sample].detach() for name in ("q", "k", "v"))
            expected = torch.stack(list(enumerate_attention(q, k, v, heads)), dim=1)
            assert torch.equal(seen["mixed"][step, sample], expected)  # eighths: exact


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(snnprof.SnnprofError, match="heads=5 do not divide 12 channels"):
        SpikingSelfAttention(12, 5, True, lif)


def test_kinds_of_spikes() -> None:
    torch.manual_seed(0)
    network = create("spikformer_2_384", timesteps=2, image_size=16)
    with torch.no_grad(), snnprof.SopCounter(network, layers=("conv", "linear")) as counter:
        network(torch.randn(2, 3, 16, 16))
    kinds = {row.name: row.input_kind for row in counter.result().rows}
    assert kinds["patches.0.0"] == "REAL"
    assert kinds["position.0.0"] == "BINARY"
    for block in range(2):
        for name in ("attention.q", "attention.k", "attention.v", "mlp.0"):
            assert kinds[f"blocks.{block}.{name}.linear"] == "INTEGER"  # sums of spikes
        for name in ("attention.project", "mlp.1"):
            assert kinds[f"blocks.{block}.{name}.linear"] == "BINARY"


def test_the_last_neuron_of_each_branch_is_a_second_one() -> None:
    asked: list[bool] = []

    def make_neuron(channels: int, *, second: bool = False) -> Neuron:
        asked.append(second)
        return LIF(1)

    spikformer_2_384(make_neuron, 1, 10, 3, 8)
    # patches 4, position 1; per block q, k, v, after the attention, projection, MLP twice
    assert asked == [False] * 5 + 2 * [False, False, False, False, True, False, True]

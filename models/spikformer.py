"""Spikformer: a vision transformer whose queries, keys and values are spikes.

Patch splitting (four convolutions and max poolings) makes tokens of the image; a 3x3
convolution adds their relative position. Each block is spiking self-attention and a
two-layer perceptron, both added to their input: tokens are spikes of 0, 1, 2, ... Tokens are
[T, B, C, N] between layers.

Spikformer-L-D has L blocks of width D. Two forms: CIFAR's pools after the last two
convolutions (an image of 32 pixels makes 64 tokens) and its queries, keys and values have a
bias; ImageNet's pools after all four (224 pixels, 196 tokens) and they have none. That of
4-384 is 12 heads, of 8-512 8 heads (the authors' code); for the others the code names none,
and 12 are taken for the widths 384 of CIFAR and 768, 8 for the rest. The number changes
neither parameters nor MACs.

Two differences from the authors' code. Their neuron after the attention has half the
threshold of the others; here all neurons are alike. And theirs multiplies, for ImageNet,
q (k^T v), which gives the same values by fewer MACs; here it is (q k^T) v as in the paper.

Zhou et al., Spikformer: when spiking neural network meets transformer, ICLR 2023.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import PerStep, SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker

SCALE = 0.125  # of q k^T v, whatever the width of a head
MLP_RATIO = 4


class TokenLinear(nn.Module):
    """A linear layer over the channels of [T, B, C, N], batch norm and neuron.

    Args:
        channels, width: of input and output.
        make_neuron: makes one layer of neurons.
        bias: of the linear layer.
        second: True for the last neuron of a residual branch.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        make_neuron: NeuronMaker,
        bias: bool = True,
        second: bool = False,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width, bias=bias)
        self.norm = nn.BatchNorm1d(width)
        self.neuron = make_neuron(width, second=second)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.linear(x.flatten(0, 1).transpose(-1, -2))
        current: Tensor = self.norm(merged.transpose(-1, -2))
        out: Tensor = self.neuron(current.unflatten(0, x.shape[:2]))
        return out


class SpikingSelfAttention(nn.Module):
    """SSA(x) = neuron(BN(linear(neuron((q k^T) v * scale)))): spikes, and no softmax.

    Args:
        dim: channels of a token.
        heads: they share the channels evenly.
        qkv_bias: whether the layers that make q, k and v have a bias.
        make_neuron: makes one layer of neurons.

    Raises:
        SnnprofError: the heads do not divide the channels.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool, make_neuron: NeuronMaker) -> None:
        super().__init__()
        if dim % heads:
            fitting = ", ".join(str(n) for n in range(1, dim + 1) if dim % n == 0)
            raise SnnprofError(f"heads={heads} do not divide {dim} channels; these do: {fitting}")
        self.heads = heads
        self.q = TokenLinear(dim, dim, make_neuron, bias=qkv_bias)
        self.k = TokenLinear(dim, dim, make_neuron, bias=qkv_bias)
        self.v = TokenLinear(dim, dim, make_neuron, bias=qkv_bias)
        self.neuron = make_neuron(dim)
        self.project = TokenLinear(dim, dim, make_neuron, second=True)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(-2, -1)) @ v * SCALE
        out: Tensor = self.project(self.neuron(mixed.transpose(-1, -2).flatten(2, 3)))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """[T, B, C, N] to [T, B, heads, N, C / heads]."""
        split: Tensor = x.unflatten(2, (self.heads, -1)).transpose(-1, -2)
        return split


class Block(nn.Module):
    """x + SSA(x), then x + MLP(x); the spikes add up.

    Args:
        dim, heads, qkv_bias, make_neuron: as :class:`SpikingSelfAttention`.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool, make_neuron: NeuronMaker) -> None:
        super().__init__()
        hidden = MLP_RATIO * dim
        self.attention = SpikingSelfAttention(dim, heads, qkv_bias, make_neuron)
        self.mlp = nn.Sequential(
            TokenLinear(dim, hidden, make_neuron),
            TokenLinear(hidden, dim, make_neuron, second=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        out: Tensor = x + self.mlp(x)
        return out


class Spikformer(SpikingNetwork):
    """Patch splitting, position, blocks, mean over the tokens, a linear head.

    The neuron that the parallel variant replaces is the last of each residual branch.

    Args:
        depth: blocks.
        dim: channels of a token.
        heads: of the attention.
        poolings: of the patch splitting, after the last so many of four convolutions.
        qkv_bias: whether the layers that make q, k and v have a bias.
        make_neuron: makes one layer of neurons.
        timesteps: T.
        num_classes, in_channels, image_size: outputs and input.

    Raises:
        SnnprofError: the image does not divide into tokens.
    """

    def __init__(
        self,
        depth: int,
        dim: int,
        heads: int,
        poolings: int,
        qkv_bias: bool,
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        super().__init__(
            timesteps, (in_channels, image_size, image_size), ("patches.0.0", "head.0")
        )
        patch = 2**poolings
        if image_size % patch:
            least = max(image_size // patch * patch, patch)
            raise SnnprofError(
                f"image_size={image_size} does not divide into patches of {patch} pixels: give "
                f"a multiple of {patch}, {least} say"
            )
        widths = (dim // 8, dim // 4, dim // 2, dim)
        channels = in_channels
        layers: list[nn.Module] = []
        for place, width in enumerate(widths):
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers += [PerStep(convolution, nn.BatchNorm2d(width)), make_neuron(width)]
            if place >= len(widths) - poolings:
                layers.append(PerStep(nn.MaxPool2d(3, stride=2, padding=1)))
            channels = width
        self.patches = nn.Sequential(*layers)
        convolution = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.position = nn.Sequential(
            PerStep(convolution, nn.BatchNorm2d(dim)),
            make_neuron(dim),
        )
        self.blocks = nn.Sequential(
            *(Block(dim, heads, qkv_bias, make_neuron) for _ in range(depth))
        )
        self.head = PerStep(nn.Linear(dim, num_classes))

    def run_steps(self, x: Tensor) -> Tensor:
        patches = self.patches(x)
        tokens = (patches + self.position(patches)).flatten(-2)
        out: Tensor = self.head(self.blocks(tokens).mean(-1))
        return out


CIFAR = (2, True)  # poolings, bias of q, k and v
IMAGENET = (4, False)
spikformer_4_256 = partial(Spikformer, 4, 256, 8, *CIFAR)
spikformer_2_384 = partial(Spikformer, 2, 384, 12, *CIFAR)
spikformer_4_384 = partial(Spikformer, 4, 384, 12, *CIFAR)
spikformer_8_384 = partial(Spikformer, 8, 384, 8, *IMAGENET)
spikformer_8_512 = partial(Spikformer, 8, 512, 8, *IMAGENET)
spikformer_8_768 = partial(Spikformer, 8, 768, 12, *IMAGENET)

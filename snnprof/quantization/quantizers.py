"""1-bit and 1.5-bit weights: the formulas, their gradients, and the parametrisation.

A layer keeps its latent weight W, which the optimiser moves, and computes with a quantised
one. Scales are summed in float64 and rounded once to W's type. Thus a weight that is
quantised already quantises to itself, to the last bit, which is what lets
:func:`snnprof.unpack` restore a network from signs and scales alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.registry import Registry

TERNARY_THRESHOLD = 0.7  # times the mean magnitude: Ternary weight networks, Eq. 6


@dataclass(frozen=True)
class Channels:
    """Where the output channels of a weight are.

    Attributes:
        transposed: False: dimension 0. True (transposed convolution): dimension 1, anew for
            each group of rows of dimension 0.
        groups: of a transposed convolution; 1 otherwise, where it makes no difference.
    """

    transposed: bool = False
    groups: int = 1

    def split(self, weight: Tensor) -> Tensor:
        """The weight as [groups, rows, C_out / groups, taps]: channels in dimensions 0, 2."""
        if self.transposed:
            by_group: Tensor = weight.flatten(2).unflatten(0, (self.groups, -1))
            return by_group
        return weight.flatten(1)[None, None]

    def count(self, shape: tuple[int, ...]) -> int:
        """C_out of a weight of this shape."""
        return shape[1] * self.groups if self.transposed else shape[0]


def binarise(weight: Tensor, channels: Channels) -> Tensor:
    """W_b = alpha_o * sign(W) with alpha_o = mean |W_o| per output channel o; sign(0) = +1.

    Args:
        weight: latent weight, [C_out, ...] or [C_in, C_out / groups, ...].
        channels: which of the two.

    Source: Guo et al., BNext, arXiv 2211.12933; the scale as in XNOR-Net, arXiv 1603.05279.
    """
    by_channel = channels.split(weight)
    scale = by_channel.abs().mean((1, 3), keepdim=True, dtype=torch.float64).to(weight.dtype)
    # Adding 0 makes -0 positive; copysign is ten times as fast as torch.where on the CPU.
    return torch.copysign(scale, by_channel + 0.0).reshape(weight.shape)


def ternarise(weight: Tensor, channels: Channels | None = None) -> Tensor:
    """W_t = alpha * sign(W) * 1[|W| > Delta], Delta = 0.7 * mean |W|, one alpha per layer.

    alpha is the mean of |W| over |W| > Delta, 0 where there is none. If any W is NaN or
    infinite, every W_t is NaN: a training that diverged must not look like zeros.

    Args:
        weight: latent weight, any shape.
        channels: not used; all schemes are called alike.

    Source: Li et al., Ternary weight networks, arXiv 1605.04711, Eqs. 3, 5, 6.
    """
    magnitude = weight.abs()
    threshold = TERNARY_THRESHOLD * magnitude.mean(dtype=torch.float64)
    # One-dimensional, so that the comparison is made in float64, without rounding Delta.
    kept = magnitude > threshold.reshape(1)
    shrunk = weight * kept  # not torch.where: NaN and infinity times 0 are NaN
    total = shrunk.abs().sum(dtype=torch.float64)
    scale = (total / kept.sum().clamp_min(1)).to(weight.dtype)
    return shrunk.sign_().mul_(scale)


def clipped(weight: Tensor) -> Tensor:
    """A latent weight held to [-1, 1], as the HD-LIF authors' code has it before it ternarises.

    Infinity becomes NaN: a training that diverged must not look like ones.
    """
    return torch.where(weight.isinf(), torch.nan, weight.clamp(-1, 1))


def within_one(weight: Tensor) -> Tensor:
    """1[|W| <= 1]: where the gradient of a 1-bit weight passes to W, unscaled."""
    return weight.abs() <= 1


def inside_one(weight: Tensor) -> Tensor:
    """1[|W| < 1]: where the gradient of a 1.5-bit weight passes to W, unscaled."""
    return weight.abs() < 1


@dataclass(frozen=True)
class Scheme:
    """A way to quantise a weight.

    Attributes:
        bits: that its name claims per weight.
        quantise: the weight that the layer computes with, from the latent one.
        passes: bool, the weight's shape: where the gradient goes straight through.
    """

    bits: float
    quantise: Callable[[Tensor, Channels], Tensor]
    passes: Callable[[Tensor], Tensor]


SCHEMES: Registry[Scheme] = Registry("weight scheme")
SCHEMES.register("1bit")(Scheme(1.0, binarise, within_one))
SCHEMES.register("1.5bit")(Scheme(1.5, ternarise, inside_one))


class _StraightThrough(torch.autograd.Function):
    """The quantised weight; its gradient goes to the latent one where the scheme lets it.

    The backward pass keeps one byte per weight.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, scheme: Scheme, channels: Channels) -> Tensor:
        return scheme.quantise(weight, channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Scheme, Channels], output: Tensor) -> None:
        weight, scheme, _ = inputs
        ctx.save_for_backward(scheme.passes(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (passes,) = ctx.saved_tensors
        return torch.where(passes, grads[0], 0), None, None


def straight_through(weight: Tensor, scheme: Scheme, channels: Channels) -> Tensor:
    """The quantised weight, differentiable with respect to the latent one.

    Args:
        weight: latent weight.
        scheme: of ``SCHEMES``.
        channels: where its output channels are.

    Returns:
        A tensor of the weight's shape and type. Where no gradient can be asked for, nothing
        is kept for one.
    """
    if torch.is_grad_enabled() and weight.requires_grad:
        out: Tensor = _StraightThrough.apply(weight, scheme, channels)  # type: ignore[no-untyped-call]
        return out
    return scheme.quantise(weight, channels)


class Quantiser(nn.Module):
    """The parametrisation that :func:`snnprof.quantize` puts on a layer's weight.

    Args:
        scheme: a name in ``SCHEMES``.
        channels: where the weight's output channels are.
        clip: the latent weight is held to [-1, 1] first, see :func:`clipped`.
    """

    def __init__(self, scheme: str, channels: Channels, clip: bool = False) -> None:
        super().__init__()
        self.scheme = scheme
        self.channels = channels
        self.clip = clip

    def forward(self, weight: Tensor) -> Tensor:
        """The quantised weight of a latent one."""
        latent = clipped(weight) if self.clip else weight
        return straight_through(latent, SCHEMES.find(self.scheme), self.channels)

    def extra_repr(self) -> str:
        """Shown when the model is printed."""
        return f"{self.scheme}, clipped" if self.clip else self.scheme

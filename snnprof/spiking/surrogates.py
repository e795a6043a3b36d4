"""Surrogate gradients: what is taken for the derivative of the spike's step function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnprof.core.registry import Registry

# From the distance d = membrane - threshold (which it may overwrite) to dH/dd.
Slope = Callable[[Tensor], Tensor]
SURROGATES: Registry[Slope] = Registry("surrogate")


@SURROGATES.register("triangle")
def triangle(distance: Tensor) -> Tensor:
    """max(0, 1 - |d|).

    Source: Deng et al., Temporal efficient training, ICLR 2022; width 1 as in the HD-LIF
    authors' LIF baseline.
    """
    return distance.abs_().neg_().add_(1).clamp_min_(0)


@SURROGATES.register("rectangle")
def rectangle(distance: Tensor) -> Tensor:
    """1 where |d| < 1/2, else 0.

    Source: Wu et al., Spatio-temporal backpropagation, Frontiers in Neuroscience 2018, h1 of
    width 1.
    """
    return (distance.abs_() < 0.5).to(distance.dtype)


@SURROGATES.register("arctan")
def arctan(distance: Tensor) -> Tensor:
    """1 / (1 + (pi d)^2), the derivative of arctan(pi d) / pi.

    Source: Fang et al., Incorporating learnable membrane time constant, ICCV 2021.
    """
    return distance.mul_(math.pi).square_().add_(1).reciprocal_()


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, slope: Slope) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.slope = slope
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return grads[0] * ctx.slope(distance.clone()), None


def surrogate_spike(distance: Tensor, surrogate: str = "triangle") -> Tensor:
    """H(d), 1 where d >= 0, with the surrogate's derivative.

    Args:
        distance: membrane minus threshold, any shape.
        surrogate: one of :data:`SURROGATES`.

    Raises:
        SnnprofError: unknown surrogate.
    """
    spike: Tensor = _Spike.apply(distance, SURROGATES.find(surrogate))  # type: ignore[no-untyped-call]
    return spike

"""The spike and its surrogate gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _TriangleSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.width = width
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        slope = (1 - distance.abs() / ctx.width).clamp_min(0) / ctx.width
        return grads[0] * slope, None


def triangle_spike(distance: Tensor, width: float = 1.0) -> Tensor:
    """H(d), with dH/dd taken as max(0, 1 - |d| / width) / width.

    Args:
        distance: membrane minus threshold, any shape.
        width: half the base of the triangle.

    Source: Deng et al., Temporal efficient training, ICLR 2022; width 1 as the HD-LIF
    authors' LIF baseline.
    """
    spike: Tensor = _TriangleSpike.apply(distance, width)  # type: ignore[no-untyped-call]
    return spike

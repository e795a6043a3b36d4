"""A neuron that is not ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEAK = 0.5


class Spike(torch.autograd.Function):
    """H(x - 1), with a gradient of 1 everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x >= 1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def charge(state: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """Spike and membrane after a soft reset."""
    m = x if state is None else LEAK * state + x
    s: Tensor = Spike.apply(m)
    return s, m - s


class Remembering(nn.Module):
    """A single-step neuron of a user's own, with the state in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        spikes, self.state = charge(self.state, x)
        return spikes

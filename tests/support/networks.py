"""Networks as public code writes them, in every layout, with neurons of nobody's library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .neurons import charge


class Spikes(nn.Module):
    """A layer of neurons over [T, B, ...], or [B, T, ...] with ``dim=1``, from rest."""

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        state, outs = None, []
        for current in x.unbind(self.dim):
            spikes, state = charge(state, current)
            outs.append(spikes)
        return torch.stack(outs, self.dim)


class Keeping(nn.Module):
    """A layer of neurons [B, ...] that keeps its membrane between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.membrane: Tensor | None = None

    def reset(self) -> None:
        self.membrane = None

    def forward(self, x: Tensor) -> Tensor:
        spikes, self.membrane = charge(self.membrane, x)
        return spikes


def layers(features: int, classes: int) -> tuple[nn.Linear, nn.Linear]:
    """The same weights for every network of these sizes."""
    torch.manual_seed(3)
    return nn.Linear(features, 16), nn.Linear(16, classes)


class Net(nn.Module):
    """Two linear layers with neurons between.

    Args:
        neurons: between the layers.
        features, classes: in and out.
    """

    def __init__(self, neurons: nn.Module, features: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.first, self.second = layers(features, classes)
        self.neurons = neurons

    def body(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.neurons(self.first(x)))
        return out

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


class Step(Net):
    """[B, features] to [B, classes], called T times."""

    def __init__(self, features: int = 6, classes: int = 3) -> None:
        super().__init__(Keeping(), features, classes)


class TimeFirst(Net):
    """[T, B, features] to [T, B, classes]."""

    def __init__(self, features: int = 6, classes: int = 3) -> None:
        super().__init__(Spikes(0), features, classes)


class BatchFirst(Net):
    """[B, T, features] to [B, T, classes]."""

    def __init__(self, features: int = 6, classes: int = 3) -> None:
        super().__init__(Spikes(1), features, classes)


class AveragingTimeFirst(TimeFirst):
    """[T, B, features] to [B, classes]."""

    def forward(self, x: Tensor) -> Any:
        return self.body(x).mean(0)


class AveragingBatchFirst(BatchFirst):
    """[B, T, features] to [B, classes]."""

    def forward(self, x: Tensor) -> Any:
        return self.body(x).mean(1)


class RepeatInside(TimeFirst):
    """[B, features] to [B, classes]: the image is repeated T times in forward."""

    def __init__(self, timesteps: int = 4, features: int = 6, classes: int = 3) -> None:
        super().__init__(features, classes)
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Any:
        return self.body(x.unsqueeze(0).repeat(self.timesteps, *[1] * x.dim())).mean(0)


class LoopInside(nn.Module):
    """[B, features] to (spikes [T, B, classes], membranes): states are made in forward."""

    def __init__(self, timesteps: int = 4, features: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.first, self.second = layers(features, classes)
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Any:
        state, spikes, states = None, [], []
        for _ in range(self.timesteps):
            fired, state = charge(state, self.first(x))
            spikes.append(self.second(fired))
            states.append(state)
        return torch.stack(spikes), torch.stack(states)

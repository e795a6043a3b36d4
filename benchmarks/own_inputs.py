"""Loaders of every kind for small networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from own_neurons import CLASSES, T
from torch import Tensor

BATCH = 6  # samples of the training batch
Make = Callable[[int], Tensor | None]


def classes(batch: int) -> Tensor:
    return torch.arange(batch) % CLASSES


def soft(batch: int) -> Tensor:
    return F.one_hot(classes(batch), CLASSES) * 0.8 + 0.2 / CLASSES


def pixels(batch: int) -> Tensor:
    return torch.randint(0, CLASSES, (batch, 8, 8))


def values(batch: int) -> Tensor:
    return torch.randn(batch, CLASSES)


@dataclass(frozen=True)
class Given:
    """What a loader gives.

    Attributes:
        shape: of a sample at one time step.
        time: where T stands in a batch: 0, 1, or None for nowhere.
        labels: of so many samples; None for the inputs themselves.
        tokens: whole numbers below 20 rather than numbers from 0 to 1.
        binary: events.
        test: samples of the test batches.
        repeated: the loader repeats its images itself.
    """

    shape: tuple[int, ...] = (1, 8, 8)
    time: int | None = None
    labels: Make | None = classes
    tokens: bool = False
    binary: bool = False
    test: tuple[int, ...] = (6, 5)
    repeated: bool = False

    @property
    def samples(self) -> int:
        return sum(self.test)

    def batch(self, size: int) -> tuple[Tensor, Any]:
        leading = {None: (size,), 0: (T, size), 1: (size, T)}[self.time]
        shape = (*leading, *self.shape)
        x = torch.randint(0, 20, shape) if self.tokens else torch.rand(shape)
        x = (x < 0.2).float() if self.binary else x
        if self.repeated:
            x = x[:1].expand(T, *x.shape[1:])
        return x, x if self.labels is None else self.labels(size)

    def loaders(self) -> dict[str, list[tuple[Tensor, Any]]]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return {"train": [self.batch(BATCH)], "test": [self.batch(size) for size in self.test]}

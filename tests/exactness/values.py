"""Pools of values for inputs and weights, of every kind and at its borders."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

_UP = 1 + 2.0**-23  # the next number of float32
INPUTS: tuple[list[float], ...] = (
    [1.0],
    [0.7],
    [3.0],
    [1e-3],
    [2.0**-20],
    [1.0, -1.0],
    [0.3, -0.3],
    [-0.5],
    [1.0, 2.0, 3.0],
    [2.0, 3.0],
    [3.0, 5.0, -7.0],
    [2.0, 4.0],
    [1.0, 64.0],
    [1.0, 65.0],
    [2.0, 64.0, 33.0],
    [0.5, 1.5],
    [1.5, 1.0, -2.0],
    [0.25, 1.0, 0.75],
    [1 / 1024, 3 / 1024],
    [2 / 2048, 3 / 2048],
    [1 / 2048, 3 / 2048],
    [1.0, 1 + 1 / 128],
    [0.3, 0.6, 0.9],
    [0.3, 3 * 0.3, 0.1 + 0.2],
    [0.6, 0.9],
    [1.0, 2.0, 1.7],
    [1.5, 0.6, 0.9],
    [1 / 3, 2 / 3, 1.0],
    [0.7, 1.4, -2.1],
    [1.0, _UP],
    [1.0, 1 + 2.0**-20],
    [1.0, 1 + 2.0**-20 + 2.0**-23],
    [1.0, 1 + 2.0**-21, 3.0],
    [1.0, 3 + 2.0**-18],
    [1.0, 1 + 2.0**-40],
    [1.0, 1 + 2.0**-39],
    [1.0, 0.99991],
    [1.0, 2.0, 2.001],
    [100.0, 200.0, 300.0],
    [200.0, 300.0],
)
SPECKS = (1.0, 2.0, 1.5, 1.7, 0.6, 0.9, 0.3, -1.0, 0.99991, 65.0, 1 / 1024, 0.1, 100.0)


def pool(choose: random.Random) -> list[float] | None:
    """Values with zeros among them; None for reals."""
    kind = choose.random()
    if kind < 0.12:
        return None
    if kind < 0.17:
        return [0.0]
    if kind < 0.3:  # multiples of any unit, each rounded by itself
        unit = choose.choice([1.0, 0.1, 0.37, math.pi, 2.0**-7, choose.random() + 0.01])
        most = choose.choice([3, 8, 70])
        values = [choose.randint(1, most) * unit * choose.choice([1, 1, -1]) for _ in range(4)]
    elif kind < 0.55:
        values = [choose.choice([1.0, 0.7, 1.0, 3.0])]
    else:
        values = list(choose.choice(INPUTS))
    return [*values, *[0.0] * choose.choice([0, 1, len(values), 3 * len(values)])]


def rare_values(choose: random.Random) -> list[tuple[int, int, float]]:
    """Values for one place of one call."""
    if choose.random() < 0.75:
        return []
    number = choose.choice([1, 1, 2, 3])
    return [
        (choose.randrange(3), choose.randrange(997), choose.choice(SPECKS)) for _ in range(number)
    ]


WEIGHTS: tuple[list[float], ...] = (
    [1.0],
    [1.0, -1.0],
    [1.0, -1.0, 0.0],
    [1.0, 0.0],
    [0.0],
    [1.0, 2.0, -3.0, 0.0],
    [2.0, 3.0],
    [0.5, 1.5, -1.0],
    [1.0, 1.5],
    [64.0, 1.0],
    [65.0, 1.0],
)


def fill(choose: random.Random, shape: tuple[int, ...], groups: int, dtype: torch.dtype) -> Tensor:
    """A weight of this shape; ``groups`` of a transposed convolution, else 0."""
    if choose.random() < 0.4:
        weight = torch.randn(shape, dtype=torch.float64)
        weight *= torch.rand(shape) >= choose.choice([0.0, 0.3, 0.8])
    else:
        values = torch.tensor(choose.choice(WEIGHTS), dtype=torch.float64)
        weight = values[torch.randint(len(values), shape)]
    dim = 1 if groups else 0  # of the output channels
    if choose.random() < 0.4:
        scale = 0.05 + torch.rand(shape[: dim + 1], dtype=torch.float64)
        if groups:  # one for each output channel of each group
            per_group = shape[0] // groups
            scale = scale[:groups].repeat_interleave(per_group, 0)
        weight *= scale.view(*scale.shape, *[1] * (len(shape) - dim - 1))
    if choose.random() < 0.2:
        weight.select(dim, choose.randrange(shape[dim])).zero_()
    return weight.to(dtype)

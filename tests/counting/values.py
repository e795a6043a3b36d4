"""Tensors of chosen kinds."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(values: list[float], shape=(6, 16), seed: int = 0, dtype=torch.float32) -> Tensor:
    """Random draws of ``values``, each at least once."""
    index = torch.randint(len(values), shape, generator=torch.Generator().manual_seed(seed))
    index.view(-1)[: len(values)] = torch.arange(len(values))
    return torch.tensor(values, dtype=dtype)[index]


def reals(shape=(6, 16), seed: int = 0, dtype=torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

SIGNS = choose([-1.0, 1.0], shape=(5, 12), seed=3)
TERNARY = choose([-1.0, 0.0, 1.0], shape=(5, 12), seed=4)
ALPHA = torch.tensor([0.1, 0.37, 1.0, 2.5, 0.0123]).unsqueeze(1)

"""Types and places of tensors that are read."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def as_float(x: Tensor) -> Tensor:
    """x in a type that holds every small whole number: float32 or float64."""
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.float() if x.is_floating_point() else x.double()


@lru_cache(maxsize=32)
def rounding(dtype: torch.dtype) -> float:
    """Relative rounding error of numbers of this type; 0 for whole numbers."""
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


def on_host(x: Tensor) -> bool:
    """True if the numbers are in the host's memory, where numpy reads one without waiting."""
    return x.device.type == "cpu"

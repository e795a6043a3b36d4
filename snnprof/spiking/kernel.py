"""Running a neuron's time steps as one operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def run_kernel(kernel: type[torch.autograd.Function], *operands: Any) -> Any:
    """``kernel.apply(*operands)``, one operation to whoever watches torch functions.

    A watcher (a counter, for one) costs microseconds of Python at each function it sees, and a
    kernel has some twenty, none of which multiplies by a weight: inside, nobody watches. A
    tensor of a class of its own watches itself, and is left to.
    """
    if torch.compiler.is_compiling():  # which makes one operation of it anyway
        return kernel.apply(*operands)
    if any(isinstance(x, Tensor) and type(x) is not Tensor for x in operands):
        return kernel.apply(*operands)
    with torch._C.DisableTorchFunction():
        return kernel.apply(*operands)

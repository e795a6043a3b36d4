"""Losses of a spiking network's outputs over time, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry

# (outputs of the network, targets) -> scalar
Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register("sum")
def of_the_sum(outputs: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the outputs summed over time: what mode ``stbp`` trains on.

    Args:
        outputs: [T, B, classes].
        target: [B].

    Raises:
        SnnprofError: outputs or targets of another shape.
    """
    _check(outputs, target)
    return F.cross_entropy(outputs.sum(0), target)


@LOSSES.register("per-step")
def per_step(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean over time of the cross-entropy of each output: what mode ``online`` trains on.

    Args:
        outputs: [T, B, classes].
        target: [B].

    Raises:
        SnnprofError: outputs or targets of another shape.
    """
    _check(outputs, target)
    steps = len(outputs)
    return F.cross_entropy(outputs.flatten(0, 1), target.repeat(steps))


def _check(outputs: Tensor, target: Tensor) -> None:
    if not isinstance(outputs, Tensor) or outputs.dim() != 3:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise SnnprofError(
            f"the network returned {shape}, not [T, B, classes]: give loss=function(outputs, y)"
        )
    if target.dim() != 1 or len(target) != outputs.shape[1] or target.is_floating_point():
        raise SnnprofError(
            f"y of shape {tuple(target.shape)} ({target.dtype}): must be {outputs.shape[1]} class "
            "numbers, one per sample"
        )
    classes = outputs.shape[2]
    if not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise SnnprofError(
            f"y goes from {int(target.min())} to {int(target.max())}: the network "
            f"has classes 0 to {classes - 1}"
        )

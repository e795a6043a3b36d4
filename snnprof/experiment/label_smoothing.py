"""Label smoothing: a share of each label goes to all classes alike."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError


def check_smoothing(smoothing: float) -> None:
    """Raise SnnprofError for a share that is none."""
    if not 0 <= smoothing < 1:
        raise SnnprofError(f"label_smoothing={smoothing}: must be 0 or more, and below 1")


def smooth_labels(labels: Any, smoothing: float, classes: int) -> Tensor:
    """(1 - s) * label + s / classes, so that each row still sums to 1 (Szegedy et al., 2016).

    Linear in the labels: smoothed before they are mixed or after, they are the same.

    Args:
        labels: classes, [B], or shares of classes, [B, classes].
        smoothing: s, from 0 to below 1.
        classes: how many there are.

    Returns:
        [B, classes].

    Raises:
        SnnprofError: labels of another kind.
    """
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if whole and labels.dim() == 1:
        labels = F.one_hot(labels, classes)
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.shape[1] != classes:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise SnnprofError(
            f"label_smoothing={smoothing}: labels are {found}; it needs classes [B] or shares "
            f"[B, {classes}]: give label_smoothing=0"
        )
    shares = labels if labels.is_floating_point() else labels.float()
    return (1 - smoothing) * shares + smoothing / classes

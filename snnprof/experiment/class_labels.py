"""How many classes there are, by labels or by what their data set says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnprof.training.losses import is_indicator


def number_of_classes(source: object, y: Any) -> tuple[int | None, bool]:
    """Number of classes (or of values), and whether the first batch alone tells it."""
    if not isinstance(y, Tensor):
        return None, False
    if y.is_floating_point():
        return (1 if y.dim() == 1 else y.shape[1]), False
    named = getattr(source, "classes", None)
    if isinstance(named, Sequence):
        return len(named), False
    if is_indicator(y):
        return y.shape[1], False
    labels = _all_labels(source)
    if labels is not None:
        return int(labels.max()) + 1, False
    return int(y.max()) + 1, True


def _all_labels(source: object) -> Tensor | None:
    """All labels, where they lie in memory."""
    targets = getattr(source, "targets", None)
    tensors = getattr(source, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:
        targets = tensors[1]
    if isinstance(source, list) and all(
        isinstance(b, tuple | list) and len(b) == 2 and isinstance(b[1], Tensor) for b in source
    ):
        targets = torch.cat([b[1].flatten() for b in source]) if source else None
    if isinstance(targets, list) and targets and isinstance(targets[0], int):
        targets = torch.tensor(targets)
    whole = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.numel()
    return targets if whole else None

"""The learning rate over the steps of a training, as a factor on the highest."""

from __future__ import annotations

import math


def warmed_up_cosine(step: int, *, warmup: int, steps: int) -> float:
    """The factor at a step: a linear rise over the warm-up, then half a cosine down to 0.

    (step + 1) / warmup before its end; then (1 + cos(pi (step - warmup) / (steps - warmup))) / 2,
    as SGDR without restarts (Loshchilov & Hutter, 2017; Goyal et al., 2017, for the warm-up).

    Args:
        step: from 0; at ``steps`` and beyond, the factor is 0.
        warmup: steps of the warm-up; 0 for none.
        steps: of the whole training.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return (1 + math.cos(math.pi * done)) / 2

"""Layers and time steps as NVTX ranges, for Nsight Systems (``nsys profile``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from snnprof.profiling.layer_ranges import LayerRanges


@contextmanager
def nvtx_range(name: str) -> Iterator[None]:
    """A range of that name, on the timeline of the thread."""
    torch.cuda.nvtx.range_push(name)
    try:
        yield
    finally:
        torch.cuda.nvtx.range_pop()


def mark_steps(
    step: Callable[[], object],
    *,
    name: str,
    model: nn.Module,
    timesteps: int,
    steps_per_call: int = 1,
    steps: int = 3,
) -> None:
    """Run training steps with an NVTX range around each call of a layer, and around each step.

    Args:
        step: one training step.
        name: of the range around each step.
        model, timesteps, steps_per_call: see :class:`LayerRanges`.
        steps: how many.
    """
    with LayerRanges(model, timesteps, steps_per_call, mark=nvtx_range) as ranges:
        for number in range(steps):
            with nvtx_range(f"{name} step {number}"):
                step()
            ranges.next_step()

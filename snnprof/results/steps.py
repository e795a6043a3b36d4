"""Time and memory of training steps."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from snnprof.results.base import Numbered


def quartiles(values: Sequence[float]) -> tuple[float, float, float] | None:
    """First quartile, median, third quartile; None without values."""
    if not values:
        return None
    if len(values) == 1:
        return (values[0],) * 3
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third


@dataclass(frozen=True)
class StepProfile(Numbered):
    """Time and memory of one training step.

    Attributes:
        mode: the training mode.
        device: "cpu" or "cuda".
        batch_size: samples per step.
        timesteps: T.
        forward_s, backward_s, optimizer_s: seconds of the phases (loss and detaching are
            forward, freeing the gradients is the optimiser's), one value per repetition.
        step_s: seconds of the whole step, one value per repetition.
        peak_bytes: most bytes allocated during a step: parameters, buffers, optimiser state
            and inputs included.
        reserved_bytes: most bytes that CUDA's allocator held; None on the CPU.
        static_bytes: parameters, gradients and optimiser state.
        activation_bytes: peak_bytes - static_bytes; buffers and inputs included.
        backward_passes, optimizer_steps: how many the last step took.
    """

    mode: str
    device: str
    batch_size: int
    timesteps: int
    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    optimizer_s: tuple[float, ...]
    step_s: tuple[float, ...]
    peak_bytes: int
    reserved_bytes: int | None
    static_bytes: int
    activation_bytes: int
    backward_passes: int
    optimizer_steps: int

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second at the median step; None where no time has passed."""
        median = statistics.median(self.step_s) if self.step_s else 0.0
        return self.batch_size / median if median else None

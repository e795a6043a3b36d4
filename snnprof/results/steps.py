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


def _per_second(samples: int | None, seconds: Sequence[float]) -> float | None:
    """Samples per second at the median; None where they, or the time, are not known."""
    median = statistics.median(seconds) if seconds else 0.0
    return samples / median if median and samples is not None else None


@dataclass(frozen=True)
class StepProfile(Numbered):
    """Time and memory of one training step.

    Of a step that was only seen from outside (:func:`snnprof.profile`) mode and T are not known,
    and other figures as far as it was told samples, model and optimiser: None, or empty times.

    Attributes:
        mode: the training mode.
        device: "cpu" or "cuda".
        batch_size: samples per step.
        timesteps: T.
        forward_s, backward_s, optimizer_s: seconds of the phases, one value per repetition;
            empty where a phase was not seen. With a mode, loss and detaching are forward, and
            freeing the gradients is the optimiser's. From outside, forward is the model's calls,
            backward begins at the model's output, optimiser is its ``step``; the rest, such as
            the loss, is in no phase.
        step_s: seconds of the whole step, one value per repetition.
        peak_bytes: most bytes allocated during a step: parameters, buffers, optimiser state
            and inputs included.
        reserved_bytes: most bytes that CUDA's allocator held; None on the CPU.
        static_bytes: parameters, gradients and optimiser state.
        activation_bytes: peak_bytes - static_bytes; buffers and inputs included.
        backward_passes, optimizer_steps: how many the last step took.
        notes: sentences on what was not seen.
        hdlif_authors_bytes: what HD-LIF's authors print as memory, to compare with their tables:
            allocated plus reserved bytes after the last backward pass. Reserved includes
            allocated, and neither is a peak. None on the CPU, which has no such figure, and of a
            step seen from outside.
        loss: what it was trained on, a name as :attr:`ReportRow.loss_name` has it.
    """

    mode: str | None
    device: str
    batch_size: int | None
    timesteps: int | None
    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    optimizer_s: tuple[float, ...]
    step_s: tuple[float, ...]
    peak_bytes: int
    reserved_bytes: int | None
    static_bytes: int | None
    activation_bytes: int | None
    backward_passes: int | None
    optimizer_steps: int | None
    notes: tuple[str, ...] = ()
    hdlif_authors_bytes: int | None = None
    loss: str | None = None

    @property
    def sltt_authors_bytes(self) -> int | None:
        """What SLTT's authors print as memory, to compare with their tables: reserved bytes.

        The most that CUDA's allocator held; None on the CPU, which has no such figure.
        """
        return self.reserved_bytes

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second at the median step; None where they, or the time, are not known."""
        return _per_second(self.batch_size, self.step_s)


@dataclass(frozen=True)
class InferenceProfile(Numbered):
    """Time and memory of one call of a model in evaluation mode, without gradients.

    Attributes:
        device: "cpu" or "cuda".
        batch_size: samples per call.
        latency_s: seconds of a call, one value per repetition.
        peak_bytes: most bytes allocated during a call: parameters, buffers and inputs included.
    """

    device: str
    batch_size: int
    latency_s: tuple[float, ...]
    peak_bytes: int

    @property
    def latency_median_s(self) -> float | None:
        """Median seconds of a call; None where none was timed."""
        return statistics.median(self.latency_s) if self.latency_s else None

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second at the median call; None where no time has passed."""
        return _per_second(self.batch_size, self.latency_s)

"""Figures of several processes as one, and what fails in one of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from snnprof.core.processes import ProcessError, Processes, is_lost, lost_process
from snnprof.profiling.step_memory import Failure, Returned, attempt_all
from snnprof.results import InferenceProfile, StepProfile


class ForAll:
    """:func:`attempt_all`; of several processes one that fails ends them all.

    The others wait for it: no row can fail alone.

    Args:
        processes: of the run.
        what: fails, for the message.
    """

    def __init__(self, processes: Processes, what: str = "") -> None:
        self._processes = processes
        self._what = f"{what}: " if what else ""

    def __call__(
        self,
        action: Callable[[], Returned],
        device: torch.device,
        raised: type[BaseException] = ProcessError,
    ) -> Returned | Failure:
        done = attempt_all(action, device, raised)
        if not (self._processes.several and isinstance(done, Failure)):
            return done
        if is_lost(done.reason):
            raise lost_process(self._processes)
        raise ProcessError(f"rank {self._processes.rank}: {self._what}{done.reason}")


def joined_step(processes: Processes, profile: StepProfile | None) -> StepProfile | None:
    """The times of the slowest process, the memory of the one with the largest peak.

    Samples of all of them together.
    """
    found = [part for part in processes.gather(profile) if part is not None]
    if profile is None or not processes.several:
        return profile
    slowest = max(found, key=lambda part: statistics.median(part.step_s or (0.0,)))
    largest = max(found, key=lambda part: part.peak_bytes)
    samples = [part.batch_size for part in found if part.batch_size is not None]
    return replace(
        slowest,
        batch_size=sum(samples) if samples else None,
        peak_bytes=largest.peak_bytes,
        reserved_bytes=largest.reserved_bytes,
        static_bytes=largest.static_bytes,
        activation_bytes=largest.activation_bytes,
        hdlif_authors_bytes=largest.hdlif_authors_bytes,
    )


def joined_inference(
    processes: Processes, profile: InferenceProfile | None
) -> InferenceProfile | None:
    """That of the slowest process, with the largest peak."""
    found = [part for part in processes.gather(profile) if part is not None]
    if profile is None or not processes.several:
        return profile
    slowest = max(found, key=lambda part: part.latency_median_s or 0.0)
    return replace(slowest, peak_bytes=max(part.peak_bytes for part in found))


def joined_seconds(processes: Processes, seconds: float | None) -> float | None:
    """The longest of all processes."""
    found = [part for part in processes.gather(seconds) if part is not None]
    return max(found, default=None)


def joined_epoch(
    processes: Processes, losses: Sequence[float], what: str | None
) -> tuple[float, str | None]:
    """The mean loss over all processes, and the first of them that has diverged, in words."""
    parts = processes.gather((statistics.fmean(losses), what))
    found = (f"rank {rank}: {said}" for rank, (_, said) in enumerate(parts) if said is not None)
    mean = statistics.fmean(loss for loss, _ in parts)
    return mean, next(found, None) if processes.several else what

"""Figures of several processes, gathered without any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from snnprof.core.processes import Processes, is_lost
from snnprof.experiment.shared_figures import joined_epoch, joined_seconds, joined_step
from snnprof.results import StepProfile


@dataclass(frozen=True)
class Told(Processes):
    """Processes that say what a test lets them say."""

    said: tuple[Any, ...] = ()

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.said]


def profile(step_s: tuple[float, ...], peak: int) -> StepProfile:
    return StepProfile(
        "online", "cpu", 4, 2, step_s, step_s, step_s, step_s, peak, None, peak - 3, 3, 2, 1
    )


def told(*said: Any) -> Told:
    return Told(rank=0, count=1 + len(said), said=said)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_step_is_as_slow_as_the_slowest_and_as_large_as_the_largest(swapped: bool) -> None:
    # By the median: one slow step of the other process does not make it the slowest.
    slow, large = profile((3.0, 4.0, 5.0), 10), profile((1.0, 2.0, 9.0), 20)
    mine, other = (large, slow) if swapped else (slow, large)
    joined = joined_step(told(other), mine)
    assert joined is not None
    assert joined.step_s == (3.0, 4.0, 5.0)
    assert (joined.peak_bytes, joined.static_bytes, joined.activation_bytes) == (20, 17, 3)
    assert joined.batch_size == 8  # 4 samples in each


def test_seconds_are_the_longest() -> None:
    assert joined_seconds(told(0.5, None), 0.25) == 0.5
    assert joined_seconds(told(None), None) is None


def test_an_epochs_loss_is_the_mean_of_all() -> None:
    # (1 + 3) / 2 = 2 here and 6 there
    assert joined_epoch(told((6.0, None)), (1.0, 3.0), None) == (4.0, None)
    mean, diverged = joined_epoch(told((6.0, "loss nan")), (1.0, 3.0), None)
    assert (mean, diverged) == (4.0, "rank 1: loss nan")


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection "
         "closed by peer [127.0.0.1]:4711", True),
        ("RuntimeError: [../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out "
         "waiting 1800000ms for recv operation to complete", True),
        ("BrokenPipeError: [Errno 32] Broken pipe", False),  # a user's own
        ("OSError: Timed out reading shard 7", False),
    ],
)  # fmt: skip
def test_a_lost_process_is_told_from_a_users_error(message: str, lost: bool) -> None:
    assert is_lost(message) == lost

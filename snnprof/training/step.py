"""Time and memory of one training step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snnprof.spiking.neurons import reset

Clock = Callable[[], float]


class StepTimer:
    """Times calls: CUDA events on a GPU, a clock on the CPU.

    Args:
        device: where the work runs.
        clock: seconds as a float; injected by tests.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self._cuda = device.type == "cuda"
        self._clock = clock
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds: list[float] = []

    def time(self, step: Callable[[], Tensor]) -> Tensor:
        """Run a step and note how long it took."""
        if self._cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = step()
            end.record()
            self._events.append((start, end))
            return result
        begun = self._clock()
        result = step()
        self._seconds.append(self._clock() - begun)
        return result

    def seconds(self) -> tuple[float, ...]:
        """Seconds of every timed call. Waits for the GPU."""
        if self._cuda:
            torch.cuda.synchronize()
            return tuple(start.elapsed_time(end) / 1000 for start, end in self._events)
        return tuple(self._seconds)


def peak_bytes(
    step: Callable[[], Tensor],
    model: nn.Module,
    optimizer: Optimizer,
    inputs: Iterable[Tensor],
    device: torch.device,
) -> tuple[int, Tensor]:
    """Peak allocator bytes of one training step, and what the step returned.

    What the step finds allocated (parameters, buffers, optimiser state, inputs) plus the
    most that it allocates on top: CUDA's allocator statistics on a GPU, the profiler's
    allocation events on the CPU. Both are deterministic. Gradients and membrane potentials
    of the step before are dropped first: the step would free them unseen.
    """
    optimizer.zero_grad(set_to_none=True)
    reset(model)
    state = (value for held in optimizer.state.values() for value in held.values())
    held = _bytes_of(chain(model.parameters(), model.buffers(), state, inputs))
    rise, result = _cuda_rise(step, device) if device.type == "cuda" else _cpu_rise(step)
    return held + rise, result


def _bytes_of(values: Iterable[object]) -> int:
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in values
        if isinstance(value, Tensor)
    }
    return sum(storages.values())


def _cuda_rise(step: Callable[[], Tensor], device: torch.device) -> tuple[int, Tensor]:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before, result


def _cpu_rise(step: Callable[[], Tensor]) -> tuple[int, Tensor]:
    # The profiler's C++ side logs to standard error what no user can use.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        result = step()
    level = highest = 0
    for change in _allocations(profiler):
        level += change
        highest = max(highest, level)
    return highest, result


def _allocations(profiler: torch.profiler.profile) -> Iterator[int]:
    """Bytes allocated (or, negative, freed), in order of time."""
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        yield event.nbytes()  # type: ignore[attr-defined]  # missing in torch's stub

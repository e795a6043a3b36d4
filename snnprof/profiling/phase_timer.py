"""Time of the phases of training steps: CUDA events on a GPU, a clock on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

Clock = Callable[[], float]
STEP = "step"


class _Ticks(Protocol):
    """Marks moments, and tells afterwards how far apart they were."""

    def mark(self) -> int: ...

    def seconds(self, start: int, end: int) -> float: ...


class _ClockTicks:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: list[float] = []

    def mark(self) -> int:
        self._marks.append(self._clock())
        return len(self._marks) - 1

    def seconds(self, start: int, end: int) -> float:
        return self._marks[end] - self._marks[start]


class _EventTicks:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[torch.cuda.Event] = []

    def mark(self) -> int:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)
        return len(self._marks) - 1

    def seconds(self, start: int, end: int) -> float:
        self._marks[end].synchronize()
        milliseconds: float = self._marks[start].elapsed_time(self._marks[end])
        return milliseconds / 1000


class PhaseTimer:
    """Times whole steps and their phases; every repetition is kept.

    A phase that comes several times in a step (a backward pass per time step) is summed over
    the step. A phase inside another one is its own time and not the outer one's. Phases outside
    :meth:`step` are not timed, and a step that failed is not kept.

    Args:
        device: where the work runs.
        clock: seconds as a float, for the CPU; injected by tests.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self._ticks: _Ticks = _EventTicks(device) if device.type == "cuda" else _ClockTicks(clock)
        self._steps: list[list[tuple[str, int, int]]] = []
        self._parts: list[tuple[str, int, int]] = []  # of the step that runs
        self._open: list[tuple[str, int]] = []  # the innermost runs, those before it are paused
        self._running = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """One repetition."""
        self._parts, self._open = [], []
        self._running = True
        try:
            start = self._ticks.mark()
            yield
            self._parts.append((STEP, start, self._ticks.mark()))
            self._steps.append(self._parts)
        finally:
            self._running = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part of it: "forward", "backward" or "optimizer"."""
        self.begin(name)
        yield
        self.end(name)

    def begin(self, name: str) -> None:
        """Begin a phase; one that runs is paused."""
        if self._running:
            now = self._ticks.mark()
            if self._open:
                self._parts.append((*self._open[-1], now))
            self._open.append((name, now))

    def end(self, name: str) -> None:
        """End a phase, and all that began inside it; one that never began is let pass."""
        if not self._running or name not in [begun for begun, _ in self._open]:
            return
        now = self._ticks.mark()
        self._parts.append((*self._open[-1], now))
        while self._open.pop()[0] != name:
            pass
        if self._open:
            self._open[-1] = (self._open[-1][0], now)

    def seconds(self, name: str = STEP) -> tuple[float, ...]:
        """Seconds per repetition, of the whole step or of a phase. Waits for the GPU.

        Empty where the phase never came.
        """
        if not any(phase == name for marks in self._steps for phase, _, _ in marks):
            return ()
        return tuple(
            sum(self._ticks.seconds(start, end) for phase, start, end in marks if phase == name)
            for marks in self._steps
        )

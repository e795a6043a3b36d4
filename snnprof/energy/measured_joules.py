"""Joules that a GPU's own counter measured, beside the analytic figure and never mixed with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import torch

from snnprof.core.errors import SnnprofError
from snnprof.energy.nvml import EnergyReader, NoCounter, nvml_reader
from snnprof.results import MeasuredEnergy

LEAST_WINDOW_S = 1.0
TICK_S = 0.1  # the counter moves every 20 to 100 ms, by board
RUN_IN_S = 0.5  # before a window: the power settles, and the tick before it is like the window

RunStep = Callable[[], object]
Seconds = Callable[[], float]
Sleep = Callable[[float], object]


class Measurement(NamedTuple):
    """The energy, or the reason why there is none.

    Attributes:
        energy: None where nothing was measured.
        reason: ``"not measured: ..."``; None where it was.
    """

    energy: MeasuredEnergy | None
    reason: str | None


def measure_energy(
    step: RunStep,
    seconds: float,
    *,
    device: torch.device | str,
    reader: EnergyReader | None = None,
    clock: Seconds = time.perf_counter,
    sleep: Sleep = time.sleep,
    idle_seconds: float | None = None,
) -> Measurement:
    """Joules per step on an NVIDIA GPU; :func:`measure_energies` with one step and one round.

    Raises:
        SnnprofError: a window under 1 s.
    """
    measured = measure_energies(
        {"step": step},
        seconds,
        device=device,
        rounds=1,
        reader=reader,
        clock=clock,
        sleep=sleep,
        idle_seconds=idle_seconds,
    )
    return measured["step"]


def measure_energies(
    steps: Mapping[str, RunStep],
    seconds: float,
    *,
    device: torch.device | str,
    rounds: int = 2,
    reader: EnergyReader | None = None,
    clock: Seconds = time.perf_counter,
    sleep: Sleep = time.sleep,
    idle_seconds: float | None = None,
) -> dict[str, Measurement]:
    """Joules per step of each training step, in turn, so that a warming board strikes all alike.

    In every round the board first idles, then each step gets a window: synchronise, read the
    counter, run it again and again, synchronise, read. Each runs in for half a second before its
    window. ``net = (counter difference - idle watts * window) / steps run``.

    Args:
        steps: training steps by name.
        seconds: of measuring per step, all rounds together; 10 s for a resolution of 1 %.
        device: where the steps run.
        rounds: windows per step.
        reader: the counter; None finds the device's by UUID.
        clock, sleep: injected by tests.
        idle_seconds: of idling, all rounds together; None for ``seconds``.

    Returns:
        A :class:`Measurement` per step; its energy is None, with the reason, where there is no
        counter, where it does not move, or where it was set back.

    Raises:
        SnnprofError: no step, no round, or a window under 1 s, before anything runs.
    """
    idle_seconds = seconds if idle_seconds is None else idle_seconds
    _check(steps, seconds, idle_seconds, rounds)
    where = torch.device(device)
    with ExitStack() as stack:
        try:
            counter = reader or stack.enter_context(nvml_reader(where))
        except NoCounter as missing:
            return dict.fromkeys(steps, Measurement(None, f"not measured: {missing}"))
        bench = _Bench(counter, where, clock, sleep)
        idle: list[_Window] = []
        windows: dict[str, list[_Window]] = {name: [] for name in steps}
        names = list(steps)
        for turn in range(rounds):
            idle.append(bench.idle(idle_seconds / rounds))
            shift = turn % len(names)
            for name in (*names[shift:], *names[:shift]):
                windows[name].append(bench.run(steps[name], seconds / rounds))
    return {name: _result(windows[name], idle, counter) for name in steps}


def _check(steps: Mapping[str, RunStep], seconds: float, idle_seconds: float, rounds: int) -> None:
    if not steps:
        raise SnnprofError("no training step was given: there is no energy to measure")
    if rounds < 1:
        raise SnnprofError(f"rounds={rounds}: must be at least 1")
    for name, value in (("seconds", seconds), ("idle_seconds", idle_seconds)):
        if not math.isfinite(value) or value / rounds < LEAST_WINDOW_S:
            raise SnnprofError(
                f"{name}={value:g} in {rounds} round(s): the energy counter moves only every 20 "
                f"to 100 ms, so a window needs at least {LEAST_WINDOW_S:g} s ({LEAST_WINDOW_S:g} "
                "* rounds); 10 s give 1 %"
            )


class _Window(NamedTuple):
    millijoules: int
    seconds: float
    steps: int


class _Bench:
    """Takes windows of the counter."""

    def __init__(
        self, counter: EnergyReader, device: torch.device, clock: Seconds, sleep: Sleep
    ) -> None:
        self._counter = counter
        self._device = device
        self._clock = clock
        self._sleep = sleep

    def idle(self, seconds: float) -> _Window:
        self._synchronize()
        self._sleep(RUN_IN_S)
        energy, begun = self._counter.millijoules(), self._clock()
        self._sleep(seconds)
        return _Window(self._counter.millijoules() - energy, self._clock() - begun, 0)

    def run(self, step: RunStep, seconds: float) -> _Window:
        self._repeat(step, RUN_IN_S)
        self._synchronize()
        energy, begun = self._counter.millijoules(), self._clock()
        steps = self._repeat(step, seconds)
        self._synchronize()
        return _Window(self._counter.millijoules() - energy, self._clock() - begun, steps)

    def _repeat(self, step: RunStep, seconds: float) -> int:
        """Run a step, at least once, until the time is over."""
        steps, end = 0, self._clock() + seconds
        while True:
            step()
            steps += 1
            if self._clock() >= end:
                return steps

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _result(windows: list[_Window], idle: list[_Window], counter: EnergyReader) -> Measurement:
    everything = (*windows, *idle)
    if any(window.millijoules < 0 for window in everything):
        return Measurement(None, "not measured: the energy counter was set back meanwhile")
    if not all(window.millijoules for window in everything):
        return Measurement(None, "not measured: the energy counter did not move")
    steps = sum(window.steps for window in windows)
    running_s = sum(window.seconds for window in windows)
    idle_s = sum(window.seconds for window in idle)
    gross_j = sum(window.millijoules for window in windows) / 1000
    idle_w = sum(window.millijoules for window in idle) / 1000 / idle_s
    off_j = sum(map(_tick_j, windows)) + sum(map(_tick_j, idle)) * running_s / idle_s
    energy = MeasuredEnergy(
        net_j=(gross_j - idle_w * running_s) / steps,
        gross_j=gross_j / steps,
        resolution_j=off_j / steps,
        idle_w=idle_w,
        steps=steps,
        window_s=running_s,
        idle_s=idle_s,
        device=counter.device,
        uuid=counter.uuid,
    )
    return Measurement(energy, None)


def _tick_j(window: _Window) -> float:
    """Joules by which one window can be off: one tick, and the rounding to millijoules.

    The counter lags by up to one tick at both ends. At steady power P, of which the window W
    shows at least P * (W - tick), the difference is off by at most P * tick.
    """
    watts = (window.millijoules + 1) / 1000 / (window.seconds - TICK_S)
    return watts * TICK_S + 0.001

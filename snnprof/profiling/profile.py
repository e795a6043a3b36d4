"""The cost of a training step: time per phase and memory, of one model or of several in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.profiling.phase_timer import Clock, PhaseTimer
from snnprof.profiling.step_memory import Attempt, Failure, OutOfMemory, attempt
from snnprof.profiling.step_meter import Batch, StepMeter
from snnprof.results import StepProfile
from snnprof.training.batch_run import NO_RECORDER
from snnprof.training.layouts import AUTO
from snnprof.training.losses import USUAL, Loss, StepLoss
from snnprof.training.modes import find_mode
from snnprof.training.sequences import as_pair
from snnprof.training.step_runner import MakeOptimizer, StepRunner, StepSetup, sgd
from snnprof.training.step_trial import settled
from snnprof.training.stepped_model import SteppedModel

WARMUP = 5
REPEATS = 30
# fp16 starts at 2^16 and halves it, without an update, until no gradient is infinite.
_SCALES = 16


def profile_step(
    build: Callable[[], nn.Module | SteppedModel] | nn.Module,
    batch: Batch,
    mode: str = "stbp",
    *,
    timesteps: int | None = None,
    optimizer: MakeOptimizer = sgd,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    loss: str | Loss | StepLoss = USUAL,
    layout: str = AUTO,
    seed: int = 0,
) -> StepProfile:
    """Profile one training step of a model in a mode.

    Args:
        build: makes a fresh model (a network of ours, of a known library, any module that takes
            its time steps in a layout, or :func:`~snnprof.training.stepped_model.stepwise`); it
            is called for memory, for time, and for every layout that is tried. A model is left
            as it is: deep copies of it are profiled.
        batch: inputs and labels (classes [B], or whatever the loss takes). Inputs [B, C, H, W]
            or [B, features] are repeated T times; others are sequences [T, B, ...] or
            [B, T, ...].
        mode: one of :func:`~snnprof.training.modes.mode_names`.
        timesteps: T; None for the model's own, or that of the sequence.
        optimizer: makes the optimiser; SGD with Nesterov momentum if not given.
        warmup: steps before the time is taken.
        repeats: timed steps.
        device: "auto", "cpu" or "cuda".
        clock: seconds as a float, for the CPU.
        amp: "bf16" or "fp16".
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
        loss: "sum", "step", "tet", "ottt", "mse", or a function of outputs and labels: of the
            outputs summed over time, [B, classes] (step by step: of each time step), or if it does
            not take these, of all of them, [T, B, classes].
        layout: how the model takes its time steps, a name of
            :data:`~snnprof.training.layouts.LAYOUTS`; "auto" finds out by trying.
        seed: of the model's making and of the time steps that a mode draws.

    Returns:
        Every repetition's seconds, and the bytes of one step that was not timed.

    Raises:
        SnnprofError: a wrong name or value; K > T; a batch that does not fit; a model that
            keeps its graph between steps; a loss that is not finite; too little memory.
    """
    setup = StepSetup(build, mode, timesteps, optimizer, amp, compile, channels_last, loss, layout)
    (profile,) = profile_steps(
        [setup], batch, warmup=warmup, repeats=repeats, device=device, clock=clock, seed=seed
    )
    return profile


def profile_steps(
    setups: Sequence[StepSetup],
    batch: Batch,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    seed: int = 0,
) -> tuple[StepProfile, ...]:
    """Profile several training steps in one run, so that a slow moment strikes them alike.

    Memory is taken of one model at a time, each made afresh, none of the others alive. Then all
    are made again, and take their timed steps in turn; another one starts each round.

    Args and errors: as :func:`profile_step`.
    """
    profiles = try_profiles(
        setups, batch, warmup=warmup, repeats=repeats, device=device, clock=clock, seed=seed
    )
    for setup, profile in zip(setups, profiles, strict=True):
        if isinstance(profile, Failure):
            raise SnnprofError(
                f"mode {find_mode(setup.mode).name!r}: {profile.reason}: try a smaller batch or "
                "fewer time steps"
            )
    return tuple(profile for profile in profiles if isinstance(profile, StepProfile))


def try_profiles(
    setups: Sequence[StepSetup],
    batch: Batch,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
    attempt: Attempt = attempt,
) -> tuple[StepProfile | Failure, ...]:
    """As :func:`profile_steps`, but one that runs out of memory does not stop the others.

    Args:
        advance: told of every step.
        attempt: ``attempt_all`` for whatever fails not to stop the others.
    """
    for name, value, least in (("warmup", warmup, 0), ("repeats", repeats, 1)):
        if value < least:
            raise SnnprofError(f"{name}={value}: must be at least {least}")
    batch = as_pair(batch, "the batch", "give inputs and labels, two tensors")
    where = choose_device(device)
    devices = range(torch.cuda.device_count()) if where.type == "cuda" else ()
    with torch.random.fork_rng(devices):
        setups = [settled(setup, batch, where) for setup in setups]
        untimed = []
        for setup in setups:
            untimed.append(memory_profile(setup, batch, where, seed, attempt))
            advance()
        trials: list[_Trial | Failure] = [
            found
            if isinstance(found, Failure)
            else attempt(partial(_warm_trial, setup, batch, where, seed, clock, warmup), where)
            for setup, found in zip(setups, untimed, strict=True)
        ]
        _synchronize(where)
        for number in range(repeats):
            for turn in range(len(trials)):
                n = (number + turn) % len(trials)
                trials[n] = attempt(partial(_take_turn, trials[n]), where)
                advance()
        return tuple(
            attempt(partial(_outcome, trial, found), where)
            for trial, found in zip(trials, untimed, strict=True)
        )


def _take_turn(trial: _Trial | Failure) -> _Trial | Failure:
    if isinstance(trial, _Trial):
        trial.meter.time_step(trial.batch)
    return trial


def _outcome(trial: _Trial | Failure, untimed: StepProfile | Failure) -> StepProfile | Failure:
    if isinstance(untimed, Failure):
        return untimed
    if isinstance(trial, OutOfMemory):
        return OutOfMemory("out of memory beside the others", untimed)
    if isinstance(trial, Failure):
        return replace(trial, profile=untimed)
    trial.check_finite()
    return trial.meter.add_times(untimed)


def _warm_trial(
    setup: StepSetup, batch: Batch, device: torch.device, seed: int, clock: Clock, warmup: int
) -> _Trial:
    trial = _Trial(setup, batch, device, seed, PhaseTimer(device, clock))
    for _ in range(warmup):
        trial.meter.step(trial.batch)
    return trial


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def memory_profile(
    setup: StepSetup,
    batch: Batch,
    device: torch.device,
    seed: int = 0,
    attempt: Attempt = attempt,
) -> StepProfile | Failure:
    """The memory of one training step of a model made afresh; its time is not taken."""
    return attempt(partial(_measure_memory, setup, batch, device, seed), device)


def _measure_memory(setup: StepSetup, batch: Batch, device: torch.device, seed: int) -> StepProfile:
    """The memory of the step after the first update: from then on the optimiser has its state."""
    trial = _Trial(setup, batch, device, seed)
    for _ in range(_SCALES):
        trial.meter.step(trial.batch, watch=True)
        if trial.meter.runner.updated:
            break
    trial.meter.measure_memory(trial.batch)
    trial.check_finite()
    return trial.meter.profile()


class _Trial:
    """A model made from a setup, in training on one batch on its device."""

    def __init__(
        self,
        setup: StepSetup,
        batch: Batch,
        device: torch.device,
        seed: int,
        timer: PhaseTimer | None = None,
    ) -> None:
        torch.manual_seed(seed)
        model = setup.make()
        runner = StepRunner(setup, model, device, recorder=timer or NO_RECORDER, seed=seed)
        self.meter = StepMeter(runner, device, timer)
        images, labels = batch
        on_device = labels.to(device) if isinstance(labels, Tensor) else labels
        self.batch = (setup.lay_out(images.to(device)), on_device)

    def check_finite(self) -> None:
        """Raise SnnprofError for a loss or a parameter that is not; outside the timed steps."""
        _, what = self.meter.take_losses()
        if what is not None:
            raise SnnprofError(
                f"mode {self.meter.runner.mode.name!r}: {what}: look for NaN in the batch, or try "
                "a lower learning rate"
            )

"""What one training step costs: time per phase and memory, of one arm or of several in turn."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.profiling.phase_timer import Clock, PhaseTimer
from snnprof.profiling.step_memory import OutOfMemory, attempt
from snnprof.profiling.stepper import Execution, MakeOptimizer, Stepper, sgd
from snnprof.results import StepProfile
from snnprof.training.adapters import SteppedModel
from snnprof.training.batch_run import Loss
from snnprof.training.modes import find_mode

Batch = tuple[Tensor, Tensor]
WARMUP = 5
REPEATS = 30
# fp16 starts at 2^16 and halves it, without an update, until no gradient is infinite.
_SCALES = 16


@dataclass(frozen=True)
class StepArm:
    """What to profile.

    Attributes:
        build: makes a fresh model; or a model, of which a deep copy is profiled.
        mode: a training mode.
        timesteps: T; None for the model's own, or that of the batch's sequence.
        optimizer: makes the optimiser of the parameters.
        amp: "bf16" or "fp16" for mixed precision.
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
        loss: of logits [B, classes] and classes [B].
    """

    build: Callable[[], nn.Module | SteppedModel] | nn.Module
    mode: str = "stbp"
    timesteps: int | None = None
    optimizer: MakeOptimizer = sgd
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    loss: Loss = F.cross_entropy

    def __post_init__(self) -> None:
        find_mode(self.mode, self.timesteps)
        _ = self.execution  # a wrong amp ends here

    @property
    def execution(self) -> Execution:
        return Execution(self.amp, self.compile, self.channels_last)


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
    loss: Loss = F.cross_entropy,
    seed: int = 0,
) -> StepProfile:
    """Profile one training step of a model in a mode.

    Args:
        build: makes a fresh model (a network of ours, of a known library, any module from
            [K, B, ...] to [K, B, classes], or :func:`~snnprof.training.adapters.stepwise`); it
            is called twice, for memory and for time. A model is left as it is: a deep copy of
            it is profiled.
        batch: inputs and classes [B]. Inputs [B, C, H, W] or [B, features] are repeated T
            times; others are sequences [T, B, ...].
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
        loss: of logits [B, classes] and classes [B]; for the published one of OTTT, see
            :func:`~snnprof.training.batch_run.cross_entropy_and_mse`.
        seed: of the model's making and of the time steps that a mode draws.

    Returns:
        Every repetition's seconds, and the bytes of one step that was not timed.

    Raises:
        SnnprofError: a wrong name or value; K > T; a batch that does not fit; a model that
            keeps its graph between steps; a loss that is not finite; too little memory.
    """
    arm = StepArm(build, mode, timesteps, optimizer, amp, compile, channels_last, loss)
    (profile,) = profile_arms(
        [arm], batch, warmup=warmup, repeats=repeats, device=device, clock=clock, seed=seed
    )
    return profile


def profile_arms(
    arms: Sequence[StepArm],
    batch: Batch,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    seed: int = 0,
) -> tuple[StepProfile, ...]:
    """Profile several arms in one run, so that a slow moment strikes them alike.

    Memory is taken of one arm at a time, each made afresh, none of the others alive. Then all
    are made again, and take their timed steps in turn; another one starts each round.

    Args and errors: as :func:`profile_step`.
    """
    profiles = try_arms(
        arms, batch, warmup=warmup, repeats=repeats, device=device, clock=clock, seed=seed
    )
    for arm, profile in zip(arms, profiles, strict=True):
        if isinstance(profile, OutOfMemory):
            raise SnnprofError(
                f"mode {arm.mode!r}: {profile.reason}: try a smaller batch or fewer time steps"
            )
    return tuple(profile for profile in profiles if isinstance(profile, StepProfile))


def try_arms(
    arms: Sequence[StepArm],
    batch: Batch,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> tuple[StepProfile | OutOfMemory, ...]:
    """As :func:`profile_arms`, but an arm that runs out of memory does not stop the others.

    Args:
        advance: told of every step.
    """
    for name, value, least in (("warmup", warmup, 0), ("repeats", repeats, 1)):
        if value < least:
            raise SnnprofError(f"{name}={value}: must be at least {least}")
    where = choose_device(device)
    devices = range(torch.cuda.device_count()) if where.type == "cuda" else ()
    with torch.random.fork_rng(devices):
        untimed = []
        for arm in arms:
            untimed.append(arm_memory(arm, batch, where, seed))
            advance()
        trials: list[_Trial | OutOfMemory] = [
            found
            if isinstance(found, OutOfMemory)
            else attempt(partial(_warm_trial, arm, batch, where, seed, clock, warmup), where)
            for arm, found in zip(arms, untimed, strict=True)
        ]
        _synchronize(where)
        for number in range(repeats):
            for turn in range(len(trials)):
                n = (number + turn) % len(trials)
                trials[n] = attempt(partial(_take_turn, trials[n]), where)
                advance()
        return tuple(_outcome(trial, found) for trial, found in zip(trials, untimed, strict=True))


def _take_turn(trial: _Trial | OutOfMemory) -> _Trial | OutOfMemory:
    if isinstance(trial, _Trial):
        trial.timed_step()
    return trial


def _outcome(
    trial: _Trial | OutOfMemory, untimed: StepProfile | OutOfMemory
) -> StepProfile | OutOfMemory:
    if isinstance(untimed, OutOfMemory):
        return untimed
    if isinstance(trial, OutOfMemory):
        return OutOfMemory("out of memory beside the others", untimed)
    trial.check_finite()
    return trial.stepper.with_times(untimed)


def _warm_trial(
    arm: StepArm, batch: Batch, device: torch.device, seed: int, clock: Clock, warmup: int
) -> _Trial:
    trial = _Trial(arm, batch, device, seed, PhaseTimer(device, clock))
    for _ in range(warmup):
        trial.step()
    return trial


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def arm_memory(
    arm: StepArm, batch: Batch, device: torch.device, seed: int = 0
) -> StepProfile | OutOfMemory:
    """The memory of one training step of an arm, made afresh; its time is not taken."""
    return attempt(partial(_measure_memory, arm, batch, device, seed), device)


def _measure_memory(arm: StepArm, batch: Batch, device: torch.device, seed: int) -> StepProfile:
    """The memory of the step after the first update: from then on the optimiser has its state."""
    trial = _Trial(arm, batch, device, seed)
    for _ in range(_SCALES):
        trial.step(watch=True)
        if trial.stepper.updated:
            break
    found, loss = trial.stepper.measured(*trial.batch)
    trial.losses.append(loss)
    trial.check_finite()
    return trial.stepper.profile(found)


class _Trial:
    """An arm with its model, on its device."""

    def __init__(
        self,
        arm: StepArm,
        batch: Batch,
        device: torch.device,
        seed: int,
        timer: PhaseTimer | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.losses: list[Tensor] = []
        self.stepper = Stepper(
            _make(arm.build),
            arm.mode,
            arm.timesteps,
            arm.optimizer,
            device,
            execution=arm.execution,
            timer=timer,
            loss=arm.loss,
            seed=seed,
        )
        images, labels = (tensor.to(device) for tensor in batch)
        self.batch = (arm.execution.laid_out(images), labels)

    def step(self, watch: bool = False) -> None:
        self.losses.append(self.stepper.warm(*self.batch, watch))

    def timed_step(self) -> None:
        self.losses.append(self.stepper.timed(*self.batch))

    def check_finite(self) -> None:
        """Raise SnnprofError for a loss or a parameter that is not; outside the timed steps."""
        what = self.stepper.divergence(torch.stack(self.losses).tolist())
        if what is not None:
            raise SnnprofError(
                f"mode {self.stepper.mode!r}: {what}: look for NaN in the batch, or try a "
                "lower learning rate"
            )


def _make(
    build: Callable[[], nn.Module | SteppedModel] | nn.Module,
) -> nn.Module | SteppedModel:
    if not callable(build):
        raise SnnprofError(
            f"build is a {type(build).__name__}: give a function that makes the model, or a module"
        )
    if not isinstance(build, nn.Module):
        return build()
    try:
        return copy.deepcopy(build)
    except RuntimeError as error:
        raise SnnprofError(
            f"{type(build).__name__} cannot be copied ({error}): call snnprof.reset(model) first, "
            "or give a function that builds it"
        ) from error

"""The phases of an experiment: train, profile, count, measure joules, trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.energy.conventions import CONVENTIONS
from snnprof.energy.measured_joules import LEAST_WINDOW_S, Measurement, measure_energies
from snnprof.energy.pricing import price
from snnprof.experiment.data_sets import Dataset
from snnprof.experiment.plan import Plan
from snnprof.experiment.trainer import Arm, Recipe, evaluate, steps_of, train
from snnprof.profiling.batch_size import SHARE, free_bytes, largest_batch
from snnprof.profiling.kineto_trace import check_trace_folder, trace_steps
from snnprof.profiling.phase_timer import PhaseTimer
from snnprof.profiling.profile import StepArm, arm_memory, try_arms
from snnprof.profiling.step_memory import OutOfMemory, attempt
from snnprof.profiling.stepper import Execution, Stepper
from snnprof.quantization.size import size_bytes
from snnprof.render.operator_table import write_tables
from snnprof.results import ReportRow, StepProfile
from snnprof.spiking.neurons import neuron_ops


@dataclass(frozen=True)
class Progress:
    """How to tell somebody of the progress: steps to come, and each one done."""

    start: Callable[[int], None]
    advance: Callable[[], None]


SILENT = Progress(start=lambda total: None, advance=lambda: None)


@dataclass(frozen=True)
class Measuring:
    """What is measured besides the training.

    Attributes:
        energy: conventions to price the counts under.
        repeats: timed steps in a pass of their own; None times the training itself.
        joules_s: seconds of the GPU's energy counter per arm; None for none.
        trace: folder for traces; None for none.
        strict: raise where a layer's input is not finite, instead of saying so.
    """

    energy: tuple[str, ...]
    repeats: int | None = None
    joules_s: float | None = None
    trace: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name in self.energy:
            CONVENTIONS.find(name)
        if self.repeats is not None and self.repeats < 1:
            raise SnnprofError(f"repeats={self.repeats}: must be at least 1")
        if self.joules_s is not None and not (LEAST_WINDOW_S <= self.joules_s < math.inf):
            raise SnnprofError(
                f"measure_energy={self.joules_s}: must be 1 second or more, and finite; the "
                "counter moves every 20 to 100 ms, so that 10 seconds are good for 1 %"
            )


@dataclass(frozen=True)
class Setting:
    """What all arms have in common."""

    data: Dataset
    recipe: Recipe
    execution: Execution
    measuring: Measuring
    device: torch.device
    seed: int
    progress: Progress

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """The first training images, and their labels."""
        size = self.recipe.batch_size
        return self.data.train_images[:size], self.data.train_labels[:size]

    @property
    def batch_size(self) -> int:
        """Samples of a training step: no more than there are."""
        return len(self.batch[1])

    def step_arm(self, plan: Plan) -> StepArm:
        """A plan as what is profiled."""
        how = self.execution
        return StepArm(
            build=plan.build,
            mode=plan.mode,
            timesteps=plan.timesteps,
            optimizer=self.recipe.optimizer,
            amp=how.amp,
            compile=how.compile,
            channels_last=how.channels_last,
        )


def fit_batch(plans: Sequence[Plan], setting: Setting) -> tuple[Setting, str]:
    """The setting with the largest batch that fits, and a sentence on it."""
    limit = SHARE * free_bytes(setting.device)
    images = len(setting.data.train_labels)

    def of(size: int) -> Setting:
        return replace(setting, recipe=replace(setting.recipe, batch_size=size))

    size = largest_batch(
        lambda size: [
            arm_memory(setting.step_arm(plan), of(size).batch, setting.device) for plan in plans
        ],
        limit,
        images,
    )
    reason = "all training images" if size == images else "the most that fit"
    note = (
        f"Batch size {size}: {reason}, in {SHARE:.0%} of the free memory, {limit / 2**30:.2f} GiB."
    )
    return of(size), note


def train_arms(plans: Sequence[Plan], setting: Setting) -> list[Arm]:
    """Make all arms, and train them in turn."""
    recipe, measuring = setting.recipe, setting.measuring
    steps = steps_of(setting.data, recipe)
    own_pass = 0 if measuring.repeats is None else 1 + measuring.repeats
    setting.progress.start((steps + own_pass) * len(plans))
    arms = []
    with torch.random.fork_rng():
        for plan in plans:
            made = attempt(partial(_stepper, plan, setting), setting.device)
            arms.append(Arm(made, steps))
    train(arms, setting.data, recipe, setting.seed, setting.progress.advance)
    return arms


def _stepper(plan: Plan, setting: Setting) -> Stepper:
    timed = setting.measuring.repeats is None and setting.recipe.epochs > 0
    return Stepper(
        plan.build(),
        plan.mode,
        plan.timesteps,
        setting.recipe.optimizer,
        setting.device,
        execution=setting.execution,
        timer=PhaseTimer(setting.device) if timed else None,
        seed=setting.seed,
    )


def step_profiles(
    plans: Sequence[Plan], arms: Sequence[Arm], setting: Setting
) -> Sequence[StepProfile | OutOfMemory | None]:
    """Time and memory of a step: of the training itself, or of a pass of their own."""
    if setting.measuring.repeats is None:
        return [arm.profile for arm in arms]
    return try_arms(
        [setting.step_arm(plan) for plan in plans],
        setting.batch,
        repeats=setting.measuring.repeats,
        device=setting.device.type,
        seed=setting.seed,
        advance=setting.progress.advance,
    )


def measure_joules(
    plans: Sequence[Plan], arms: Sequence[Arm], setting: Setting
) -> dict[str, Measurement]:
    """Joules per training step by the board's counter, by the plan's name."""
    seconds = setting.measuring.joules_s
    if seconds is None:
        return {}
    steps = {
        plan.name: partial(arm.stepper.run, *setting.batch)
        for plan, arm in zip(plans, arms, strict=True)
        if arm.stepper is not None
    }
    if not steps:
        return {}
    # In turn, as long as each turn is long enough for the counter.
    rounds = 2 if seconds >= 2 * LEAST_WINDOW_S else 1
    measured = attempt(
        partial(measure_energies, steps, seconds, device=setting.device, rounds=rounds),
        setting.device,
    )
    if isinstance(measured, OutOfMemory):
        return dict.fromkeys(steps, Measurement(None, f"not measured: {measured.reason}"))
    return measured


def check_traces(plans: Sequence[Plan], setting: Setting) -> None:
    """Raise SnnprofError where a trace could not be written."""
    if setting.measuring.trace is not None:
        for plan in plans:
            check_trace_folder(setting.measuring.trace, plan.name)


def trace_arms(plans: Sequence[Plan], arms: Sequence[Arm], setting: Setting) -> list[str]:
    """Record a few training steps of every arm, after everything that is timed.

    Returns:
        What has to be said: who ran out of memory.
    """
    folder = setting.measuring.trace
    if folder is None:
        return []
    said = []
    for plan, arm in zip(plans, arms, strict=True):
        if arm.stepper is not None:
            trace = partial(_trace, plan, arm.stepper, folder, setting)
            if isinstance(done := attempt(trace, setting.device), OutOfMemory):
                said.append(f"No trace of {plan.name}: {done.reason}.")
    return said


def _trace(plan: Plan, stepper: Stepper, folder: Path, setting: Setting) -> None:
    trace_steps(
        partial(stepper.run, *setting.batch),
        folder,
        name=plan.name,
        model=stepper.stepped.model,
        timesteps=plan.timesteps,
        steps_per_call=plan.timesteps if stepper.stepped.sequence is not None else 1,
        device=setting.device,
        write_tables=write_tables,
    )


def result_of(
    plan: Plan,
    arm: Arm,
    profile: StepProfile | OutOfMemory | None,
    setting: Setting,
) -> ReportRow:
    """Count and price a trained arm, and gather what was measured of it.

    Before anything that trains it further.
    """
    failure = arm.failure or (profile.reason if isinstance(profile, OutOfMemory) else None)
    common = {
        "batch_size": setting.batch_size,
        "epochs": setting.recipe.epochs,
        "execution": str(setting.execution),
        "failure": failure,
        "profile": profile.profile if isinstance(profile, OutOfMemory) else profile,
    }
    if arm.stepper is None:
        return plan.result(**common)
    stepped = arm.stepper.stepped
    model = stepped.model
    evaluated = attempt(
        partial(evaluate, stepped, plan.timesteps, setting.data, setting.recipe.batch_size),
        setting.device,
    )
    if isinstance(evaluated, OutOfMemory):
        return plan.result(**{**common, "failure": f"{evaluated.reason} while counting"})
    counts, accuracy = evaluated
    trained = setting.recipe.epochs > 0 or plan.brings_weights
    return plan.result(
        **common,
        parameters=sum(p.numel() for p in model.parameters()),
        size_bytes=size_bytes(model),
        paper_size_bytes=size_bytes(model, "paper"),
        accuracy=accuracy if trained else None,
        counts=counts,
        energies=tuple(price(counts, name) for name in setting.measuring.energy),
        neuron_ops=neuron_ops(model),
        loss=arm.loss,
    )


def with_joules(result: ReportRow, joules: Measurement | None) -> ReportRow:
    """The result with what the board's counter said, or why it said nothing."""
    if joules is None:
        return result
    return replace(result, measured=joules.energy, not_measured=joules.reason)

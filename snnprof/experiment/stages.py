"""The stages of an experiment, in order. Each takes all rows, and adds to them what it finds."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snnprof.core.errors import SnnprofError
from snnprof.counting.module_outputs import ModuleOutputs
from snnprof.energy.conventions import of_inference
from snnprof.energy.dense_baseline import price_dense
from snnprof.energy.measured_joules import LEAST_WINDOW_S, Measurement, measure_energies
from snnprof.energy.pricing import price
from snnprof.experiment.metrics import ACCURACY, Metric
from snnprof.experiment.own_table import model_figures
from snnprof.experiment.settings import Settings
from snnprof.experiment.shared_figures import (
    ForAll,
    joined_inference,
    joined_seconds,
    joined_step,
)
from snnprof.experiment.trainer import Recipe, count_steps, evaluate, train_in_turn
from snnprof.experiment.training_run import TrainingRun
from snnprof.profiling.batch_size import SHARE, free_bytes, largest_batch
from snnprof.profiling.inference import profile_sequences
from snnprof.profiling.kineto_trace import check_trace_folder, trace_steps
from snnprof.profiling.profile import memory_profile, try_profiles
from snnprof.profiling.step_memory import Failure, OutOfMemory, attempt_all
from snnprof.profiling.step_meter import StepMeter
from snnprof.quantization.quantised_twin import EightBitWeight
from snnprof.results import CountResult, EnergyResult, ModuleRow, ReportRow, StepProfile
from snnprof.spiking.neuron_operations import NeuronOperations
from snnprof.training.found_layout import FoundLayout
from snnprof.training.sequences import as_sequence
from snnprof.training.stepped_model import SteppedModel


def fit_batch(runs: Sequence[TrainingRun], settings: Settings) -> Settings:
    """The settings with the largest batch that fits, where that was asked for."""
    if not settings.automatic_batch:
        return settings
    limit = SHARE * free_bytes(settings.device)
    images = settings.data.images
    if images is None:
        raise SnnprofError("batch_size='auto': the training images were not counted: give a number")
    with_batch = settings.with_batch_size

    def memory_of(size: int) -> list[StepProfile | Failure]:
        found: list[StepProfile | Failure] = []
        for run in runs:
            if not run.row.failure:
                batch = with_batch(size).batch
                measured = memory_profile(run.setup, batch, settings.device, attempt=attempt_all)
                if isinstance(measured, Failure) and not isinstance(measured, OutOfMemory):
                    run.fail(measured.reason, measured.traceback)
                else:
                    found.append(measured)
        return found

    size = largest_batch(memory_of, limit, images)
    reason = "all training images" if size == images else "the most that fit"
    note = (
        f"Batch size {size}: {reason}, in {SHARE:.0%} of the free memory, {limit / 2**30:.2f} GiB."
    )
    return replace(with_batch(size), notes=(*settings.notes, note))


def train(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Make all models, and train them in turn."""
    recipe = settings.recipe
    own_pass = 0 if settings.repeats is None else 1 + settings.repeats
    settings.progress.start((count_steps(settings.data, recipe) + own_pass) * len(runs))
    make_models(runs, settings)
    taken = partial(
        train_in_turn, runs, settings.data, recipe, settings.seed, settings.progress.advance
    )
    trained = ForAll(settings.processes)(taken, settings.device)
    if isinstance(trained, Failure):  # the rows guard their own steps: it is the data
        for run in runs:
            run.end(f"{trained.reason} while loading a training batch", trained.traceback)


def make_models(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Make every row's model, optimiser and schedule."""
    recipe = settings.recipe
    steps = count_steps(settings.data, recipe)
    timed = settings.repeats is None and recipe.epochs > 0
    with torch.random.fork_rng():
        for run in runs:
            run.record(
                batch_size=settings.batch_size,
                epochs=recipe.epochs,
                execution=run.setup.execution,
            )
            if not run.row.failure:
                run.make(settings.device, settings.seed, partial(_schedule, recipe, steps), timed)


def _schedule(recipe: Recipe, steps: int, optimizer: Optimizer) -> LRScheduler | None:
    return recipe.schedule(optimizer, steps)


def profile(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Time and memory of a step: of the training itself, or of a pass of their own."""
    if settings.repeats is None:
        for run in runs:
            run.record(profile=joined_step(settings.processes, run.profile))
        return
    found = try_profiles(
        [run.setup for run in runs],
        settings.batch,
        repeats=settings.repeats,
        device=settings.device.type,
        seed=settings.seed,
        advance=settings.progress.advance,
        attempt=ForAll(settings.processes),
    )
    for run, profile in zip(runs, found, strict=True):
        if isinstance(profile, Failure):
            run.record(profile=profile.profile)
            run.fail(profile.reason, profile.traceback)
        else:
            run.record(profile=joined_step(settings.processes, profile))


def count(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Count and price the trained models, before anything that trains them further."""
    for run in runs:
        if run.meter is not None:
            stage = partial(_count, run, run.meter.runner.stepped, settings)
            run.attempt(stage, settings.device, "counting")


def _count(run: TrainingRun, stepped: SteppedModel, settings: Settings) -> None:
    model = stepped.model
    operations, outputs = NeuronOperations(model), ModuleOutputs(model)
    with warnings.catch_warnings():
        if settings.strict:  # then it is an error, and need not be a warning too
            warnings.filterwarnings("ignore", "NaN or infinity", RuntimeWarning)
        counts, figure = evaluate(
            stepped,
            run.setup.layout_found,
            run.timesteps,
            settings.data.test(settings.recipe.batch_size),
            settings.metric,
            settings.processes,
            (operations, outputs),
        )
    if settings.processes.several:
        operations.all_reduce()
    if settings.strict and counts.non_finite:
        raise SnnprofError(f"NaN or infinity in the input of {', '.join(counts.non_finite)}")
    trained = settings.recipe.epochs > 0 or run.brings_weights
    loading_s = statistics.median(run.loading_s) if run.loading_s else None
    run.record(
        **_merit(settings.metric, figure if trained else None),
        loading_s=joined_seconds(settings.processes, loading_s),
        counts=counts,
        energies=_priced(run.row, counts, settings),
        loss=run.loss,
        modules=module_rows(outputs, run.setup.layout_found, run.timesteps),
        **_with_operations(_figures(model), operations.per_sample(counts.samples)),
    )


def module_rows(
    outputs: ModuleOutputs, found: FoundLayout, timesteps: int
) -> tuple[ModuleRow, ...]:
    """The modules of a model that ran in this layout."""
    shape = outputs.model_shape
    # In layout "step" every call is of one time step; of somebody's own way nothing is known.
    place = 1 if found.output_dim == 0 and found.name != "step" else 0
    known = found.name is not None and shape is not None and len(shape) > place
    batch = shape[place] if known and shape is not None else None
    return tuple(outputs.rows(found.name, batch, timesteps))


def _priced(row: ReportRow, counts: CountResult, settings: Settings) -> tuple[EnergyResult, ...]:
    names = of_inference(settings.energy)
    if row.baseline_of is not None:
        return price_dense(counts, names)
    return tuple(price(counts, name) for name in names)


def _figures(model: nn.Module) -> dict[str, Any]:
    """Parameters and sizes; no size where weights have 8 bits, which nothing here stores."""
    eight_bit = any(isinstance(module, EightBitWeight) for module in model.modules())
    sizes = {"size_bytes": None, "paper_size_bytes": None} if eight_bit else {}
    return model_figures(model) | sizes


def _with_operations(figures: dict[str, Any], counted: int | None) -> dict[str, Any]:
    """NOPs as counted while neurons ran; else what they say themselves of their last run."""
    return figures if counted is None else figures | {"neuron_ops": counted}


def _merit(metric: Metric | None, figure: float | None) -> dict[str, Any]:
    """The accuracy; a metric of the user's own is a column of its name."""
    if metric is None:
        return {}
    if figure is not None and not math.isfinite(figure):
        raise SnnprofError(f"metric {metric.name!r} is {figure}")
    return {"accuracy": figure} if metric.name == ACCURACY else {"more": {metric.name: figure}}


def time_inference(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Latency of the first training batch, in evaluation mode, one row after another."""
    x, labels = settings.batch
    for run in runs:
        if settings.latency and run.meter is not None:
            sequence = as_sequence(x, labels, run.timesteps, run.setup.of_batches)
            stepped = run.meter.runner.stepped
            timed = run.attempt(
                partial(profile_sequences, stepped, sequence), settings.device, "timing inference"
            )
            run.record(inference=joined_inference(settings.processes, timed))


def measure_joules(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Joules per training step by the board's counter. The models train on."""
    seconds = settings.joules_s
    steps = {
        run.name: partial(run.meter.runner.run, *settings.batch)
        for run in runs
        if run.meter is not None
    }
    if seconds is None or not steps:
        return
    # In turn, as long as each turn is long enough for the counter.
    rounds = 2 if seconds >= 2 * LEAST_WINDOW_S else 1
    measured = attempt_all(
        partial(measure_energies, steps, seconds, device=settings.device, rounds=rounds),
        settings.device,
    )
    if isinstance(measured, Failure):
        measured = dict.fromkeys(steps, Measurement(None, f"not measured: {measured.reason}"))
    for run in runs:
        found = measured.get(run.name)
        if found is not None:
            run.record(measured=found.energy, not_measured=found.reason)


def check_trace_folders(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Raise SnnprofError where a trace could not be written."""
    if settings.trace is not None:
        for run in runs:
            check_trace_folder(settings.trace, run.name)


def record_traces(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Record a few training steps of every row, after everything that is timed."""
    folder = settings.trace
    for run in runs:
        if folder is not None and run.meter is not None:
            trace = partial(_record_trace, run, run.meter, folder, settings)
            if isinstance(done := attempt_all(trace, settings.device), Failure):
                run.notes.append(f"No trace of {run.name}: {done.reason}.")


def _record_trace(run: TrainingRun, meter: StepMeter, folder: Path, settings: Settings) -> None:
    stepped = meter.runner.stepped
    trace_steps(
        partial(meter.runner.run, *settings.batch),
        folder,
        name=run.name,
        model=stepped.model,
        timesteps=run.timesteps,
        steps_per_call=run.timesteps if stepped.sequence is not None else 1,
        device=settings.device,
        counts=run.row.counts,
    )

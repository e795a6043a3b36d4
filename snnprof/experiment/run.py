"""The main path of an experiment: plan, train, profile, count, measure joules, trace, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnprof.core.environment import describe
from snnprof.experiment.interruption import UntilInterrupted
from snnprof.experiment.isolation import run_isolated
from snnprof.experiment.notes import notes_on
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.settings import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    NEURON,
    NO_PROGRESS,
    WEIGHTS,
    Progress,
    Settings,
    check_settings,
)
from snnprof.experiment.stages import (
    check_trace_folders,
    count,
    fit_batch,
    measure_joules,
    profile,
    record_traces,
    train,
)
from snnprof.experiment.training_run import TrainingRun
from snnprof.experiment.weight_folder import check_weight_folder, save_weights
from snnprof.results import Report
from snnprof.results.scaling import growth


def run(
    model: str = "vgg5",
    *,
    neuron: str | Sequence[str] = NEURON,
    weights: str = WEIGHTS,
    modes: str | Sequence[str] = ("stbp", "online"),
    timesteps: int | Sequence[int] = 4,
    data: str = "digits",
    image_size: int | None = None,
    epochs: int = EPOCHS,
    batch_size: int | str = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
    energy: str | Sequence[str] = ("operands",),
    repeats: int | None = None,
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    measure_energy: float | None = None,
    trace: str | Path | None = None,
    save: str | Path | None = None,
    isolate: bool = False,
    seed: int = 0,
    device: str = "auto",
    strict: bool = False,
    checkpoint: str | Path | None = None,
    progress: Progress = NO_PROGRESS,
    **variants: object,
) -> Report:
    """Train a network in each mode, time it, count and price it, and put it side by side.

    Args:
        model: one of ours, or ``package.module:function`` (see
            :func:`~snnprof.experiment.model_source.find_builder`).
        neuron: a neuron or several, with variants: ``"hdlif+four_bit"``.
        weights, **variants: as :func:`snnprof.models.create`.
        modes: a training mode or several.
        timesteps: T, or several. Every neuron in every mode at every T is a row.
        data: "digits" or "random".
        image_size: pixels; None for the data's own.
        epochs: 0 does not train.
        batch_size: samples per step; "auto" for the most that fit in memory.
        learning_rate: at the start of the annealing.
        energy: a convention or several to price under.
        repeats: time so many steps of every row in a pass of its own (and memory in another,
            one row at a time); None times the training itself.
        amp: "bf16" or "fp16" for mixed precision.
        compile: run the forward pass of training steps through torch.compile.
        channels_last: weights and images in that memory format.
        measure_energy: seconds to read an NVIDIA GPU's energy counter, per row.
        trace: folder for traces of training steps, taken after all else.
        save: folder for the trained weights, a file per row with its settings and figures.
        isolate: run each row in a process of its own.
        seed: of weights, batches and random data.
        device: "auto", "cpu" or "cuda".
        strict: a row fails where a layer's input is not finite, instead of saying so.
        checkpoint: file with the weights to start from: of ``save``, of the safetensors format,
            or of ``torch.save`` (a trainer's too).
        progress: told of every training step.

    Returns:
        A :class:`ReportRow` each, and what has to be said about them. A row that fails (it
        runs out of memory, diverges, its model raises) says so in ``failure``, and the others
        go on. So it is after Ctrl-C: what is finished is reported, ``interrupted`` is True.

    Raises:
        SnnprofError: a wrong name or value, before any training starts.
    """
    arguments = dict(locals())  # as they were given
    settings = check_settings(**{k: v for k, v in arguments.items() if k != "isolate"})
    rows = plan_rows(settings)
    check_trace_folders(rows, settings)
    check_weight_folder(rows, settings)
    settings = fit_batch(rows, settings)
    if isolate:
        return run_isolated(run, rows, arguments, settings)
    with UntilInterrupted(rows) as stages:
        train(rows, settings)
        save_weights(rows, settings, arguments)  # also of a row that fails from here on
        profile(rows, settings)
        count(rows, settings)
        save_weights(rows, settings, arguments)  # again, with the figures
        measure_joules(rows, settings)  # these two train on: after the counting
        record_traces(rows, settings)
    return report_of(rows, settings, stages.interrupted)


def report_of(runs: Sequence[TrainingRun], settings: Settings, interrupted: bool) -> Report:
    """The report of rows that have been through the stages, as far as they came."""
    for run in runs:
        if run.traceback:
            settings.progress.failed(run.name, run.traceback)
    rows = tuple(run.row for run in runs)
    of_rows = dict.fromkeys(note for run in runs for note in run.notes)
    return Report(
        rows=rows,
        environment=describe(settings.device),
        notes=(*notes_on(rows, settings), *of_rows, *settings.notes),
        growth=tuple(growth(rows)),
        interrupted=interrupted,
    )

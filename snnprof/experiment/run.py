"""The main path of an experiment: plan, train, profile, count, measure joules, trace, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from snnprof.core.environment import describe
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import current_processes, together
from snnprof.experiment.folders import check_folders
from snnprof.experiment.gpu_stages import (
    mark_ranges,
    record_snapshots,
    snapshots_when_out_of_memory,
)
from snnprof.experiment.interruption import UntilInterrupted
from snnprof.experiment.isolation import run_isolated
from snnprof.experiment.lookups import once_each
from snnprof.experiment.notes import notes_on
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.settings import (
    EPOCHS,
    NEURON,
    NO_PROGRESS,
    WEIGHTS,
    Progress,
    Settings,
    check_settings,
)
from snnprof.experiment.shared_run import of_processes
from snnprof.experiment.stages import (
    count,
    fit_batch,
    measure_joules,
    profile,
    record_traces,
    time_inference,
    train,
)
from snnprof.experiment.succession import in_succession
from snnprof.experiment.training_counts import count_training
from snnprof.experiment.training_run import TrainingRun
from snnprof.experiment.weight_folder import save_weights
from snnprof.results import Report
from snnprof.results.scaling import growth
from snnprof.training.layouts import AUTO
from snnprof.training.losses import Loss, StepLoss


def run(
    model: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = "vgg5",
    *,
    neuron: str | Sequence[str] = NEURON,
    weights: str | Sequence[str] = WEIGHTS,
    modes: str | Sequence[str] | None = None,
    timesteps: int | Sequence[int] = 4,
    data: object = "digits",
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    layout: str = AUTO,
    loss: str | StepLoss | Loss | None = None,
    metric: str | Callable[..., Any] | None = None,
    optimizer: str | Callable[..., Any] | None = None,
    schedule: str | Callable[..., Any] | None = None,
    epochs: int = EPOCHS,
    steps: int | None = None,
    batch_size: int | str | None = None,
    workers: int = 0,
    learning_rate: float | None = None,
    energy: str | Sequence[str] = ("operands",),
    baseline: str | Callable[..., Any] | None = None,
    repeats: int | None = None,
    latency: bool = False,
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    measure_energy: float | None = None,
    trace: str | Path | None = None,
    save: str | Path | None = None,
    memory_snapshot: str | Path | None = None,
    nvtx: bool = False,
    isolate: bool = False,
    seed: int | Sequence[int] = 0,
    device: str = "auto",
    strict: bool = False,
    sync_bn: bool = False,
    fsdp: bool = False,
    checkpoint: str | Path | None = None,
    progress: Progress = NO_PROGRESS,
    **variants: object,
) -> Report:
    """Train a network in each mode, time it, count and price it, and put it side by side.

    Args:
        model: one of ours, ``package.module:function``, or a function that makes it (see
            :func:`~snnprof.experiment.model_source.find_builder`); or several, one after another.
        neuron: a neuron or several, with variants: ``"hdlif+four_bit"``.
        weights, **variants: as :func:`snnprof.models.create`; weights may be several.
        modes: a training mode or several; None for stbp and online, or as many of them as the
            network can be run in.
        timesteps: T, or several. Every neuron in every mode at every T is a row.
        data: "digits", "random", "cifar10" or another data set by name,
            ``package.module:function``, or a function or an object that gives train and test
            (see :func:`~snnprof.experiment.own_data.own_data`).
        image_size: pixels; None for the data's own.
        data_dir: folder with the data set; None for the environment's SNNPROF_DATA, or ./data.
        layout: how the model takes its time steps: "step", "time-first", "batch-first",
            "inside", or "auto", which finds out by trying two samples.
        loss: "sum", "step", "tet", "ottt", "mse", ``package.module:function``, or a function of
            outputs and labels (see :func:`snnprof.profile_step`); None for "sum" of modes that
            train on whole sequences and "step" of the others.
        metric: "accuracy", "none", ``package.module:function``, or a function of the outputs
            summed over time and labels to the mean over the batch, which is a column of its
            name; None for accuracy where the labels are classes.
        optimizer: from parameters to an optimiser; None for SGD with Nesterov momentum.
        schedule: from an optimiser and the number of training steps to a scheduler, told of
            every step; None for cosine annealing of our SGD, and none of another optimiser.
        epochs: 0 does not train.
        steps: training steps of an epoch, for loaders without a length; they are read again
            when they end.
        batch_size: samples per step; "auto" for the most that fit in memory; None for 64, or
            for what loaders bring.
        workers: processes that load a map-style data set.
        learning_rate: of our SGD, at the start; None for 0.1.
        energy: a convention or several to price under.
        baseline: "dense" for a row more per model and seed: the same network with ReLU in the
            place of its neurons (:func:`~snnprof.dense_twin`), in full precision, T = 1, trained
            like the others; "quantised" for one of ceil(log2(T+1))-bit activations and 8-bit
            weights, with energies at int8 (``"operands+int8"``); or ``package.module:function``,
            or a function, that makes the dense network. Every row's energy is given relative to
            it.
        repeats: time so many steps of every row in a pass of its own (and memory in another,
            one row at a time); None times the training itself.
        latency: time inference on the first training batch, too.
        amp: "bf16" or "fp16" for mixed precision.
        compile: run the forward pass of training steps through torch.compile.
        channels_last: weights and images in that memory format.
        measure_energy: seconds to read an NVIDIA GPU's energy counter, per row.
        trace: folder for traces of training steps, taken after all else.
        save: folder for the trained weights, a file per row with its settings and figures.
        memory_snapshot: folder for snapshots of CUDA's allocator, for docs.pytorch.org/memory_viz:
            one training step of every row, after all that is timed, and what held the memory
            whenever it ran out.
        nvtx: run a few steps of every row with NVTX ranges, for nsys profile, likewise.
        isolate: run each row in a process of its own.
        seed: of weights, batches and random data; or several, one after another: tables then
            show mean and sample standard deviation (n - 1).
        device: "auto", "cpu" or "cuda".
        strict: a row fails where a layer's input is not finite, instead of saying so.
        sync_bn: batch norms over the samples of all processes, under torchrun
            (docs/many-devices.md).
        fsdp: parameters, gradients and optimiser states divided among all processes, under
            torchrun.
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
    parts = [
        {
            **arguments,
            "model": each,
            "weights": scheme,
            "seed": number,
            "baseline": baseline if scheme == once_each("weights", weights)[0] else None,
        }
        for each in once_each("model", model)
        for scheme in once_each("weights", weights)
        for number in once_each("seed", seed)
    ]
    if baseline is not None and isolate:
        raise SnnprofError(
            "baseline: the dense network is trained beside the rows that it is held against: leave "
            "isolate out"
        )
    if len(parts) == 1:
        return _run_one(parts[0])
    return in_succession(_run_one, parts)


def _run_one(arguments: Mapping[str, Any]) -> Report:
    """The rows of one model, one kind of weights and one seed: the same batches, in turn."""
    isolate = arguments["isolate"]
    settings, rows = together(partial(_planned, arguments), current_processes())
    settings = fit_batch(rows, settings)
    if isolate:
        return run_isolated(run, rows, arguments, settings)
    with UntilInterrupted(rows) as stages, snapshots_when_out_of_memory(settings):
        train(rows, settings)
        save_weights(rows, settings, arguments)  # also of a row that fails from here on
        profile(rows, settings)
        count(rows, settings)
        count_training(rows, settings)
        time_inference(rows, settings)
        save_weights(rows, settings, arguments)  # again, with the figures
        measure_joules(rows, settings)  # these two train on: after the counting
        record_traces(rows, settings)
        record_snapshots(rows, settings)
        mark_ranges(rows, settings)
    return report_of(rows, settings, stages.interrupted)


def _planned(arguments: Mapping[str, Any]) -> tuple[Settings, list[TrainingRun]]:
    """Everything that can be wrong before any training is found here."""
    settings = check_settings(**{k: v for k, v in arguments.items() if k != "isolate"})()
    rows = plan_rows(settings)
    check_folders(rows, settings)
    if arguments["isolate"] and settings.processes.several:
        raise SnnprofError("isolate is of one process: leave it out, or start without torchrun")
    return settings, rows


def report_of(runs: Sequence[TrainingRun], settings: Settings, interrupted: bool) -> Report:
    """The report of rows that have been through the stages, as far as they came."""
    for run in runs:
        if run.traceback:
            settings.progress.failed(run.name, run.traceback)
    rows = tuple(run.row for run in runs)
    of_rows = dict.fromkeys(note for run in runs for note in run.notes)
    return Report(
        rows=rows,
        environment=describe(settings.device) | of_processes(settings),
        notes=(*notes_on(rows, settings), *of_rows, *settings.notes),
        growth=tuple(growth(rows)),
        interrupted=interrupted,
    )

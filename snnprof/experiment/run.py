"""The main path: build, train and time, count, price, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnprof.core.environment import choose_device, describe
from snnprof.core.errors import SnnprofError
from snnprof.experiment.data_sets import load
from snnprof.experiment.isolation import KILLED, in_processes
from snnprof.experiment.notes import remarks
from snnprof.experiment.plan import NEURON, WEIGHTS, Request, once_each, plans
from snnprof.experiment.stages import (
    SILENT,
    Measuring,
    Progress,
    Setting,
    check_traces,
    fit_batch,
    measure_joules,
    result_of,
    step_profiles,
    trace_arms,
    train_arms,
    with_joules,
)
from snnprof.experiment.trainer import Recipe, steps_of
from snnprof.profiling.stepper import Execution
from snnprof.results import Report, ReportRow
from snnprof.results.scaling import growth

EPOCHS = 8
BATCH_SIZE = 64
LEARNING_RATE = 0.1
AUTO = "auto"


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
    isolate: bool = False,
    seed: int = 0,
    device: str = "auto",
    strict: bool = False,
    checkpoint: str | Path | None = None,
    progress: Progress = SILENT,
    **variants: object,
) -> Report:
    """Train a network in each mode, time it, count and price it, and put it side by side.

    Args:
        model: one of ours, or ``package.module:function`` (see
            :func:`~snnprof.experiment.model_source.find_builder`).
        neuron: a neuron or several, with variants: ``"hdlif+four_bit"``.
        weights, **variants: as :func:`snnprof.models.create`.
        modes: a training mode or several.
        timesteps: T, or several. Every neuron in every mode at every T is an arm.
        data: "digits" or "random".
        image_size: pixels; None for the data's own.
        epochs: 0 does not train.
        batch_size: samples per step; "auto" for the most that fit in memory.
        learning_rate: at the start of the annealing.
        energy: a convention or several to price under.
        repeats: time so many steps of every arm in a pass of its own (and memory in another,
            one arm at a time); None times the training itself.
        amp: "bf16" or "fp16" for mixed precision.
        compile: run the forward pass of training steps through torch.compile.
        channels_last: weights and images in that memory format.
        measure_energy: seconds to read an NVIDIA GPU's energy counter, per arm.
        trace: folder for traces of training steps, taken after all else.
        isolate: run each arm in a process of its own.
        seed: of weights, batches and random data.
        device: "auto", "cpu" or "cuda".
        strict: raise where a layer's input is not finite, instead of saying so.
        checkpoint: file of ``torch.save`` with the weights to start from.
        progress: told of every training step.

    Returns:
        One :class:`ReportRow` per arm, and what has to be said about them. An arm that runs
        out of memory says so, and the others go on.

    Raises:
        SnnprofError: a wrong name or value, before any training starts; a training that
            diverges.
    """
    arguments = {**locals(), **variants}  # as they were given
    request = Request.of(model, neuron, weights, modes, timesteps, checkpoint, seed, variants)
    where = choose_device(device)
    execution = Execution(amp, compile, channels_last)
    recipe = Recipe(epochs, _samples(batch_size), learning_rate)
    measuring = Measuring(
        once_each(energy), repeats, measure_energy, None if trace is None else Path(trace), strict
    )
    loaded = load(data, image_size, seed).to(where, execution.layout)
    setting = Setting(loaded, recipe, execution, measuring, where, seed, progress)
    steps_of(loaded, recipe)
    chosen = plans(request, loaded)
    check_traces(chosen, setting)
    fitted: tuple[str, ...] = ()
    if batch_size == AUTO:
        setting, note = fit_batch(chosen, setting)
        fitted = (note,)
    if isolate:
        return _isolated(arguments, request, setting, fitted)

    arms = train_arms(chosen, setting)
    profiles = step_profiles(chosen, arms, setting)
    results = [
        result_of(plan, arm, profile, setting)
        for plan, arm, profile in zip(chosen, arms, profiles, strict=True)
    ]
    if strict:
        refuse_non_finite(results)
    joules = measure_joules(chosen, arms, setting)  # these two train on: after the counting
    untraced = trace_arms(chosen, arms, setting)
    results = [with_joules(result, joules.get(result.name)) for result in results]
    return Report(
        rows=tuple(results),
        environment=describe(where),
        notes=(*remarks(results, setting, joules), *untraced, *fitted),
        growth=tuple(growth(results)),
    )


def _samples(batch_size: int | str) -> int:
    if batch_size == AUTO:
        return BATCH_SIZE  # until it is known what fits
    if isinstance(batch_size, str):
        raise SnnprofError(f"batch_size={batch_size!r}: must be a whole number, or 'auto'")
    return batch_size


def _isolated(
    arguments: dict[str, object], request: Request, setting: Setting, fitted: tuple[str, ...]
) -> Report:
    """The same, arm by arm, each in a process of its own."""
    left_out = ("variants", "isolate", "progress")
    given = {key: value for key, value in arguments.items() if key not in left_out}
    given["batch_size"] = setting.recipe.batch_size
    split = {
        "neuron": request.neurons,
        "timesteps": request.timesteps,
        "modes": request.modes,
    }
    setting.progress.start(len(request.neurons) * len(request.timesteps) * len(request.modes))

    def lost(neuron: str, timesteps: int, modes: str) -> ReportRow:
        """The row of a process that was killed."""
        return ReportRow(request.model, neuron, request.weights, modes, timesteps, failure=KILLED)

    report = in_processes(run, given, split, lost, setting.progress.advance)
    return Report(report.rows, report.environment, (*report.notes, *fitted), report.growth)


def refuse_non_finite(results: Sequence[ReportRow]) -> None:
    """Raise SnnprofError where a layer received NaN or infinity."""
    for result in results:
        if result.counts is not None and result.counts.non_finite:
            layers = ", ".join(result.counts.non_finite)
            raise SnnprofError(f"NaN or infinity in the input of {layers} ({result.name})")

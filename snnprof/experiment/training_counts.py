"""Counts of a training step, for energies of training: forward and backward, nothing updated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from snnprof.coherence.restore import undisturbed
from snnprof.counting.all_reduce import of_all_processes
from snnprof.counting.counter import SopCounter
from snnprof.energy.conventions import of_training
from snnprof.energy.dense_baseline import is_of_spikes
from snnprof.energy.pricing import price
from snnprof.experiment.settings import Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.results import CountResult
from snnprof.results.counts import merge_all
from snnprof.training.sequences import as_sequence
from snnprof.training.step_runner import StepRunner


def count_training(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Count and price a training step of every row, where an energy of training was asked for."""
    names = of_training(settings.energy)
    for run in runs:
        dense = run.row.baseline_of is not None
        asked = [name for name in names if not (dense and is_of_spikes(name))]
        if asked and run.meter is not None:
            stage = partial(_count, run, run.meter.runner, settings, asked)
            run.attempt(stage, settings.device, "counting a training step")


def _count(run: TrainingRun, runner: StepRunner, settings: Settings, names: Sequence[str]) -> None:
    counted = partial(_of_every_draw, run, runner, settings)
    several = settings.processes.several
    counts = of_all_processes(counted, True, group=None) if several else counted()
    run.record(
        training_counts=counts,
        training_energies=tuple(price(counts, name) for name in names),
    )
    run.notes.extend(_notes(run, settings.batch_size, counts.samples // settings.batch_size))


def _of_every_draw(run: TrainingRun, runner: StepRunner, settings: Settings) -> CountResult:
    """The counts of one step; of T, where the mode draws time steps, each drawn alike."""
    images, labels = runner.share(*settings.batch)
    sequence = as_sequence(images, labels, run.timesteps, run.setup.of_batches)
    samples, model = sequence.shape[1], runner.stepped.model
    parts: list[CountResult] = []
    steps = 1
    while len(parts) < steps:
        with (
            undisturbed(model),
            SopCounter(model, samples=samples, gradients=True) as counter,
        ):
            step = runner.rehearse(images, labels, moved_on=len(parts))
        steps = run.timesteps if step.drawn else 1
        parts.append(counter.result())
    return merge_all(parts)


def _notes(run: TrainingRun, samples: int, draws: int) -> Iterator[str]:
    yield (
        "Training energy: of one sample in a training step, forward and backward; SOPs, and zeros "
        f"of the gradients, counted on {samples} training samples with the row's weights, which "
        "stay as they are. No inference is in it."
    )
    if draws > 1:
        yield (
            f"{run.row.mode} draws its time steps: training energy is the mean of {draws} draws, "
            f"each of the T = {draws} steps drawn alike."
        )

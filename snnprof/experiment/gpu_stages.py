"""Stages that only an NVIDIA GPU has: snapshots of its allocator, NVTX ranges."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from snnprof.core.atomic_files import check_writable
from snnprof.core.errors import SnnprofError, reason_of
from snnprof.experiment.settings import Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.profiling.memory_snapshot import dumped_when_out_of_memory, recorded_memory
from snnprof.profiling.nvtx_ranges import mark_steps
from snnprof.profiling.step_memory import Failure, attempt_all
from snnprof.profiling.step_meter import StepMeter


def check_snapshot_folder(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Make the folder for snapshots, if one is asked for and they can be written there.

    Raises:
        SnnprofError: they cannot.
    """
    folder = settings.memory_snapshot
    if folder is None:
        return
    try:
        folder.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SnnprofError(f"memory_snapshot {str(folder)!r}: {reason_of(error)}") from error
    for run in runs:
        check_writable(snapshot_file(folder, run, settings.seed))


def snapshot_file(folder: Path, run: TrainingRun, seed: int) -> Path:
    """The file of a row: ``vgg5 lif fp32 stbp T4 seed 0.pickle``."""
    return folder / f"{run.name.replace('/', '-')} seed {seed}.pickle"


def snapshots_when_out_of_memory(settings: Settings) -> AbstractContextManager[None]:
    """A block that leaves a snapshot whenever memory runs out, where they are asked for."""
    folder = settings.memory_snapshot
    return nullcontext() if folder is None else dumped_when_out_of_memory(folder)


def record_snapshots(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Record the allocations of one training step of every row. The models train on."""
    folder = settings.memory_snapshot
    for run in runs:
        if folder is not None and run.meter is not None:
            file = snapshot_file(folder, run, settings.seed)
            step = partial(_record, run.meter, file, settings)
            if isinstance(done := attempt_all(step, settings.device), Failure):
                run.notes.append(f"Memory snapshot of {run.name}: {done.reason}.")


def _record(meter: StepMeter, file: Path, settings: Settings) -> None:
    with recorded_memory(file):
        meter.runner.run(*settings.batch)


def mark_ranges(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Run a few training steps of every row with NVTX ranges. The models train on."""
    for run in runs:
        if settings.nvtx and run.meter is not None:
            stepped = run.meter.runner.stepped
            marked = partial(
                mark_steps,
                partial(run.meter.runner.run, *settings.batch),
                name=run.name,
                model=stepped.model,
                timesteps=run.timesteps,
                steps_per_call=run.timesteps if stepped.sequence is not None else 1,
            )
            if isinstance(done := attempt_all(marked, settings.device), Failure):
                run.notes.append(f"No NVTX ranges of {run.name}: {done.reason}.")

"""The settings of an experiment: what was asked for, checked, and its data loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import ALONE, Processes, current_processes
from snnprof.energy.conventions import convention_names
from snnprof.energy.measured_joules import LEAST_WINDOW_S
from snnprof.experiment.baseline import Baseline, find_baseline
from snnprof.experiment.data import Batch, Data
from snnprof.experiment.data_sets import load
from snnprof.experiment.metrics import Metric, find_metric
from snnprof.experiment.model_source import ModelSource, find_builder
from snnprof.experiment.own_data import Loading, own_data
from snnprof.experiment.own_function import find_function, name_of
from snnprof.experiment.trainer import Recipe, count_steps
from snnprof.profiling.memory_snapshot import check_cuda
from snnprof.results import CoherenceSweep
from snnprof.results.training import EpochRecord
from snnprof.training.layouts import AUTO, LAYOUTS
from snnprof.training.losses import Loss, StepLoss, find_loss
from snnprof.training.modes import Mode, find_mode
from snnprof.training.sequences import samples_of

NEURON, WEIGHTS = "lif", "fp32"
EPOCHS = 8
BATCH_SIZE = 64
USUAL_MODES = ("stbp", "online")
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Progress:
    """Whom to tell of the work: nobody, if not said otherwise.

    Attributes:
        start: told of the training steps to come.
        advance: told of every one of them.
        measured: given all coherence that is measured so far, after every measurement.
        failed: given the name of a row that failed, and the traceback of its error.
        status: of a training, about once a second: the last loss and images per second.
        epoch: of a training, every epoch's record.
    """

    start: Callable[[int], None] = lambda total: None
    advance: Callable[[], None] = lambda: None
    measured: Callable[[CoherenceSweep], None] = lambda sweep: None
    failed: Callable[[str, str], None] = lambda name, traceback: None
    status: Callable[[float | None, float], None] = lambda loss, images_per_s: None
    epoch: Callable[[EpochRecord], None] = lambda record: None


NO_PROGRESS = Progress()


@dataclass(frozen=True)
class Settings:
    """Everything that was asked for, of all rows together.

    Attributes:
        source: what makes the model.
        neurons, weights, modes, timesteps, checkpoint, seed: as of :func:`snnprof.run`, each of
            several once.
        usual_modes: no modes were asked for: those that a network cannot be run in are left out.
        variants: of every neuron, and options of the network.
        data: whose batches come on the device.
        data_name: as it was asked for.
        batch: the first training batch: inputs and labels.
        recipe: of the training.
        layout: how the model takes its time steps, or "auto".
        loss: of every row; None for that of its mode.
        metric: of the outputs on the test samples; None for none.
        amp, compile, channels_last: how training steps run, as of :func:`snnprof.run`.
        energy: conventions to price the counts under.
        repeats: timed steps in a pass of their own; None times the training itself.
        latency: time inference too.
        joules_s: seconds of the GPU's energy counter per row; None for none.
        trace: folder for traces; None for none.
        save: folder for trained weights; None for none.
        memory_snapshot: folder for snapshots of CUDA's allocator; None for none.
        nvtx: run a few steps of every row with NVTX ranges.
        strict: a row fails where a layer's input is not finite, instead of saying so.
        automatic_batch: the batch is to be the largest that fits.
        processes: that share the run.
        sync_bn: batch norms over the samples of all of them.
        fsdp: parameters, gradients and optimiser states divided among them.
        device: where everything runs.
        progress: whom to tell.
        baseline: what makes the network of the dense row; None for no such row.
        notes: what has to be said of the settings.

    Raises:
        SnnprofError: a value that cannot be.
    """

    source: ModelSource
    neurons: tuple[str, ...]
    weights: str
    modes: tuple[Mode, ...]
    usual_modes: bool
    timesteps: tuple[int, ...]
    checkpoint: str | None
    seed: int
    variants: Mapping[str, object]
    data: Data
    data_name: str
    batch: Batch
    recipe: Recipe
    device: torch.device
    progress: Progress
    layout: str = AUTO
    loss: str | Loss | None = None
    metric: Metric | None = None
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    energy: tuple[str, ...] = ()
    repeats: int | None = None
    latency: bool = False
    joules_s: float | None = None
    trace: Path | None = None
    save: Path | None = None
    memory_snapshot: Path | None = None
    nvtx: bool = False
    strict: bool = False
    automatic_batch: bool = False
    baseline: Baseline | None = None
    processes: Processes = ALONE
    sync_bn: bool = False
    fsdp: bool = False
    notes: tuple[str, ...] = ()

    @property
    def batch_size(self) -> int:
        """Samples of a training step, of all processes: no more than there are."""
        return samples_of(*self.batch, self.timesteps[0])

    def with_batch_size(self, size: int) -> Settings:
        """The same settings with batches of another size."""
        recipe = replace(self.recipe, batch_size=size)
        return replace(self, recipe=recipe, batch=self.data.first(size))


def check_settings(
    *,
    model: str | Callable[..., Any],
    neuron: str | Sequence[str],
    weights: str,
    modes: str | Sequence[str] | None,
    timesteps: int | Sequence[int],
    data: object,
    image_size: int | None,
    data_dir: str | Path | None = None,
    epochs: int,
    batch_size: int | str | None,
    learning_rate: float | None,
    seed: int,
    device: str,
    checkpoint: str | Path | None,
    variants: Mapping[str, object],
    progress: Progress,
    layout: str = AUTO,
    loss: str | StepLoss | Loss | None = None,
    metric: str | Callable[..., Any] | None = None,
    optimizer: str | Callable[..., Any] | None = None,
    schedule: str | Callable[..., Any] | None = None,
    steps: int | None = None,
    workers: int = 0,
    energy: str | Sequence[str] = (),
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
    strict: bool = False,
    baseline: str | Callable[..., Any] | None = None,
    sync_bn: bool = False,
    fsdp: bool = False,
    **of_recipe: Any,
) -> Settings:
    """The settings of :func:`snnprof.run`'s arguments, one or several where it takes several.

    ``of_recipe``: momentum, nesterov, weight_decay and warmup_epochs of a
    :class:`~snnprof.experiment.trainer.Recipe`.

    Raises:
        SnnprofError: a wrong name or value, or more samples in a batch than there are images.
    """
    source = find_builder(model)  # first: its module may register modes, data and the like
    named = _check_names(neuron, USUAL_MODES if modes is None else modes, timesteps)
    if layout != AUTO:
        LAYOUTS.find(layout)
    where = choose_device(device)
    for option, given in (("memory_snapshot", memory_snapshot), ("nvtx", nvtx or None)):
        if given is not None:
            check_cuda(option, where)
    check_seed(seed)
    prices = once_each([name for given in once_each(energy) for name in convention_names(given)])
    _check_measuring(repeats, measure_energy)
    chosen_loss = _loss(loss)
    own_recipe = _own_recipe(optimizer, schedule, learning_rate) | of_recipe
    size = _samples(batch_size)
    usual = BATCH_SIZE if size is None else size
    Recipe(epochs, usual, **own_recipe)  # refuses wrong numbers
    memory_format = torch.channels_last if channels_last else torch.preserve_format
    loading = Loading(size, workers, steps, seed)
    loaded = _loaded(data, image_size, data_dir, loading, named["timesteps"])
    loaded = loaded.to(where, memory_format)
    recipe = Recipe(epochs, loaded.batch_size or usual, **own_recipe)
    if source.ours and epochs and recipe.batch_size == 1:
        raise SnnprofError("batch_size=1: batch norm needs at least 2 samples to train on")
    count_steps(loaded, recipe)
    batch = loaded.first(recipe.batch_size)
    return Settings(
        **named,
        usual_modes=modes is None,
        source=source,
        weights=weights,
        checkpoint=None if checkpoint is None else str(checkpoint),
        seed=seed,
        variants=variants,
        data=loaded,
        data_name=data if isinstance(data, str) else name_of(data),
        batch=batch,
        recipe=recipe,
        layout=layout,
        loss=chosen_loss,
        metric=find_metric(metric, batch[1], loaded.labelled),
        device=where,
        progress=progress,
        amp=amp,
        compile=compile,
        channels_last=channels_last,
        energy=prices,
        repeats=repeats,
        latency=latency,
        joules_s=measure_energy,
        trace=None if trace is None else Path(trace),
        save=None if save is None else Path(save),
        memory_snapshot=None if memory_snapshot is None else Path(memory_snapshot),
        nvtx=nvtx,
        strict=strict,
        processes=current_processes(),
        sync_bn=sync_bn,
        fsdp=fsdp,
        automatic_batch=_is_automatic(batch_size, loaded),
        baseline=find_baseline(baseline, source, variants, named["timesteps"], prices),
        notes=loaded.notes,
    )


def check_seed(seed: object) -> None:
    """Raise SnnprofError for what no generator takes."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise SnnprofError(f"seed={seed!r}: must be a whole number from 0 to 2^32 - 1")


def _loaded(
    data: object,
    image_size: int | None,
    data_dir: str | Path | None,
    loading: Loading,
    timesteps: Any,
) -> Data:
    """The data of a name, of ``package.module:function``, or of what the user gave."""
    if loading.steps is not None and loading.steps < 1:
        raise SnnprofError(f"steps={loading.steps}: must be at least 1")
    if loading.workers < 0:
        raise SnnprofError(f"workers={loading.workers}: must be 0 or more")
    if isinstance(data, str) and ":" not in data:
        if loading.steps is not None:
            raise SnnprofError(
                f"steps={loading.steps}: data {data!r} has an end, its epochs are whole passes: "
                "leave steps out"
            )
        loaded: Data = load(
            data,
            image_size,
            loading.seed,
            data_dir=data_dir,
            timesteps=timesteps,
            loading=loading,
        )
        return loaded
    name = data if isinstance(data, str) else name_of(data)
    if data_dir is not None:
        raise SnnprofError(
            f"data_dir={str(data_dir)!r}: data {name!r} are your own, so it would be ignored: "
            "leave data_dir out"
        )
    given = find_function("data", data) if isinstance(data, str) else data
    settings = {"image_size": image_size, "timesteps": timesteps[0], "seed": loading.seed}
    return own_data(given, loading, name, **settings)


def _loss(given: str | StepLoss | Loss | None) -> str | Loss | None:
    """The loss that was asked for; ``package.module:function`` is imported."""
    if given is None:
        return None
    name = given if isinstance(given, str) and ":" in given else None
    if name is not None:
        given = find_function("loss", name)
    if isinstance(given, type):
        raise SnnprofError(
            f"loss {name or given.__name__!r} is a class: give an instance of it, or a function"
        )
    found = find_loss(given)
    return found if name is None else replace(found, name=name)


def _own_recipe(
    optimizer: str | Callable[..., Any] | None,
    schedule: str | Callable[..., Any] | None,
    learning_rate: float | None,
) -> dict[str, Any]:
    """Functions for the optimiser and the schedule, and the learning rate."""
    given = {"optimizer": optimizer, "schedule": schedule}
    for name, function in given.items():
        if isinstance(function, str):
            if ":" not in function:
                raise SnnprofError(f"{name}={function!r}: give package.module:function")
            given[name] = find_function(name, function)
        elif function is not None and not callable(function):
            raise SnnprofError(f"{name}={function!r}: give a function, or package.module:function")
    make = given["optimizer"]
    if make is not None and learning_rate is not None:
        raise SnnprofError(
            f"learning_rate={learning_rate} would be ignored: optimizer {name_of(make)!r} has its "
            "own; leave it out"
        )
    return {
        "learning_rate": LEARNING_RATE if learning_rate is None else learning_rate,
        "own_optimizer": make,
        "own_schedule": given["schedule"],
    }


def _is_automatic(batch_size: int | str | None, data: Data) -> bool:
    if batch_size != AUTO:
        return False
    if data.batch_size is not None:
        raise SnnprofError(
            f"batch_size='auto' needs data in memory, as 'digits' are; {data.description}: give a "
            "number, or leave it out"
        )
    return True


def _check_names(
    neuron: str | Sequence[str],
    modes: str | Sequence[str],
    timesteps: int | Sequence[int],
) -> dict[str, Any]:
    """Neurons, modes and T, each once; the modes looked up."""
    several = {
        "neuron": once_each(neuron),
        "mode": once_each(modes),
        "number of time steps": once_each(timesteps),
    }
    for what, given in several.items():
        if not given:
            raise SnnprofError(f"no {what} was given: there is nothing to run")
    neurons, names, counts = several.values()
    for steps in counts:
        if not isinstance(steps, int) or steps < 1:
            raise SnnprofError(f"timesteps={steps}: must be at least 1, and whole")
    found = tuple(find_mode(name) for name in names)
    for mode in found:
        for steps in counts:
            mode.check(steps)
    return {"neurons": neurons, "modes": found, "timesteps": counts}


def _check_measuring(repeats: int | None, joules_s: float | None) -> None:
    if repeats is not None and repeats < 1:
        raise SnnprofError(f"repeats={repeats}: must be at least 1")
    if joules_s is not None and not (LEAST_WINDOW_S <= joules_s < math.inf):
        raise SnnprofError(
            f"measure_energy={joules_s}: must be 1 second or more, and finite; the "
            "counter moves every 20 to 100 ms, so that 10 seconds are good for 1 %"
        )


def _samples(batch_size: int | str | None) -> int | None:
    """Samples of a batch; None where none were asked for, or as many as fit."""
    if batch_size is None or batch_size == AUTO:
        return None
    if isinstance(batch_size, str):
        raise SnnprofError(f"batch_size={batch_size!r}: must be a whole number, or 'auto'")
    return batch_size


def once_each(given: Any) -> tuple[Any, ...]:
    """One thing or several, each once, in order."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return tuple(dict.fromkeys(given)) if several else (given,)

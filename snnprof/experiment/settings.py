"""The settings of an experiment: what was asked for, checked; then with its data loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import ALONE, Processes, current_processes
from snnprof.energy.conventions import convention_names
from snnprof.energy.measured_joules import LEAST_WINDOW_S
from snnprof.experiment.baseline import Baseline, find_baseline
from snnprof.experiment.checkpoint import read_file
from snnprof.experiment.data import Batch, Data
from snnprof.experiment.lookups import (
    check_names,
    find_data,
    named_loss,
    once_each,
    own_recipe,
)
from snnprof.experiment.metrics import Metric, find_metric, named_metric
from snnprof.experiment.model_source import ModelSource, find_builder
from snnprof.experiment.own_data import Loading
from snnprof.experiment.own_function import name_of
from snnprof.experiment.random_state import check_seed
from snnprof.experiment.trainer import Recipe, count_steps
from snnprof.models import look_up
from snnprof.profiling.memory_snapshot import check_cuda
from snnprof.results import CoherenceSweep
from snnprof.results.training import EpochRecord
from snnprof.training.layouts import AUTO, LAYOUTS
from snnprof.training.losses import Loss, StepLoss
from snnprof.training.modes import Mode
from snnprof.training.sequences import samples_of
from snnprof.training.step_runner import StepSetup

NEURON, WEIGHTS = "lif", "fp32"
EPOCHS = 8
BATCH_SIZE = 64
USUAL_MODES = ("stbp", "online")
LEARNING_RATE = 0.1
_A_WIDTH = 64  # channels of the layer that neurons are tried in


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
        say: given a sentence that is to be read before the work begins.
    """

    start: Callable[[int], None] = lambda total: None
    advance: Callable[[], None] = lambda: None
    measured: Callable[[CoherenceSweep], None] = lambda sweep: None
    failed: Callable[[str, str], None] = lambda name, traceback: None
    status: Callable[[float | None, float], None] = lambda loss, images_per_s: None
    epoch: Callable[[EpochRecord], None] = lambda record: None
    say: Callable[[str], None] = lambda sentence: None


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
) -> Callable[[], Settings]:
    """Check :func:`snnprof.run`'s arguments, one or several where it takes several.

    ``of_recipe``: momentum, nesterov, weight_decay and warmup_epochs of a
    :class:`~snnprof.experiment.trainer.Recipe`.

    Returns:
        What loads the data, and makes the settings with them; it raises SnnprofError for data
        that cannot be loaded, and for more samples in a batch than there are images.

    Raises:
        SnnprofError: a wrong name or value, as far as it shows without the data.
    """
    source = find_builder(model)  # first: its module may register modes, data and the like
    named = check_names(neuron, USUAL_MODES if modes is None else modes, timesteps)
    _check_builder(source, named["neurons"], weights, named["timesteps"][0], variants)
    if layout != AUTO:
        LAYOUTS.find(layout)
    where = choose_device(device)
    for option, given in (("memory_snapshot", memory_snapshot), ("nvtx", nvtx or None)):
        if given is not None:
            check_cuda(option, where)
    check_seed(seed)
    conventions = map(convention_names, once_each("energy", energy))
    prices = tuple(dict.fromkeys(chain.from_iterable(conventions)))  # a file may hold several
    _check_measuring(repeats, measure_energy)
    chosen_loss = named_loss(loss)
    for mode, steps_of_time in product(named["modes"], named["timesteps"]):  # refuses wrong ones
        StepSetup(
            source, mode, steps_of_time, amp=amp, compile=compile, channels_last=channels_last,
            sync_bn=sync_bn, fsdp=fsdp,
        )  # fmt: skip
    size = _samples(batch_size)
    usual = BATCH_SIZE if size is None else size
    of_recipe |= own_recipe(optimizer, schedule, learning_rate)
    recipe = Recipe(epochs, usual, **{"learning_rate": LEARNING_RATE} | of_recipe)
    if checkpoint is not None and not Path(checkpoint).is_file():
        read_file(checkpoint)  # says why it cannot
    chosen_metric = named_metric(metric)
    loading = Loading(size, workers, steps, seed)
    load = find_data(data, image_size, data_dir, loading, named["timesteps"])
    make = partial(
        Settings,
        **named,
        usual_modes=modes is None,
        source=source,
        weights=weights,
        checkpoint=None if checkpoint is None else str(checkpoint),
        seed=seed,
        variants=variants,
        data_name=data if isinstance(data, str) else name_of(data),
        layout=layout,
        loss=chosen_loss,
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
        baseline=find_baseline(baseline, source, variants, named["timesteps"], prices),
    )

    def with_data() -> Settings:
        memory_format = torch.channels_last if channels_last else torch.preserve_format
        loaded = load().to(where, memory_format)
        fitting = replace(recipe, batch_size=loaded.batch_size or usual)
        if source.ours and epochs and fitting.batch_size == 1:
            raise SnnprofError("batch_size=1: batch norm needs at least 2 samples to train on")
        count_steps(loaded, fitting)
        batch = loaded.first(fitting.batch_size)
        return make(
            data=loaded,
            batch=batch,
            recipe=fitting,
            metric=find_metric(chosen_metric, batch[1], loaded.labelled),
            automatic_batch=_is_automatic(batch_size, loaded),
            notes=loaded.notes,
        )

    return with_data


def _check_builder(
    source: ModelSource,
    neurons: Sequence[str],
    weights: str,
    timesteps: int,
    variants: Mapping[str, object],
) -> None:
    """Look up what a network is to be made of, as far as that needs no data.

    Raises:
        SnnprofError: our network has no such neuron, weights or variant, or somebody's own
            builder no such keyword, which would be ignored.
    """
    if source.ours:
        for neuron in neurons:
            parts = look_up(
                source.name, neuron=neuron, weights=weights, timesteps=timesteps, **variants
            )
            with torch.random.fork_rng():
                parts.make_neuron(_A_WIDTH)  # what only a layer refuses
        return
    asked = {"neuron": ", ".join(neurons), "weights": weights}
    usual = {"neuron": NEURON, "weights": WEIGHTS}
    for keyword, given in {**asked, **variants}.items():
        if usual.get(keyword) != given and not source.takes(keyword):
            raise SnnprofError(
                f"model {source.name!r} has no parameter {keyword!r}, so {keyword}={given} would "
                "be ignored: leave it out, or add the parameter to the builder"
            )


def _is_automatic(batch_size: int | str | None, data: Data) -> bool:
    if batch_size != AUTO:
        return False
    if data.batch_size is not None:
        raise SnnprofError(
            f"batch_size='auto' needs data in memory, as 'digits' are; {data.description}: give a "
            "number, or leave it out"
        )
    return True


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

"""The settings of an experiment: what was asked for, checked, and its data loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.energy.conventions import CONVENTIONS
from snnprof.energy.measured_joules import LEAST_WINDOW_S
from snnprof.experiment.data_sets import Dataset, load
from snnprof.experiment.model_source import ModelSource, find_builder
from snnprof.experiment.trainer import Recipe, count_steps
from snnprof.results import CoherenceSweep
from snnprof.training.modes import Mode, find_mode

NEURON, WEIGHTS = "lif", "fp32"
EPOCHS = 8
BATCH_SIZE = 64
LEARNING_RATE = 0.1
AUTO = "auto"


@dataclass(frozen=True)
class Progress:
    """Whom to tell of the work: nobody, if not said otherwise.

    Attributes:
        start: told of the training steps to come.
        advance: told of every one of them.
        measured: given all coherence that is measured so far, after every measurement.
        failed: given the name of a row that failed, and the traceback of its error.
    """

    start: Callable[[int], None] = lambda total: None
    advance: Callable[[], None] = lambda: None
    measured: Callable[[CoherenceSweep], None] = lambda sweep: None
    failed: Callable[[str, str], None] = lambda name, traceback: None


NO_PROGRESS = Progress()


@dataclass(frozen=True)
class Settings:
    """Everything that was asked for, of all rows together.

    Attributes:
        source: what makes the model.
        neurons, weights, modes, timesteps, checkpoint, seed: as of :func:`snnprof.run`, each of
            several once.
        variants: of every neuron, and options of the network.
        data: loaded, on the device.
        recipe: of the training.
        amp, compile, channels_last: how training steps run, as of :func:`snnprof.run`.
        energy: conventions to price the counts under.
        repeats: timed steps in a pass of their own; None times the training itself.
        joules_s: seconds of the GPU's energy counter per row; None for none.
        trace: folder for traces; None for none.
        save: folder for trained weights; None for none.
        strict: a row fails where a layer's input is not finite, instead of saying so.
        automatic_batch: the batch is to be the largest that fits.
        device: where everything runs.
        progress: whom to tell.
        notes: what has to be said of the settings.

    Raises:
        SnnprofError: a value that cannot be.
    """

    source: ModelSource
    neurons: tuple[str, ...]
    weights: str
    modes: tuple[Mode, ...]
    timesteps: tuple[int, ...]
    checkpoint: str | None
    seed: int
    variants: Mapping[str, object]
    data: Dataset
    recipe: Recipe
    device: torch.device
    progress: Progress
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    energy: tuple[str, ...] = ()
    repeats: int | None = None
    joules_s: float | None = None
    trace: Path | None = None
    save: Path | None = None
    strict: bool = False
    automatic_batch: bool = False
    notes: tuple[str, ...] = ()

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """The first training images, and their labels."""
        size = self.recipe.batch_size
        return self.data.train_images[:size], self.data.train_labels[:size]

    @property
    def batch_size(self) -> int:
        """Samples of a training step: no more than there are."""
        return len(self.batch[1])


def check_settings(
    *,
    model: str,
    neuron: str | Sequence[str],
    weights: str,
    modes: str | Sequence[str],
    timesteps: int | Sequence[int],
    data: str,
    image_size: int | None,
    epochs: int,
    batch_size: int | str,
    learning_rate: float,
    seed: int,
    device: str,
    checkpoint: str | Path | None,
    variants: Mapping[str, object],
    progress: Progress,
    energy: str | Sequence[str] = (),
    repeats: int | None = None,
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    measure_energy: float | None = None,
    trace: str | Path | None = None,
    save: str | Path | None = None,
    strict: bool = False,
) -> Settings:
    """The settings of :func:`snnprof.run`'s arguments, one or several where it takes several.

    Raises:
        SnnprofError: a wrong name or value, or more samples in a batch than there are images.
    """
    if not isinstance(model, str):
        raise SnnprofError(f"model={model!r}: give a name, or package.module:function")
    source = find_builder(model)  # first: its module may register modes, data and the like
    named = _check_names(neuron, modes, timesteps)
    where = choose_device(device)
    recipe = Recipe(epochs, _samples(batch_size), learning_rate)
    conventions = once_each(energy)
    _check_measuring(conventions, repeats, measure_energy)
    layout = torch.channels_last if channels_last else torch.preserve_format
    loaded = load(data, image_size, seed).to(where, layout)
    count_steps(loaded, recipe)
    return Settings(
        **named,
        source=source,
        weights=weights,
        checkpoint=None if checkpoint is None else str(checkpoint),
        seed=seed,
        variants=variants,
        data=loaded,
        recipe=recipe,
        device=where,
        progress=progress,
        amp=amp,
        compile=compile,
        channels_last=channels_last,
        energy=conventions,
        repeats=repeats,
        joules_s=measure_energy,
        trace=None if trace is None else Path(trace),
        save=None if save is None else Path(save),
        strict=strict,
        automatic_batch=batch_size == AUTO,
    )


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


def _check_measuring(energy: Sequence[str], repeats: int | None, joules_s: float | None) -> None:
    for name in energy:
        CONVENTIONS.find(name)
    if repeats is not None and repeats < 1:
        raise SnnprofError(f"repeats={repeats}: must be at least 1")
    if joules_s is not None and not (LEAST_WINDOW_S <= joules_s < math.inf):
        raise SnnprofError(
            f"measure_energy={joules_s}: must be 1 second or more, and finite; the "
            "counter moves every 20 to 100 ms, so that 10 seconds are good for 1 %"
        )


def _samples(batch_size: int | str) -> int:
    if batch_size == AUTO:
        return BATCH_SIZE  # until it is known what fits
    if isinstance(batch_size, str):
        raise SnnprofError(f"batch_size={batch_size!r}: must be a whole number, or 'auto'")
    return batch_size


def once_each(given: Any) -> tuple[Any, ...]:
    """One thing or several, each once, in order."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return tuple(dict.fromkeys(given)) if several else (given,)

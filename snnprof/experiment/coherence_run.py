"""Coherence of networks built to order, at several T and over the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from snnprof.coherence.measure import chosen_layers, coherence
from snnprof.coherence.neuron_layers import neuron_layers
from snnprof.core.environment import describe
from snnprof.core.errors import SnnprofError
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.settings import (
    LEARNING_RATE,
    NO_PROGRESS,
    Progress,
    Settings,
    check_settings,
)
from snnprof.experiment.settings import NEURON as USUAL_NEURON
from snnprof.experiment.trainer import check_batch, count_steps, train_epochs
from snnprof.experiment.training_run import TrainingRun
from snnprof.profiling.step_memory import OutOfMemory
from snnprof.results import CoherenceResult, CoherenceSweep
from snnprof.training.adapters import adapt
from snnprof.training.losses import LOSSES
from snnprof.training.stepped_model import SteppedModel

MODEL = "vgg5"
NEURON = "hdlif"


def run_coherence(
    model: str = MODEL,
    *,
    neuron: str | None = None,
    weights: str = "fp32",
    timesteps: int | Sequence[int] = 4,
    data: str = "digits",
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    batch_size: int | None = None,
    layers: str | None = None,
    loss: str = "sum",
    online_loss: str | None = None,
    one_layer_at_a_time: bool = False,
    epochs: int = 0,
    mode: str = "stbp",
    learning_rate: float = LEARNING_RATE,
    during_training: bool = False,
    seed: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    progress: Progress = NO_PROGRESS,
    **variants: object,
) -> CoherenceSweep:
    """Build a network for each T, perhaps train it, and measure its gradients' coherence.

    Measured in training mode, on the first ``batch_size`` training images. The training is that
    of :func:`snnprof.run`.

    Args:
        model: one of ours, or ``package.module:function``.
        neuron: as of :func:`snnprof.models.create`; None for "hdlif".
        weights, **variants: likewise.
        timesteps: T, one or several: a network each, from the same seed.
        data, image_size, data_dir, seed, device, checkpoint: as :func:`snnprof.run`.
        batch_size: samples of the measurement, and of a training step; None as there.
        layers, loss, online_loss, one_layer_at_a_time: as :func:`snnprof.coherence`; losses by
            name.
        epochs: of training before the measurement; 0 for none.
        mode: that the network is trained in.
        learning_rate: at the start of the annealing.
        during_training: measure before the training and after every epoch, not only at the end.
        progress: told of the work as it goes.

    Raises:
        SnnprofError: a wrong name or value, before anything is trained; as
            :func:`snnprof.coherence`; a training that diverges.
    """
    if neuron is None:  # somebody's own builder decides it
        neuron = USUAL_NEURON if ":" in model else NEURON
    for name in (loss, online_loss):
        if name is not None:
            LOSSES.find(name)
    _check_training(epochs, batch_size, during_training)
    settings = check_settings(
        model=model,
        neuron=neuron,
        weights=weights,
        modes=mode,
        timesteps=timesteps,
        data=data,
        image_size=image_size,
        data_dir=data_dir,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        variants=variants,
        progress=progress,
    )()
    check_batch(settings.data, settings.recipe)  # measured on, also without training
    rows = plan_rows(settings)
    with torch.random.fork_rng():
        for row in rows:  # a name that is wrong: now, not after training
            chosen_layers(neuron_layers(in_one_call(adapt(row.setup.build()))), layers)

    measure = partial(
        coherence,
        layers=layers,
        loss=loss,
        online_loss=online_loss,
        one_layer_at_a_time=one_layer_at_a_time,
    )
    progress.start(count_steps(settings.data, settings.recipe) * len(rows))
    sweep = CoherenceSweep(
        results=(),
        model=rows[0].row.model,
        neuron=rows[0].row.neuron,
        weights=rows[0].row.weights,
        mode=mode if epochs else None,
        followed=during_training,
        environment=describe(settings.device),
        notes=tuple(_notes(settings, mode)),
    )
    with torch.random.fork_rng():
        for row in rows:
            for result in _course(row, settings, measure, during_training):
                sweep = replace(sweep, results=(*sweep.results, result))
                progress.measured(sweep)
    return sweep


def _course(
    row: TrainingRun,
    settings: Settings,
    measure: Callable[..., CoherenceResult],
    during_training: bool,
) -> Iterator[CoherenceResult]:
    """The measurements of one network: untrained, after each epoch or at the end, as asked for."""
    epochs = settings.recipe.epochs
    steps = count_steps(settings.data, settings.recipe)
    row.make(
        settings.device,
        settings.seed,
        lambda optimizer: settings.recipe.schedule(optimizer, steps),
        timed=False,
    )
    if row.meter is None:
        raise _failed(row, settings)
    x, y = settings.batch
    sequence = x.expand(row.timesteps, *x.shape)
    measure = partial(measure, in_one_call(row.meter.runner.stepped), sequence, y)
    if during_training or not epochs:
        yield replace(measure(label="epoch 0" if during_training else None), epoch=0)
    trained = train_epochs(
        [row], settings.data, settings.recipe, settings.seed, settings.progress.advance
    )
    for epoch in trained:
        if row.row.failure:
            raise _failed(row, settings)
        if during_training or epoch == epochs:
            result = measure(label=f"epoch {epoch}" if during_training else None)
            yield replace(result, epoch=epoch, training_loss=row.loss)


def _failed(row: TrainingRun, settings: Settings) -> SnnprofError:
    settings.progress.failed(row.name, row.traceback)
    advice = ": try a smaller batch_size" if row.row.failure == OutOfMemory().reason else ""
    return SnnprofError(f"T={row.timesteps}: {row.row.failure}{advice}")


class Unrolled(nn.Module):
    """A model that is called once per time step, as one call from [T, B, ...]."""

    def __init__(self, stepped: SteppedModel) -> None:
        super().__init__()
        self.module = stepped.model
        self._stepped = stepped

    def forward(self, sequence: Tensor) -> Tensor:
        """All time steps, from rest: [T, B, classes]."""
        self._stepped.reset()
        return self._stepped.run_sequence(sequence)


def in_one_call(stepped: SteppedModel) -> nn.Module:
    """The module that runs a whole sequence from rest in one call."""
    whole: bool = stepped.sequence is stepped.model
    return stepped.model if whole else Unrolled(stepped)


def _check_training(epochs: int, batch_size: int | None, during_training: bool) -> None:
    if during_training and not epochs:
        raise SnnprofError("during_training with epochs=0: there is no training; give epochs")
    if batch_size == 1:
        raise SnnprofError("batch_size=1: batch norm needs at least 2 samples")


def _notes(settings: Settings, mode: str) -> Iterator[str]:
    """Sentences on what was built, trained and measured on."""
    recipe = settings.recipe
    yield (
        f"Data: {settings.data.description}. Measured on the first {recipe.batch_size} training "
        f"images, each shown for T steps; seed {settings.seed}."
    )
    if settings.checkpoint is not None:
        yield f"Weights loaded from {settings.checkpoint}."
    if recipe.epochs:
        yield (
            f"Training: mode {mode}, epochs {recipe.epochs}, batch {recipe.batch_size}, SGD "
            f"(learning rate {recipe.learning_rate:g}, Nesterov momentum {recipe.momentum:g}, "
            f"weight decay {recipe.weight_decay:g}), cosine annealing; one run per T, incomplete "
            "batches dropped."
        )
    elif settings.checkpoint is None:
        yield "The weights are untrained (0 epochs)."

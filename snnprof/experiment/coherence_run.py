"""Coherence of networks built to order, at several T and over the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from snnprof.coherence.measure import chosen_layers, coherence
from snnprof.coherence.neuron_layers import neuron_layers
from snnprof.core.environment import choose_device, describe
from snnprof.core.errors import SnnprofError
from snnprof.experiment.data_sets import Dataset, load
from snnprof.experiment.plan import NEURON as USUAL_NEURON
from snnprof.experiment.plan import Plan, Request, plans
from snnprof.experiment.trainer import Arm, Recipe, steps_of, train_epochs
from snnprof.profiling.stepper import Stepper
from snnprof.results import CoherenceResult, CoherenceSweep
from snnprof.training.adapters import SteppedModel, adapt
from snnprof.training.losses import LOSSES

MODEL = "vgg5"
NEURON = "hdlif"
BATCH_SIZE = 64
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Watcher:
    """What to tell of the work: nothing, if not said otherwise.

    Attributes:
        start: told of the training steps to come.
        advance: told of every one of them.
        measured: given all that is measured so far, after every measurement.
    """

    start: Callable[[int], None] = lambda total: None
    advance: Callable[[], None] = lambda: None
    measured: Callable[[CoherenceSweep], None] = lambda sweep: None


def follow(
    model: str = MODEL,
    *,
    neuron: str | None = None,
    weights: str = "fp32",
    timesteps: int | Sequence[int] = 4,
    data: str = "digits",
    image_size: int | None = None,
    batch_size: int = BATCH_SIZE,
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
    watcher: Watcher | None = None,
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
        data, image_size, seed, device, checkpoint: as :func:`snnprof.run`.
        batch_size: samples of the measurement, and of a training step.
        layers, loss, online_loss, one_layer_at_a_time: as :func:`snnprof.coherence`; losses by
            name.
        epochs: of training before the measurement; 0 for none.
        mode: that the network is trained in.
        learning_rate: at the start of the annealing.
        during_training: measure before the training and after every epoch, not only at the end.
        watcher: told of the work as it goes.

    Raises:
        SnnprofError: a wrong name or value, before anything is trained; as
            :func:`snnprof.coherence`; a training that diverges.
    """
    if neuron is None:  # somebody's own builder decides it
        neuron = USUAL_NEURON if ":" in model else NEURON
    request = Request.of(model, neuron, weights, mode, timesteps, checkpoint, seed, variants)
    for name in (loss, online_loss):
        if name is not None:
            LOSSES.find(name)
    recipe = _checked_recipe(Recipe(epochs, batch_size, learning_rate), during_training)
    where = choose_device(device)
    loaded = load(data, image_size, seed).to(where)
    total = steps_of(loaded, recipe)
    x, y = _first(loaded, batch_size)
    watcher = Watcher() if watcher is None else watcher
    chosen = plans(request, loaded)
    for plan in chosen:  # a name that is wrong: now, not after training
        chosen_layers(neuron_layers(in_one_call(adapt(plan.build()))), layers)

    def course(plan: Plan) -> Iterator[CoherenceResult]:
        """The measurements of one network."""
        stepper = Stepper(
            plan.build(), mode, plan.timesteps, recipe.optimizer, where, seed=request.seed
        )
        arm = Arm(stepper, total)
        measure = partial(
            coherence,
            in_one_call(stepper.stepped),
            x.expand(plan.timesteps, *x.shape),
            y,
            layers=layers,
            loss=loss,
            online_loss=online_loss,
            one_layer_at_a_time=one_layer_at_a_time,
        )
        if during_training or not epochs:
            yield replace(measure(label="epoch 0" if during_training else None), epoch=0)
        for epoch in train_epochs([arm], loaded, recipe, seed, watcher.advance):
            if arm.failure:
                raise SnnprofError(f"T={plan.timesteps}: {arm.failure}: try a smaller batch_size")
            if during_training or epoch == epochs:
                result = measure(label=f"epoch {epoch}" if during_training else None)
                yield replace(result, epoch=epoch, training_loss=arm.loss)

    watcher.start(total * len(chosen))
    sweep = CoherenceSweep(
        results=(),
        model=chosen[0].model,
        neuron=chosen[0].neuron,
        weights=chosen[0].weights,
        mode=mode if epochs else None,
        followed=during_training,
        environment=describe(where),
        notes=tuple(_notes(loaded, recipe, mode, seed, checkpoint)),
    )
    with torch.random.fork_rng():
        for plan in chosen:
            for result in course(plan):
                sweep = replace(sweep, results=(*sweep.results, result))
                watcher.measured(sweep)
    return sweep


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
    """What runs a whole sequence from rest in one call."""
    whole: bool = stepped.sequence is stepped.model
    return stepped.model if whole else Unrolled(stepped)


def _checked_recipe(recipe: Recipe, during_training: bool) -> Recipe:
    if during_training and not recipe.epochs:
        raise SnnprofError("during_training with epochs=0: there is no training; give epochs")
    if recipe.batch_size == 1:
        raise SnnprofError("batch_size=1: batch norm needs at least 2 samples")
    return recipe


def _first(data: Dataset, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first training images and their labels."""
    images = len(data.train_labels)
    if count > images:
        raise SnnprofError(f"batch_size={count} is more than the {images} training images")
    return data.train_images[:count], data.train_labels[:count]


def _notes(
    data: Dataset, recipe: Recipe, mode: str, seed: int, checkpoint: str | Path | None
) -> Iterator[str]:
    """What was built, trained and measured on."""
    yield (
        f"Data: {data.description}. Measured on the first {recipe.batch_size} training images, "
        f"each shown for T steps; seed {seed}."
    )
    if checkpoint is not None:
        yield f"Weights loaded from {checkpoint}."
    if recipe.epochs:
        yield (
            f"Training: mode {mode}, epochs {recipe.epochs}, batch {recipe.batch_size}, SGD "
            f"(learning rate {recipe.learning_rate:g}, Nesterov momentum {recipe.momentum:g}, "
            f"weight decay {recipe.weight_decay:g}), cosine annealing; one run per T, incomplete "
            "batches dropped."
        )
    elif checkpoint is None:
        yield "The weights are untrained (0 epochs)."

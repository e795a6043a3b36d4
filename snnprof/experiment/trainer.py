"""Training all rows side by side, on the same batches in turn, and counting them afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.experiment.data_sets import Dataset
from snnprof.experiment.training_run import TrainingRun
from snnprof.profiling.step_meter import Batch
from snnprof.results import CountResult
from snnprof.training.adapters import SteppedModel
from snnprof.training.step_runner import as_sequence


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum and cosine annealing, as the HD-LIF authors do.

    The learning rate is ours: theirs, 0.01, is for 300 epochs.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise SnnprofError(f"epochs={self.epochs}: must be 0 (no training) or more")
        if self.batch_size < 1:
            raise SnnprofError(f"batch_size={self.batch_size}: must be at least 1")
        if self.epochs and self.batch_size == 1:
            raise SnnprofError("batch_size=1: batch norm needs at least 2 samples to train on")
        if not 0 < self.learning_rate < math.inf:
            raise SnnprofError(f"learning_rate={self.learning_rate}: must be above 0, and finite")

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """SGD with these settings."""
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=True,
            weight_decay=self.weight_decay,
        )


def check_batch(data: Dataset, recipe: Recipe) -> None:
    """Raise SnnprofError for a batch of more samples than there are training images."""
    images = len(data.train_labels)
    if recipe.batch_size > images:
        raise SnnprofError(
            f"batch_size={recipe.batch_size} is more than the {images} training images"
        )


def count_steps(data: Dataset, recipe: Recipe) -> int:
    """Training steps per row: incomplete batches are dropped, so that all steps are alike."""
    if recipe.epochs:
        check_batch(data, recipe)
    return recipe.epochs * (len(data.train_labels) // recipe.batch_size)


def train_in_turn(
    runs: Sequence[TrainingRun],
    data: Dataset,
    recipe: Recipe,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train all rows, one step each in turn, so that a slow moment strikes them alike."""
    for _ in train_epochs(runs, data, recipe, seed, advance):
        pass


def train_epochs(
    runs: Sequence[TrainingRun],
    data: Dataset,
    recipe: Recipe,
    seed: int,
    advance: Callable[[], None],
) -> Iterator[int]:
    """:func:`train_in_turn`, stopping after every epoch: the caller may look at the models there.

    Yields:
        Epochs trained so far.
    """
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(recipe.epochs):
        if all(run.meter is None for run in runs):  # none is left to train
            return
        for number, batch in enumerate(_batches(data, recipe.batch_size, generator)):
            turn = number % len(runs)
            for run in (*runs[turn:], *runs[:turn]):
                run.step(batch)
                advance()
        for run in runs:
            run.end_epoch(epoch)
        yield epoch + 1


def _batches(data: Dataset, size: int, generator: torch.Generator) -> Iterator[Batch]:
    images, labels = data.train_images, data.train_labels
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    for chosen in order.split(size):
        if len(chosen) == size:
            yield images[chosen], labels[chosen]


@torch.no_grad()
def evaluate(
    stepped: SteppedModel, timesteps: int, data: Dataset, batch_size: int
) -> tuple[CountResult, float | None]:
    """Count on the test images; share of them classified correctly, if labels mean anything.

    In full precision, not compiled. The class is the one with the largest output summed over
    time.
    """
    stepped.model.eval()
    whole = stepped.sequence is not None
    counter = (
        SopCounter(stepped.model, batch_dim=1)
        if whole
        else SopCounter(stepped.model, timesteps=timesteps)
    )
    correct = 0
    # Weights that a quantiser computes are the same for every batch: computed once.
    with counter, parametrize.cached():
        for images, labels in zip(
            data.test_images.split(batch_size), data.test_labels.split(batch_size), strict=True
        ):
            stepped.reset()
            logits = stepped.run_sequence(as_sequence(images, labels, timesteps))
            correct += int((logits.sum(0).argmax(1) == labels).sum())
    stepped.model.train()
    accuracy = correct / len(data.test_labels) if data.labelled else None
    return counter.result(), accuracy

"""Training several arms side by side, on the same batches in turn, and measuring them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.experiment.data_sets import Dataset
from snnprof.profiling.step_memory import OutOfMemory, StepMemory, attempt
from snnprof.profiling.stepper import Stepper, as_sequence
from snnprof.results import CountResult, StepProfile
from snnprof.training.adapters import SteppedModel

WARMUP_STEPS = 5


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


class Arm:
    """One model under training.

    Args:
        stepper: the model, with its optimiser and mode; or what there is instead.
        steps: how many training steps there will be; the learning rate is annealed over them.

    Attributes:
        stepper: None once it has failed.
        failure: why there is no result; None while all is well.
        loss: mean of the last epoch; None before its end.
    """

    def __init__(self, stepper: Stepper | OutOfMemory, steps: int) -> None:
        self.stepper: Stepper | None = None
        self.failure: str | None = None
        self.loss: float | None = None
        if isinstance(stepper, OutOfMemory):
            self.failure = stepper.reason
        else:
            self.stepper = stepper
            self._scheduler = CosineAnnealingLR(stepper.optimizer, max(1, steps))
        self._steps = 0
        self._memory: StepMemory | None = None
        self._losses: list[Tensor] = []

    @property
    def profile(self) -> StepProfile | None:
        """What the training steps took; None where the training was too short to tell."""
        if self.stepper is None or self._memory is None or self.stepper.timer is None:
            return None
        return self.stepper.profile(self._memory)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One training step; after the warm-up the first is for memory, the rest for time."""
        if self.stepper is None:
            return
        done = attempt(partial(self._step, self.stepper, images, labels), images.device)
        if isinstance(done, OutOfMemory):
            self.stepper, self.failure = None, done.reason

    def _step(self, stepper: Stepper, images: Tensor, labels: Tensor) -> None:
        if stepper.timer is None:
            loss = stepper.run(images, labels, watch=self._steps == 0)
        elif self._steps < WARMUP_STEPS or not stepper.updated:
            loss = stepper.warm(images, labels, watch=self._steps == 0)
        elif self._memory is None:
            self._memory, loss = stepper.measured(images, labels)
        else:
            loss = stepper.timed(images, labels)
        self._losses.append(loss)
        self._scheduler.step()
        self._steps += 1

    def end_epoch(self, epoch: int) -> None:
        """Note the mean loss of the epoch; SnnprofError if the training has diverged."""
        if self.stepper is None:
            return
        losses = torch.stack(self._losses).tolist()
        self._losses.clear()
        self.loss = statistics.fmean(losses)
        what = self.stepper.divergence(losses, before=self._steps - len(losses))
        if what is not None:
            raise SnnprofError(
                f"mode {self.stepper.mode!r}: {what} (epoch {epoch + 1}): look for NaN in the "
                "data, or try a lower learning_rate"
            )


def steps_of(data: Dataset, recipe: Recipe) -> int:
    """Training steps per arm: incomplete batches are dropped, so that all steps are alike."""
    images = len(data.train_labels)
    if recipe.epochs and recipe.batch_size > images:
        raise SnnprofError(
            f"batch_size={recipe.batch_size} is more than the {images} training images"
        )
    return recipe.epochs * (images // recipe.batch_size)


def train(
    arms: Sequence[Arm],
    data: Dataset,
    recipe: Recipe,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train all arms, one step each in turn, so that a slow moment strikes them alike."""
    for _ in train_epochs(arms, data, recipe, seed, advance):
        pass


def train_epochs(
    arms: Sequence[Arm],
    data: Dataset,
    recipe: Recipe,
    seed: int,
    advance: Callable[[], None],
) -> Iterator[int]:
    """:func:`train`, stopping after every epoch: the caller may look at the models there.

    Yields:
        Epochs trained so far.
    """
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(recipe.epochs):
        for number, (images, labels) in enumerate(_batches(data, recipe.batch_size, generator)):
            turn = number % len(arms)
            for arm in (*arms[turn:], *arms[:turn]):
                arm.step(images, labels)
                advance()
        for arm in arms:
            arm.end_epoch(epoch)
        yield epoch + 1


def _batches(
    data: Dataset, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
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

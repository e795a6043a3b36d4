"""Training several arms side by side, on the same batches in turn, and measuring them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnprof.counting.counter import SopCounter
from snnprof.errors import SnnprofError
from snnprof.results import CountResult
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import SteppedModel, adapt
from snnprof.training.batch import BatchRun
from snnprof.training.datasets import Dataset
from snnprof.training.memory import step_memory
from snnprof.training.modes import find_mode
from snnprof.training.timing import PhaseTimer

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
            raise SnnprofError(f"epochs={self.epochs}: must be 0 (count only) or more")
        if self.batch_size < 1:
            raise SnnprofError(f"batch_size={self.batch_size}: must be at least 1")
        if self.epochs and self.batch_size == 1:
            raise SnnprofError("batch_size=1: batch norm needs at least 2 samples to train on")
        if not 0 < self.learning_rate < math.inf:
            raise SnnprofError(f"learning_rate={self.learning_rate}: must be above 0, and finite")


@dataclass
class Arm:
    """One model under training in one mode."""

    mode: str
    model: SpikingNetwork
    stepped: SteppedModel
    optimizer: torch.optim.Optimizer
    scheduler: CosineAnnealingLR
    timer: PhaseTimer
    steps: int = 0
    peak_bytes: int | None = None
    losses: list[Tensor] = field(default_factory=list)
    # Of the time steps that a mode draws: arms do not disturb each other, runs repeat.
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One training step; after the warm-up the first is for memory, the rest for time."""
        run_batch = find_mode(self.mode, self.model.timesteps)
        sequence = images.expand(self.model.timesteps, *images.shape)

        def run() -> Tensor:
            return run_batch(
                BatchRun(
                    self.stepped,
                    sequence,
                    labels,
                    self.optimizer,
                    recorder=self.timer,
                    generator=self.generator,
                )
            )

        if self.steps < WARMUP_STEPS:
            loss = run()
        elif self.peak_bytes is None:
            inputs = (images, labels)
            memory, loss = step_memory(run, self.stepped, self.optimizer, inputs, images.device)
            self.peak_bytes = memory.peak_bytes
        else:
            with self.timer.step():
                loss = run()
        self.losses.append(loss)
        self.scheduler.step()
        self.steps += 1

    def end_epoch(self, epoch: int) -> float:
        """Mean loss of the epoch; SnnprofError if the training has diverged."""
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        broken = [n for n, p in self.model.named_parameters() if not p.isfinite().all()]
        if not math.isfinite(loss) or broken:
            what = f"the loss is {loss}" if not broken else f"{broken[0]} is not finite"
            raise SnnprofError(
                f"mode {self.mode!r}: {what} after epoch {epoch + 1}: look for NaN in the data, "
                "or try a lower learning_rate"
            )
        return loss


def make_arm(
    mode: str, build: Callable[[], Any], recipe: Recipe, steps: int, device: torch.device
) -> Arm:
    """A fresh model and optimiser for one mode, to be trained for ``steps`` steps."""
    model = build().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    scheduler = CosineAnnealingLR(optimizer, max(1, steps))
    return Arm(mode, model, adapt(model), optimizer, scheduler, PhaseTimer(device))


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
) -> list[float | None]:
    """Train all arms, one step each in turn, so that a slow moment strikes them alike.

    Returns:
        Mean loss of each arm's last epoch; None where there was none.
    """
    generator = torch.Generator().manual_seed(seed)
    losses: list[float | None] = [None] * len(arms)
    for epoch in range(recipe.epochs):
        for arm in arms:
            arm.model.train()
        for number, (images, labels) in enumerate(_batches(data, recipe.batch_size, generator)):
            turn = number % len(arms)
            for arm in (*arms[turn:], *arms[:turn]):
                arm.step(images, labels)
                advance()
        losses = [arm.end_epoch(epoch) for arm in arms]
    return losses


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
    model: SpikingNetwork, data: Dataset, batch_size: int
) -> tuple[CountResult, float | None]:
    """Count on the test images; share of them classified correctly, if labels mean anything.

    The class is the one with the largest output summed over time.
    """
    model.eval()
    correct = 0
    # Weights that a quantiser computes are the same for every batch: computed once.
    with SopCounter(model) as counter, parametrize.cached():
        for images, labels in zip(
            data.test_images.split(batch_size), data.test_labels.split(batch_size), strict=True
        ):
            correct += int((model(images).sum(0).argmax(1) == labels).sum())
    accuracy = correct / len(data.test_labels) if data.labelled else None
    return counter.result(), accuracy

"""Training one network epoch by epoch, with nothing measured on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnprof.errors import SnnprofError
from snnprof.training.adapters import adapt
from snnprof.training.batch import BatchRun
from snnprof.training.datasets import Dataset
from snnprof.training.modes import find_mode
from snnprof.training.trainer import Recipe, steps_of


def epochs_of_training(
    model: nn.Module,
    mode: str,
    timesteps: int,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[float]:
    """Train, and stop after every epoch: the caller may look at the model there.

    The batches, their order and the learning rate are those of :func:`snnprof.run`.

    Args:
        model: on the device of the data.
        mode: a training mode.
        timesteps: T; every image is shown for so many steps.
        data: the training images are used.
        recipe: how.
        seed: of the order of the images.
        advance: told of every training step.

    Yields:
        Mean loss of the epoch.

    Raises:
        SnnprofError: an unknown mode, a batch larger than the data, a training that diverges.
    """
    run_batch = find_mode(mode, timesteps)
    stepped = adapt(model)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    scheduler = CosineAnnealingLR(optimizer, max(1, steps_of(data, recipe)))
    order = torch.Generator().manual_seed(seed)
    drawn = torch.Generator().manual_seed(0)  # of the time steps that a mode draws, as in run()
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        losses: list[Tensor] = []
        for images, labels in _batches(data, recipe.batch_size, order):
            sequence = images.expand(timesteps, *images.shape)
            run = BatchRun(stepped, sequence, labels, optimizer, generator=drawn, watch=not losses)
            losses.append(run_batch(run))
            scheduler.step()
            advance()
        yield _checked(float(torch.stack(losses).mean()), model, mode, epoch)


def _batches(
    data: Dataset, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches in a new order."""
    images, labels = data.train_images, data.train_labels
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    for chosen in order.split(size):
        if len(chosen) == size:
            yield images[chosen], labels[chosen]


def _checked(loss: float, model: nn.Module, mode: str, epoch: int) -> float:
    broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if not math.isfinite(loss) or broken:
        what = f"{broken[0]} is not finite" if broken else f"the loss is {loss}"
        raise SnnprofError(
            f"mode {mode!r}: {what} after epoch {epoch}: look for NaN in the data, or try a lower "
            "learning_rate"
        )
    return loss

"""The batches of a training: augmented, their labels smoothed; and a picture of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation import (
    Augmentation,
    AugmentedData,
    augmented,
    save_batch_picture,
)
from snnprof.experiment.augmentation.step import make_step
from snnprof.experiment.configuration import Configuration, settings_of
from snnprof.experiment.data import Batch, Data
from snnprof.experiment.label_smoothing import check_smoothing, smooth_labels
from snnprof.experiment.random_state import seeded
from snnprof.experiment.settings import NO_PROGRESS, Progress, Settings
from snnprof.experiment.trainer import unchanged


def training_settings(configuration: Configuration, progress: Progress) -> Callable[[], Settings]:
    """Check the settings of a training.

    Returns:
        What loads the data, augments them, and makes the settings; it raises SnnprofError for
        what only the data show.

    Raises:
        SnnprofError: a wrong name or value, as far as it shows without the data.
    """
    smoothing = configuration.values["label_smoothing"] or 0.0
    check_smoothing(smoothing)
    with_data = settings_of(configuration, progress)
    steps = [make_step(step) for step in configuration.values["augmentation"]]
    for step in steps:
        if smoothing and getattr(step, "smoothing", 0):
            raise SnnprofError(
                f"label_smoothing={smoothing}, and {step} smooths labels too: give one of them as 0"
            )

    def augmented_settings() -> Settings:
        settings = with_data()
        data = settings.data
        if steps:
            classes = data.shape.get("num_classes")
            data = augmented(data, Augmentation(steps, settings.seed, data.normalization, classes))
        return replace(settings, data=data, notes=data.notes)

    return augmented_settings


def augmentations_of(data: Data) -> list[Augmentation]:
    """What training batches go through, the outermost first; the user's own data may bring one."""
    found = []
    while isinstance(data, AugmentedData):
        found.append(data.augmentation)
        data = data.data
    return found


def label_smoothing(configuration: Configuration, settings: Settings) -> Callable[[Batch], Batch]:
    """What becomes of a batch's labels.

    Raises:
        SnnprofError: smoothing of labels that are no classes.
    """
    smoothing = configuration.values["label_smoothing"] or 0.0
    classes = settings.data.shape.get("num_classes")
    if not smoothing:
        return unchanged
    if classes is None or not settings.data.labelled:
        raise SnnprofError(
            f"label_smoothing={smoothing} needs labels that are classes: give label_smoothing=0"
        )

    def smooth(batch: Batch) -> Batch:
        x, labels = batch
        return x, smooth_labels(labels, smoothing, classes)

    smooth(settings.batch)  # labels that it cannot take are refused before any training
    return smooth


def picture_of_batch(configuration: Configuration, file: str | Path) -> None:
    """Write a picture of the first training batch after augmentation; nothing is trained.

    Raises:
        SnnprofError: a wrong name or value, no images, or the file cannot be written.
    """
    with seeded(configuration.values["seed"]):
        settings = training_settings(configuration, NO_PROGRESS)()
        order = torch.Generator().manual_seed(settings.seed)
        batch: tuple[torch.Tensor, Any] = next(
            iter(settings.data.epoch(settings.recipe.batch_size, order))
        )
    save_batch_picture(batch[0], file, settings.data.normalization)

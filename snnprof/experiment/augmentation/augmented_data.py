"""Data whose training batches are augmented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation.augmentation import Augmentation
from snnprof.experiment.augmentation.reading import RandomResizedCrop
from snnprof.experiment.data import Batch, Data, Normalization


@dataclass(frozen=True)
class AugmentedData(Data):
    """Data as they are, but for the batches of an epoch. Made by :func:`augmented`.

    Attributes:
        data: what is augmented; its first batch and its test batches stay as they are.
        augmentation: of the others, on their device.
    """

    data: Data
    augmentation: Augmentation
    description: str
    labelled: bool
    batch_size: int | None
    notes: tuple[str, ...]
    normalization: Normalization | None
    layout: torch.memory_format = torch.preserve_format

    @property
    def generators(self) -> tuple[torch.Generator, ...]:  # type: ignore[override]
        return self.data.generators

    @property
    def shape(self) -> dict[str, int]:
        return self.data.shape

    @property
    def images(self) -> int | None:
        return self.data.images

    @property
    def test_samples(self) -> int | None:
        return self.data.test_samples

    def to(self, device: torch.device, layout: torch.memory_format) -> AugmentedData:
        return replace(self, data=self.data.to(device, layout), layout=layout)

    def first(self, batch_size: int) -> Batch:
        return self.data.first(batch_size)

    def steps(self, batch_size: int) -> int:
        return self.data.steps(batch_size)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        for x, y in self.data.epoch(batch_size, generator):
            images, labels = self.augmentation(x, y)
            if images.dim() == 4 and self.layout is not torch.preserve_format:
                images = images.contiguous(memory_format=self.layout)
            yield images, labels

    def test(self, batch_size: int) -> Iterator[Batch]:
        return self.data.test(batch_size)


def augmented(data: Data, augmentation: Augmentation) -> AugmentedData:
    """The data, whose training batches go through an augmentation; a note says which.

    A random resized crop comes first, and is left to those who read the files.

    Raises:
        SnnprofError: a random resized crop of what are no image files, or behind another step.
    """
    of_batches = augmentation
    if augmentation.steps and isinstance(augmentation.steps[0], RandomResizedCrop):
        if data.cropped is None:
            raise SnnprofError(
                "random-resized-crop takes parts of image files while they are read (data "
                f"imagenet); these data are {data.description}: leave it out, or use random-crop"
            )
        data = data.cropped(augmentation.steps[0].part)
        of_batches = augmentation.without_first()
    if any(isinstance(step, RandomResizedCrop) for step in of_batches.steps):
        raise SnnprofError(
            "random-resized-crop takes parts of image files while they are read, before all other "
            "steps: give it once, and first"
        )
    note = f"Training images were augmented: {augmentation}."
    return AugmentedData(
        data,
        of_batches,
        data.description,
        data.labelled,
        data.batch_size,
        (*data.notes, note),
        data.normalization,
    )

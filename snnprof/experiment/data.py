"""What an experiment needs of its data, whatever they are: batches, and what they look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Inputs, and labels of the kind that the loss takes.
Batch = tuple[torch.Tensor, Any]
# From a picture's width and height to left, top, right and bottom of a part of it.
Part = Callable[[int, int, np.random.Generator], tuple[int, int, int, int]]


@dataclass(frozen=True)
class Normalization:
    """How pixels between 0 and 1 became what a network is given: (pixel - mean) / deviation.

    Attributes:
        mean, deviation: one value per channel, or one for all.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def apply(self, pixels: Tensor) -> Tensor:
        """Pixels [..., C, H, W] between 0 and 1, normalised."""
        return (pixels - _per_channel(self.mean, pixels.device)) / _per_channel(
            self.deviation, pixels.device
        )

    def undo(self, images: Tensor) -> Tensor:
        """The pixels of normalised images [..., C, H, W]."""
        return images * _per_channel(self.deviation, images.device) + _per_channel(
            self.mean, images.device
        )


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)


class Data(ABC):
    """Training and test samples.

    Attributes:
        description: what they are and how they were split, for the report.
        labelled: False if the labels mean nothing, so that an accuracy would not either.
        batch_size: samples of a training step; None where :meth:`epoch` takes any.
        notes: what was guessed or assumed of them.
        generators: random generators that its epochs draw from, beside the one they are given.
        normalization: of their pixels; None for what are no pixels, or not known.
        cropped: the same data, of whose training files parts are read; None if they are no image
            files.
    """

    description: str
    labelled: bool
    batch_size: int | None = None
    notes: tuple[str, ...] = ()
    generators: tuple[torch.Generator, ...] = ()
    normalization: Normalization | None = None
    cropped: Callable[[Part], Data] | None = None

    @property
    @abstractmethod
    def shape(self) -> dict[str, int]:
        """What a builder is told of them: num_classes, in_channels, image_size, where known."""

    @property
    @abstractmethod
    def images(self) -> int | None:
        """Training samples; None if they were not counted."""

    @property
    def test_samples(self) -> int | None:
        """Test samples; None if they were not counted."""
        return None

    @abstractmethod
    def to(self, device: torch.device, layout: torch.memory_format) -> Data:
        """The same data, whose batches come on a device, images in a memory format."""

    @abstractmethod
    def first(self, batch_size: int) -> Batch:
        """The first training batch."""

    @abstractmethod
    def steps(self, batch_size: int) -> int:
        """Training steps of an epoch."""

    @abstractmethod
    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, all of the same shape."""

    @abstractmethod
    def test(self, batch_size: int) -> Iterator[Batch]:
        """The test batches, once."""

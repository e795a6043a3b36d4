"""What an experiment needs of its data, whatever they are: batches, and what they look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

# Inputs, and labels of the kind that the loss takes.
Batch = tuple[torch.Tensor, Any]


class Data(ABC):
    """Training and test samples.

    Attributes:
        description: what they are and how they were split, for the report.
        labelled: False if the labels mean nothing, so that an accuracy would not either.
        batch_size: samples of a training step; None where :meth:`epoch` takes any.
        notes: what was guessed or assumed of them.
        generators: random generators that its epochs draw from, beside the one they are given.
    """

    description: str
    labelled: bool
    batch_size: int | None = None
    notes: tuple[str, ...] = ()
    generators: tuple[torch.Generator, ...] = ()

    @property
    @abstractmethod
    def shape(self) -> dict[str, int]:
        """What a builder is told of them: num_classes, in_channels, image_size, where known."""

    @property
    @abstractmethod
    def images(self) -> int | None:
        """Training samples; None if they were not counted."""

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

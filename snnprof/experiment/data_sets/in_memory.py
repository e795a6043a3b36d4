"""Data sets in memory: tensors ready to train on, and a sentence on where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from snnprof.experiment.data import Batch, Data, Normalization
from snnprof.experiment.data_sets.registry import DATA_SETS

SPLIT_SEED = 0
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Dataset(Data):
    """Images [N, C, H, W] and labels [N], all in memory.

    Images in float32 are handed out as they are; those in uint8, a quarter of the size, as
    pixels between 0 and 1, normalised.

    Attributes:
        labelled: False if the labels mean nothing, so that an accuracy would not either.
        description: what it is and how it was split, for the report.
        normalization: how pixels between 0 and 1 became float32 images, or become them.
        notes: what has to be said of it.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    labelled: bool
    description: str
    normalization: Normalization | None = None
    notes: tuple[str, ...] = ()

    def to(
        self, device: torch.device, layout: torch.memory_format = torch.preserve_format
    ) -> Dataset:
        """The same data on another device, the images in a memory format."""
        return replace(
            self,
            train_images=self.train_images.to(device, memory_format=layout),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device, memory_format=layout),
            test_labels=self.test_labels.to(device),
        )

    @property
    def in_channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def image_size(self) -> int:
        return self.train_images.shape[-1]

    @property
    def shape(self) -> dict[str, int]:
        return {
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "image_size": self.image_size,
        }

    @property
    def images(self) -> int:
        return len(self.train_labels)

    @property
    def test_samples(self) -> int:
        return len(self.test_labels)

    def first(self, batch_size: int) -> Batch:
        return self._ready(self.train_images[:batch_size]), self.train_labels[:batch_size]

    def steps(self, batch_size: int) -> int:
        """Training steps of an epoch: incomplete batches are dropped, so that all are alike."""
        return self.images // batch_size

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(self.images, generator=generator).to(self.train_labels.device)
        for chosen in order.split(batch_size):
            if len(chosen) == batch_size:
                yield self._ready(self.train_images[chosen]), self.train_labels[chosen]

    def test(self, batch_size: int) -> Iterator[Batch]:
        images = map(self._ready, self.test_images.split(batch_size))
        return zip(images, self.test_labels.split(batch_size), strict=True)

    def _ready(self, images: Tensor) -> Tensor:
        if images.dtype is not torch.uint8:
            return images
        pixels = images.float() / 255
        return pixels if self.normalization is None else self.normalization.apply(pixels)


@DATA_SETS.register("digits")
def digits(image_size: int | None, seed: int) -> Dataset:
    """scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes.

    Fixed stratified split, whatever ``seed``; scaled to mean 0 and deviation 1 over the
    training images; resized bilinearly where another ``image_size`` is asked for.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    split = train_test_split(
        torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1),
        torch.tensor(loaded.target),
        test_size=TEST_SHARE,
        random_state=SPLIT_SEED,
        stratify=loaded.target,
    )
    train_images, test_images, train_labels, test_labels = split
    if image_size is not None:
        size = (image_size, image_size)
        train_images = F.interpolate(train_images, size, mode="bilinear")
        test_images = F.interpolate(test_images, size, mode="bilinear")
    mean, deviation = train_images.mean(), train_images.std()
    return Dataset(
        (train_images - mean) / deviation,
        train_labels,
        (test_images - mean) / deviation,
        test_labels,
        num_classes=10,
        labelled=True,
        description=(
            f"scikit-learn digits, {len(train_labels)} training and {len(test_labels)} test "
            f"images of {train_images.shape[-1]}x{train_images.shape[-1]} pixels, stratified "
            f"split with seed {SPLIT_SEED}"
        ),
        normalization=Normalization((mean.item() / 16,), (deviation.item() / 16,)),  # 0 to 16
    )


@DATA_SETS.register("random")
def random(image_size: int | None, seed: int) -> Dataset:
    """Normally distributed images with random labels: for counting and timing only."""
    size = 32 if image_size is None else image_size
    generator = torch.Generator().manual_seed(seed)
    train, test, classes = 256, 64, 10
    images = torch.randn(train + test, 3, size, size, generator=generator)
    labels = torch.randint(0, classes, (train + test,), generator=generator)
    return Dataset(
        images[:train],
        labels[:train],
        images[train:],
        labels[train:],
        num_classes=classes,
        labelled=False,
        description=(
            f"random images, {train} training and {test} test images of 3x{size}x{size}, "
            f"seed {seed}; labels are random too, so no accuracy is given"
        ),
    )

"""Image files and their classes, read one by one with Pillow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Normalization, Part
from snnprof.experiment.sample_order import DrawnSamples

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp"})
# Mean and deviation of ImageNet's training pixels.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Fit(ABC):
    """Makes every image a square of one size.

    Attributes:
        size: of the square, in pixels.
    """

    size: int

    @abstractmethod
    def __call__(self, image: Any) -> Any:
        """From a Pillow image to the square."""


def pillow() -> Any:
    """Pillow's Image module.

    Raises:
        SnnprofError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise SnnprofError(
            "reading and writing pictures needs Pillow: pip install 'snnprof[data]'"
        ) from error
    return Image


class ImageFiles(DrawnSamples):
    """Image files as normalised tensors [3, H, W] and classes: a map-style data set.

    Args:
        files: their paths.
        targets: their classes.
        classes: names of the classes.
        fit: makes every image the same size.
        part: draws which part of an image is read and resized, where a seed is given.
    """

    def __init__(
        self,
        files: list[Path],
        targets: list[int],
        classes: tuple[str, ...],
        fit: Fit,
        part: Part | None = None,
    ) -> None:
        self.files = files
        self.targets = targets
        self.classes = classes
        self._fit = fit
        self._part = part

    def cropped(self, part: Part) -> ImageFiles:
        """The same files, of which parts are read."""
        return ImageFiles(self.files, self.targets, self.classes, self._fit, part)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int | tuple[int, int]) -> tuple[Tensor, int]:
        """The image and its class; grey and transparent ones become RGB.

        Args:
            place: the index; or the index and a seed, of the part that is read.

        Raises:
            SnnprofError: a file that is no image.
        """
        index, seed = place if isinstance(place, tuple) else (place, None)
        file = self.files[index]
        try:
            with pillow().open(file) as image:
                pixels = np.asarray(self._fitted(image.convert("RGB"), index, seed))
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, SnnprofError):
                raise
            raise SnnprofError(f"{file} is no image that Pillow can read: {error}") from error
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        return IMAGENET.apply(image.float() / 255), self.targets[index]

    def _fitted(self, image: Any, index: int, seed: int | None) -> Any:
        if self._part is None or seed is None:
            return self._fit(image)
        width, height = image.size
        box = self._part(width, height, np.random.default_rng((seed, index)))
        square = (self._fit.size, self._fit.size)
        return image.resize(square, pillow().Resampling.BILINEAR, box=box)


@dataclass(frozen=True)
class CenterCrop(Fit):
    """The shorter side resized, and a square cut out of the middle.

    Attributes:
        size: of the square, in pixels; the shorter side is 256 / 224 of it before.
    """

    size: int

    def __call__(self, image: Any) -> Any:
        shorter = round(self.size * 256 / 224)
        scale = shorter / min(image.size)
        width, height = (max(shorter, round(side * scale)) for side in image.size)
        resized = image.resize((width, height), pillow().Resampling.BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return resized.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class Resized(Fit):
    """The image as it is, or resized to a square.

    Attributes:
        size: of the square, in pixels.
    """

    size: int

    def __call__(self, image: Any) -> Any:
        square = (self.size, self.size)
        return image if image.size == square else image.resize(square, pillow().Resampling.BILINEAR)

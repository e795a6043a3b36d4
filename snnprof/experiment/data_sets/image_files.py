"""Image files and their classes, read one by one with Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as MapStyle

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Normalization

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp"})
# Mean and deviation of ImageNet's training pixels.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# From a Pillow image to one of the size that is trained on.
Fit = Callable[[Any], Any]


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


class ImageFiles(MapStyle[tuple[Tensor, int]]):
    """Image files as normalised tensors [3, H, W] and classes: a map-style data set.

    Args:
        files: their paths.
        targets: their classes.
        classes: names of the classes.
        fit: makes every image the same size.
    """

    def __init__(
        self, files: list[Path], targets: list[int], classes: tuple[str, ...], fit: Fit
    ) -> None:
        self.files = files
        self.targets = targets
        self.classes = classes
        self._fit = fit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image and its class; grey and transparent ones become RGB.

        Raises:
            SnnprofError: a file that is no image.
        """
        file = self.files[index]
        try:
            with pillow().open(file) as image:
                pixels = np.asarray(self._fit(image.convert("RGB")))
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, SnnprofError):
                raise
            raise SnnprofError(f"{file} is no image that Pillow can read: {error}") from error
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        return IMAGENET.apply(image.float() / 255), self.targets[index]


@dataclass(frozen=True)
class CenterCrop:
    """The shorter side resized, and a square cut out of the middle.

    Attributes:
        size: of the square, in pixels.
        resize: of the shorter side before; None for 256 / 224 of the size.
    """

    size: int
    resize: int | None = None

    def __call__(self, image: Any) -> Any:
        shorter = self.resize or round(self.size * 256 / 224)
        scale = shorter / min(image.size)
        width, height = (max(shorter, round(side * scale)) for side in image.size)
        resized = image.resize((width, height), pillow().Resampling.BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return resized.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, resized to a square, as Inception's authors crop.

    The part has 8 to 100 % of the image's area, and a ratio of sides from 3/4 to 4/3, uniform in
    its logarithm; where ten draws do not fit, the middle is taken. Drawn from torch's generator:
    in a loader's worker that of the worker, which follows from the loader's seed.

    Attributes:
        size: of the square, in pixels.
    """

    size: int

    def __call__(self, image: Any) -> Any:
        box = self._box(*image.size)
        square = (self.size, self.size)
        return image.resize(square, pillow().Resampling.BILINEAR, box=box)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            share, ratio, x, y = torch.rand(4).tolist()
            area = width * height * (0.08 + 0.92 * share)
            sides = math.exp((2 * ratio - 1) * math.log(4 / 3))
            w, h = round(math.sqrt(area * sides)), round(math.sqrt(area / sides))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                return left, top, left + w, top + h
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side


@dataclass(frozen=True)
class Resized:
    """The image as it is, or resized to a square.

    Attributes:
        size: of the square, in pixels.
    """

    size: int

    def __call__(self, image: Any) -> Any:
        square = (self.size, self.size)
        return image if image.size == square else image.resize(square, pillow().Resampling.BILINEAR)

"""The step that takes effect where image files are read, from all their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation.step import STEPS, Draws, Step, check

_TRIES = 10


@STEPS.register("random-resized-crop")
@dataclass(frozen=True)
class RandomResizedCrop(Step):
    """A random part of an image file, resized to a square, as Inception's authors crop.

    It is taken while the file is read, from the whole picture, and so before all other steps. The
    ratio of its sides is uniform in its logarithm; where ten draws do not fit, the middle is taken.

    Attributes:
        area: the least share of the picture's area; the most is 1.
        ratio: the most of width to height; the least is 1 / ratio.
    """

    area: float = 0.08
    ratio: float = 4 / 3

    def __post_init__(self) -> None:
        check(self, "area", 0 < self.area <= 1, "above 0, at most 1")
        check(self, "ratio", 1 <= self.ratio < math.inf, "1 or more, and finite")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        raise SnnprofError(
            "random-resized-crop takes parts of image files while they are read, and these images "
            "are read already: give it first, for data of image files (imagenet), or random-crop"
        )

    def part(
        self, width: int, height: int, generator: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a part of a picture, in whole pixels."""
        for _ in range(_TRIES):
            share, ratio, x, y = generator.random(4).tolist()
            area = width * height * (self.area + (1 - self.area) * share)
            sides = math.exp((2 * ratio - 1) * math.log(self.ratio))
            w, h = round(math.sqrt(area * sides)), round(math.sqrt(area / sides))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                return left, top, left + w, top + h
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

"""Steps that move, turn or cut: of images, and of event frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnprof.experiment.augmentation.step import STEPS, Draws, Step, check

MOST_PIXELS = 2**15  # of a side
_FROM_0 = f"from 0 to {MOST_PIXELS}"


@STEPS.register("random-crop")
@dataclass(frozen=True)
class RandomCrop(Step):
    """A part of the image's own size, cut out of the image with black around it.

    Attributes:
        padding: pixels of black on every side; shifts are uniform from -padding to padding.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        check(self, "padding", 0 <= self.padding <= MOST_PIXELS, _FROM_0)

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        padded = F.pad(x, [self.padding] * 4)
        top, left = (draws.whole(0, 2 * self.padding, len(x)) for _ in range(2))
        rows = top + torch.arange(x.shape[-2], device=x.device)
        columns = left + torch.arange(x.shape[-1], device=x.device)
        return _taken(padded, rows, columns), y


@STEPS.register("flip")
@dataclass(frozen=True)
class Flip(Step):
    """Left and right exchanged.

    Attributes:
        probability: of it, per image.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check(self, "probability", 0 <= self.probability <= 1, "between 0 and 1")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        return torch.where(draws.happens(self.probability, len(x)), x.flip(-1), x), y


@STEPS.register("cutout")
@dataclass(frozen=True)
class Cutout(Step):
    """A square filled with the mean pixel, which normalisation makes 0 (DeVries & Taylor, 2017).

    Its centre is uniform over the pixels, so that part of it may lie outside.

    Attributes:
        size: of its sides, in pixels; the authors: 16 on CIFAR-10, 8 on CIFAR-100.
        probability: of it, per image.
    """

    size: int = 16
    probability: float = 1.0

    def __post_init__(self) -> None:
        check(self, "size", 1 <= self.size <= MOST_PIXELS, f"from 1 to {MOST_PIXELS}")
        check(self, "probability", 0 <= self.probability <= 1, "between 0 and 1")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        rows, columns = (self._inside(side, len(x), draws) for side in x.shape[-2:])
        cut = rows[:, None, :, None] & columns[:, None, None, :]
        if self.probability < 1:
            cut = cut & draws.happens(self.probability, len(x))
        fill = torch.zeros((), device=x.device)
        if draws.fill is not None:
            fill = torch.tensor(draws.fill, device=x.device).view(-1, 1, 1)
        return torch.where(cut, fill, x), y

    def _inside(self, side: int, samples: int, draws: Draws) -> Tensor:
        """[samples, side]: from half a size before the centre to half a size behind it."""
        first = draws.whole(0, side - 1, samples) - self.size // 2
        place = torch.arange(side, device=draws.device)
        return (place >= first) & (place < first + self.size)


@STEPS.register("roll")
@dataclass(frozen=True)
class Roll(Step):
    """A shift in both directions; what leaves on one side comes in on the other.

    Attributes:
        shift: the most, in pixels; uniform from -shift to shift.
    """

    shift: int = 5

    def __post_init__(self) -> None:
        check(self, "shift", 0 <= self.shift <= MOST_PIXELS, _FROM_0)

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        rows, columns = (
            (torch.arange(side, device=x.device) - draws.whole(-self.shift, self.shift, len(x)))
            % side
            for side in x.shape[-2:]
        )
        return _taken(x, rows, columns), y


@STEPS.register("rotate")
@dataclass(frozen=True)
class Rotate(Step):
    """A rotation about the middle, nearest neighbours, so that counts of events stay whole.

    Attributes:
        degrees: the most; uniform from -degrees to degrees.
    """

    degrees: float = 15.0

    def __post_init__(self) -> None:
        check(self, "degrees", 0 <= self.degrees <= 180, "from 0 to 180")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        angle = draws.there(draws.generator.uniform(-self.degrees, self.degrees, len(x)))
        return moved(x, rotation(angle.float())), y


def rotation(degrees: Tensor) -> Tensor:
    """Matrices [n, 2, 2] of rotations that turn a picture counter-clockwise."""
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def moved(x: Tensor, matrix: Tensor, offset: Tensor | None = None, outside: float = 0.0) -> Tensor:
    """Images whose pixel at place p is the old one at ``matrix p + offset``, the nearest.

    Args:
        x: [n, C, H, W].
        matrix: [n, 2, 2], of columns and rows, about the middle.
        offset: [n, 2], columns and rows in pixels; None for none.
        outside: value of what was not in the picture.
    """
    height, width = x.shape[-2:]
    size = torch.tensor([width, height], device=x.device, dtype=x.dtype)
    # torch's grid has a side of 2, whatever its number of pixels.
    scaled = matrix * size / size[:, None]
    by = torch.zeros(len(x), 2, device=x.device) if offset is None else offset * 2 / size
    grid = F.affine_grid(torch.cat([scaled, by[:, :, None]], 2), list(x.shape), align_corners=False)
    taken = F.grid_sample(x - outside, grid, mode="nearest", align_corners=False)
    return taken + outside


def _taken(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image its own rows [B, H] and columns [B, W]."""
    samples = torch.arange(len(x), device=x.device).view(-1, 1, 1, 1)
    channels = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return x[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]

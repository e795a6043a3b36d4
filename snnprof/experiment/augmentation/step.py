"""A step of an augmentation, what it draws, and making one from its name and strengths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry
from snnprof.core.type_words import IN_WORDS


@dataclass(frozen=True)
class Draws:
    """What a step may draw, and what it is told of the data.

    Attributes:
        generator: of everything random.
        device: of the images.
        fill: one value per channel for what is cut out: the mean pixel; None for zeros.
        num_classes: of the labels; None if not known.
        frames: time steps that stand among the channels of the images; 1 for images.
    """

    generator: np.random.Generator
    device: torch.device
    fill: tuple[float, ...] | None = None
    num_classes: int | None = None
    frames: int = 1

    def happens(self, probability: float, samples: int) -> Tensor:
        """For each sample whether it happens: [samples, 1, 1, 1]."""
        drawn = self.generator.random(samples) < probability
        return self.there(drawn).view(-1, 1, 1, 1)

    def whole(self, least: int, largest: int, samples: int) -> Tensor:
        """Whole numbers from least to largest, uniform: [samples, 1]."""
        return self.there(self.generator.integers(least, largest + 1, samples)).view(-1, 1)

    def there(self, drawn: np.ndarray) -> Tensor:
        """An array as a tensor on the images' device."""
        return torch.from_numpy(drawn).to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Step(ABC):
    """A step: its fields are its strengths.

    Images are [B, C, H, W] in float32: pixels between 0 and 1, or event frames, whose T time steps
    stand among the channels, so that all of them are changed alike.
    """

    @abstractmethod
    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        """The images and labels after it."""

    def __str__(self) -> str:
        strengths = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{type(self).__name__}({strengths})"


STEPS: Registry[type[Step]] = Registry("augmentation step")


def make_step(given: str | Mapping[str, Any] | Step) -> Step:
    """A step, from its name, from ``{"step": name, strength: value, ...}``, or as it is.

    Raises:
        SnnprofError: an unknown name or strength, or a value that cannot be.
    """
    if isinstance(given, Step):
        return given
    strengths = {} if isinstance(given, str) else dict(given)
    name = given if isinstance(given, str) else strengths.pop("step", None)
    if not isinstance(name, str):
        raise SnnprofError(
            f"augmentation step {given!r}: give its name, or its name as 'step' and its strengths"
        )
    kind = STEPS.find(name)
    known = {f.name: f for f in fields(kind)}
    for key, value in strengths.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise SnnprofError(f"augmentation step {name!r} has no {key!r}; known: {listed}")
        usual = known[key].default
        wanted = (int, float) if isinstance(usual, float) else type(usual)
        if usual is not MISSING and (not isinstance(value, wanted) or isinstance(value, bool)):
            words = IN_WORDS.get(type(usual), f"a {type(usual).__name__}")
            raise SnnprofError(
                f"augmentation step {name!r}: {key}={value!r}: must be {words}, as {usual!r}"
            )
    return kind(**strengths)


def check(step: Step, name: str, good: bool, must: str) -> None:
    """Raise SnnprofError for a strength that cannot be, saying what it must be."""
    if not good:
        raise SnnprofError(f"{step}: {name} must be {must}")

"""Steps one after another, on a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation.step import Draws, Step, make_step
from snnprof.experiment.data import Batch, Normalization


class Augmentation:
    """Changes a training batch, step by step, from a generator of its own.

    ``augment(x, y)`` gives the images and the labels, which Mixup and CutMix make soft. x is
    [B, C, H, W], or event frames [T, B, C, H, W] (or [B, T, C, H, W]; where T = B, the first),
    whose time steps are changed alike. It runs on the device of x, which it never changes.

    Args:
        steps: in order: names, or ``{"step": name, strength: value}``; see ``STEPS``.
        seed: of the generator.
        normalization: of the images; steps see pixels between 0 and 1. None for images that are
            pixels already, or event frames.
        num_classes: of the labels, for Mixup and CutMix.

    Attributes:
        steps: the steps that were made.

    Raises:
        SnnprofError: an unknown step or strength, a value that cannot be, a missing library.
    """

    def __init__(
        self,
        steps: Iterable[str | Mapping[str, Any] | Step],
        seed: int = 0,
        normalization: Normalization | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.steps = tuple(make_step(step) for step in steps)
        self._generator = np.random.default_rng(seed)
        self._normalization = normalization
        self._num_classes = num_classes

    def __call__(self, x: Tensor, y: Any) -> Batch:
        """The batch after all steps.

        Raises:
            SnnprofError: images or labels that a step cannot take.
        """
        if not self.steps:
            return x, y
        if x.dim() not in (4, 5):
            raise SnnprofError(
                f"augmentation: inputs of shape {tuple(x.shape)}: must be images [B, C, H, W] or "
                "event frames [T, B, C, H, W]"
            )
        pixels = x if self._normalization is None else self._normalization.undo(x).clamp(0, 1)
        batch_dimension, frames = 0, 1
        if x.dim() == 5:
            batch_dimension = 1 if not isinstance(y, Tensor) or len(y) == x.shape[1] else 0
            other = pixels.transpose(0, batch_dimension)
            frames = other.shape[1]
            pixels = other.flatten(1, 2)
        mean = None if self._normalization is None else self._normalization.mean
        draws = Draws(self._generator, x.device, mean, self._num_classes, frames)
        with torch.no_grad():
            for step in self.steps:
                pixels, y = step(pixels, y, draws)
        if x.dim() == 5:
            pixels = pixels.unflatten(1, other.shape[1:3]).transpose(0, batch_dimension)
        if self._normalization is not None:
            pixels = self._normalization.apply(pixels)
        return pixels.contiguous(), y

    def without_first(self) -> Augmentation:
        """The other steps, which draw from the same generator."""
        others = copy(self)
        others.steps = self.steps[1:]
        return others

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps)) or "none"

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator: numbers and text, for a checkpoint."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the augmentation whose state this is.

        Raises:
            SnnprofError: it is none.
        """
        try:
            self._generator.bit_generator.state = state["generator"]
        except (KeyError, TypeError, ValueError) as error:
            raise SnnprofError(f"no state of an augmentation's generator: {error}") from error

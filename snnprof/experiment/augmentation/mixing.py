"""Mixup and CutMix: two images and their labels become one, as timm does it, per batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation.step import STEPS, Draws, Step, check

# Beta(alpha, alpha) is 1/2 there in three digits; far above, numpy draws NaN or 0.
MOST_ALPHA = 1e6


def _check_alpha(step: Step, name: str, alpha: float) -> None:
    check(step, name, 0 < alpha <= MOST_ALPHA, f"above 0, at most {MOST_ALPHA:g}")


@STEPS.register("mixup-or-cutmix")
@dataclass(frozen=True)
class MixupOrCutMix(Step):
    """Mixup or CutMix for a whole batch: every image with that at its place from the end.

    The share of the first, lambda, is drawn from Beta(alpha, alpha) once per batch; labels are
    mixed by it, after smoothing: classes [B] become [B, num_classes], whose rows sum to 1.

    Attributes:
        mixup, cutmix: their alpha.
        switch: probability of CutMix rather than Mixup.
        probability: of either, per batch.
        smoothing: of the labels, mixed or not: smoothing / classes for every class, and 1 -
            smoothing more for the right one.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    probability: float = 1.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self, "mixup", self.mixup)
        _check_alpha(self, "cutmix", self.cutmix)
        for name in ("switch", "probability", "smoothing"):
            check(self, name, 0 <= getattr(self, name) <= 1, "between 0 and 1")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Tensor]:
        soft = _soft(y, draws.num_classes, self.smoothing)
        if draws.generator.random() >= self.probability:
            return x, soft
        if draws.generator.random() < self.switch:
            return _cut(x, soft, self.cutmix, draws)
        return _blended(x, soft, self.mixup, draws)


@STEPS.register("mixup")
@dataclass(frozen=True)
class Mixup(Step):
    """Mixup alone (Zhang et al., 2018); see :class:`MixupOrCutMix`."""

    alpha: float = 0.8
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self, "alpha", self.alpha)
        check(self, "smoothing", 0 <= self.smoothing <= 1, "between 0 and 1")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Tensor]:
        return _blended(x, _soft(y, draws.num_classes, self.smoothing), self.alpha, draws)


@STEPS.register("cutmix")
@dataclass(frozen=True)
class CutMix(Step):
    """CutMix alone (Yun et al., 2019); see :class:`MixupOrCutMix`."""

    alpha: float = 1.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self, "alpha", self.alpha)
        check(self, "smoothing", 0 <= self.smoothing <= 1, "between 0 and 1")

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Tensor]:
        return _cut(x, _soft(y, draws.num_classes, self.smoothing), self.alpha, draws)


def _soft(y: Any, num_classes: int | None, smoothing: float) -> Tensor:
    """Labels [B, classes] of classes [B]; soft ones already are what they are."""
    if not isinstance(y, Tensor) or y.dim() not in (1, 2):
        raise SnnprofError("mixup and cutmix need labels that are classes, [B] or [B, classes]")
    if y.dim() == 2:
        return y.float()
    if num_classes is None:
        raise SnnprofError("mixup and cutmix need the number of classes: give num_classes")
    off = smoothing / num_classes
    return F.one_hot(y, num_classes) * (1 - smoothing) + off


def _blended(x: Tensor, soft: Tensor, alpha: float, draws: Draws) -> tuple[Tensor, Tensor]:
    share = draws.generator.beta(alpha, alpha)
    return _mixed(x, share), _mixed(soft, share)


def _mixed(values: Tensor, share: float) -> Tensor:
    return values * share + values.flip(0) * (1 - share)


def _cut(x: Tensor, soft: Tensor, alpha: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """A part with a share of 1 - lambda of the area, less where it reaches over the border."""
    ratio = math.sqrt(1 - draws.generator.beta(alpha, alpha))
    (top, bottom), (left, right) = (_span(side, ratio, draws) for side in x.shape[-2:])
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x.flip(0)[..., top:bottom, left:right]
    area = (bottom - top) * (right - left)
    return mixed, _mixed(soft, 1 - area / (x.shape[-2] * x.shape[-1]))


def _span(side: int, ratio: float, draws: Draws) -> tuple[int, int]:
    half = int(side * ratio) // 2
    centre = int(draws.generator.integers(side))
    return max(0, centre - half), min(side, centre + half)

"""AutoAugment (Cubuk et al., 2019): two operations of one of 25 sub-policies, drawn per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.augmentation.placing import moved, rotation
from snnprof.experiment.augmentation.step import STEPS, Draws, Step, check

POLICIES = ("cifar10", "imagenet", "svhn")
GREY = 128 / 255  # where nothing was, as the authors' code has it
LEVELS = 9  # levels run from 0 to 9
# From images [n, C, H, W], levels [n] and signs [n] (1 or -1) to images.
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
OPERATIONS: dict[str, Operation] = {}


def _operation(name: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return add


@STEPS.register("auto-augment")
@dataclass(frozen=True)
class AutoAugment(Step):
    """One of a policy's 25 pairs of operations per image, each with its probability and level.

    Ranges of the levels 0 to 9 are the paper's (its table 6): shear to 0.3, translation to 150 of
    331 of the side, rotation to 30 degrees, each to either side; posterise 8 to 4 bits; solarise
    from 256 to 0; contrast, colour, brightness and sharpness 1 to 1.9 or to 0.1. Where nothing was
    is grey. Images are held to 8 bits, so that the results are those of Pillow's functions.

    Attributes:
        policy: "cifar10", "imagenet" or "svhn".
    """

    policy: str = "cifar10"

    def __post_init__(self) -> None:
        check(self, "policy", self.policy in POLICIES, f"one of {', '.join(POLICIES)}")
        _policy(self.policy)  # kornia is missing: now

    def __call__(self, x: Tensor, y: Any, draws: Draws) -> tuple[Tensor, Any]:
        if draws.frames > 1 or x.shape[1] not in (1, 3):
            steps = f", {draws.frames} time steps" if draws.frames > 1 else ""
            raise SnnprofError(
                f"auto-augment: inputs of {x.shape[1] // draws.frames} channels{steps}: it is for "
                "grey and RGB images"
            )
        names, probabilities, levels = _policy(self.policy)
        drawn = draws.generator.integers(len(names), size=len(x))
        x = _to_8_bits(x)
        for stage in range(names.shape[1]):
            happens = draws.generator.random(len(x)) < probabilities[drawn, stage]
            signs = draws.generator.choice([-1.0, 1.0], len(x)).astype(np.float32)
            chosen = np.where(happens, names[drawn, stage], "")
            for name in np.unique(chosen[happens]):
                of_these = np.flatnonzero(chosen == name)
                level = draws.there(levels[drawn[of_these], stage])
                images = draws.there(of_these)
                changed = OPERATIONS[name](x[images], level, draws.there(signs[of_these]))
                x[images] = _to_8_bits(changed)
        return x, y


@cache
def _policy(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, probabilities and levels [25, 2] of a policy, by kornia's table of the paper's."""
    try:
        tables = import_module("kornia.augmentation.auto.autoaugment.autoaugment")
    except ImportError as error:
        raise SnnprofError("auto-augment needs kornia: pip install 'snnprof[data]'") from error
    table = getattr(tables, f"{name}_policy")
    names = np.array([[operation[0] for operation in pair] for pair in table])
    probabilities = np.array([[operation[1] for operation in pair] for pair in table])
    levels = np.array([[operation[2] or 0 for operation in pair] for pair in table], np.float32)
    return names, probabilities, levels


def _to_8_bits(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255) / 255


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _sheared(x: Tensor, level: Tensor, sign: Tensor, row: int) -> Tensor:
    matrix = torch.eye(2, device=x.device).repeat(len(x), 1, 1)
    matrix[:, row, 1 - row] = sign * level / LEVELS * 0.3
    return moved(x, matrix, outside=GREY)


def _translated(x: Tensor, level: Tensor, sign: Tensor, axis: int) -> Tensor:
    matrix = torch.eye(2, device=x.device).repeat(len(x), 1, 1)
    offset = torch.zeros(len(x), 2, device=x.device)
    side = x.shape[-1 - axis]
    offset[:, axis] = (sign * level / LEVELS * side * 150 / 331).trunc()
    return moved(x, matrix, offset, outside=GREY)


@_operation("shear_x")
def _shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _sheared(x, level, sign, 0)


@_operation("shear_y")
def _shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _sheared(x, level, sign, 1)


@_operation("translate_x")
def _translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _translated(x, level, sign, 0)


@_operation("translate_y")
def _translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _translated(x, level, sign, 1)


@_operation("rotate")
def _rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return moved(x, rotation(sign * level / LEVELS * 30), outside=GREY)


def _grey(x: Tensor) -> Tensor:
    """ITU-R 601 luma [n, 1, H, W] in 8 bits; of a grey image itself."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(-1, 1, 1)
    return _to_8_bits((x * weights).sum(1, keepdim=True))


def _blend(base: Tensor, x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """From the base (factor 0) over the image (factor 1) and beyond, to factors 0.1 and 1.9."""
    return base + (x - base) * _each(1 + sign * level / LEVELS * 0.9)


@_operation("brightness")
def _brightness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(torch.zeros_like(x), x, level, sign)


@_operation("color")
def _color(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(_grey(x), x, level, sign)


@_operation("contrast")
def _contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(_to_8_bits(_grey(x).mean((1, 2, 3), keepdim=True)), x, level, sign)


@_operation("sharpness")
def _sharpness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from kornia.enhance import sharpness

    changed: Tensor = sharpness(x, 1 + sign * level / LEVELS * 0.9)
    return changed


@_operation("posterize")
def _posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from kornia.enhance import posterize

    changed: Tensor = posterize(x, 8 - (level / LEVELS * 4).round().to(torch.int64))
    return changed


@_operation("solarize")
def _solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return torch.where(x * 255 >= _each((1 - level / LEVELS) * 256), 1 - x, x)


@_operation("invert")
def _invert(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return 1 - x


@_operation("auto_contrast")
def _auto_contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Each channel stretched to 0 to 1; a channel of one value stays."""
    least, largest = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    width = largest - least
    return torch.where(width > 0, (x - least) / width.clamp(min=1e-6), x)


@_operation("equalize")
def _equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from kornia.enhance import equalize

    changed: Tensor = equalize(x)
    return changed

"""AutoAugment's operations are Pillow's, its draws those of the paper's table."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

import snnprof
from snnprof.experiment.augmentation import Augmentation, auto_augment
from snnprof.experiment.augmentation.auto_augment import GREY, OPERATIONS

pytest.importorskip("kornia", reason="kornia is not installed (extra data)")
pytest.importorskip("PIL", reason="Pillow is not installed")
from PIL import Image, ImageEnhance, ImageOps


def pictures(count: int = 4, side: int = 32) -> torch.Tensor:
    """Pixels on 8 bits that use a part of the range."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(20, 190, (count, 3, side, side), generator=generator).float() / 255


def as_pillow(x: torch.Tensor) -> Image.Image:
    return Image.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy())


def difference(name: str, level: int, sign: int, pillows) -> tuple[float, float]:
    """The largest difference of 255 levels, and the share of pixels that differ by more than 1."""
    x = pictures()
    n = len(x)
    signs = torch.full((n,), float(sign))
    ours = auto_augment._to_8_bits(OPERATIONS[name](x, torch.full((n,), float(level)), signs))
    theirs = np.stack([np.asarray(pillows(as_pillow(image))) for image in x])
    ours_8 = (ours * 255).round().permute(0, 2, 3, 1).numpy()
    apart = np.abs(ours_8 - theirs)
    return float(apart.max()), float((apart > 1).mean())


@pytest.mark.parametrize("level", [0, 3, 9])
@pytest.mark.parametrize("sign", [1, -1])
def test_operations_are_those_of_pillow(level: int, sign: int) -> None:
    factor = 1 + sign * level / 9 * 0.9
    bits = 8 - round(level / 9 * 4)
    threshold = math.ceil((1 - level / 9) * 256)
    exact = {
        "posterize": lambda i: ImageOps.posterize(i, bits),
        "solarize": lambda i: ImageOps.solarize(i, threshold),
        "invert": ImageOps.invert,
        "equalize": ImageOps.equalize,
    }
    for name, theirs in exact.items():
        assert difference(name, level, sign, theirs) == (0, 0), name
    rounded = {  # Pillow cuts off where we round
        "auto_contrast": ImageOps.autocontrast,
        "brightness": lambda i: ImageEnhance.Brightness(i).enhance(factor),
        "contrast": lambda i: ImageEnhance.Contrast(i).enhance(factor),
        "sharpness": lambda i: ImageEnhance.Sharpness(i).enhance(factor),
    }
    for name, theirs in rounded.items():
        assert difference(name, level, sign, theirs)[0] <= 1, name
    coloured = difference("color", level, sign, lambda i: ImageEnhance.Color(i).enhance(factor))
    assert coloured[0] <= 2 and coloured[1] < 0.001  # its grey is rounded too
    grey = (128, 128, 128)
    shift = int(level / 9 * 32 * 150 / 331) * sign
    shear = sign * level / 9 * 0.3
    middle = 16  # pixels are moved about the middle of 32
    placed = {
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
        "shear_x": (1, shear, -shear * middle, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, -shear * middle),
    }
    for name, matrix in placed.items():

        def theirs(image: Image.Image, matrix=matrix) -> Image.Image:
            return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=grey)

        assert difference(name, level, sign, theirs)[1] < 0.01, name

    def rotated(image: Image.Image) -> Image.Image:
        return image.rotate(sign * level / 9 * 30, fillcolor=grey)

    assert difference("rotate", level, sign, rotated)[1] < 0.02


def test_draws_are_those_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()

    def counting(name: str):
        def count(x, level, sign):
            counted[name] += len(x)
            return x

        return count

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, counting(name))
    images, calls = 500, 40
    augment = Augmentation([{"step": "auto-augment", "policy": "cifar10"}])
    for _ in range(calls):
        augment(torch.zeros(images, 3, 4, 4), None)
    # The paper's CIFAR-10 policy: the probabilities of an operation, over 25 sub-policies.
    expected = {
        "equalize": (0.9 + 0.6 + 0.5 + 0.3 + 0.2 + 0.2 + 0.6 + 0.6 + 0.8) / 25,
        "invert": (0.1 + 0.0 + 0.1) / 25,
        "translate_y": (0.7 + 0.4 + 0.9 + 0.7 + 0.7) / 25,
        "rotate": 0.7 / 25,
        "shear_y": (0.5 + 0.2) / 25,
    }
    total = images * calls
    for name, rate in expected.items():
        assert abs(counted[name] / total - rate) < 5 * math.sqrt(rate / total), name


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_every_image_gets_its_own(policy: str) -> None:
    augment = Augmentation([{"step": "auto-augment", "policy": policy}])
    one = pictures(1, 8)
    x = one.expand(100, 3, 8, 8)
    changed, _ = augment(x, None)
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 20
    assert torch.equal(x[0], one[0])
    assert changed.min() >= 0 and changed.max() <= 1
    grey, _ = augment(one[:, :1].expand(100, 1, 8, 8), None)
    assert grey.shape == (100, 1, 8, 8)


def test_where_nothing_was_is_grey() -> None:
    x = pictures(1)
    moved = OPERATIONS["translate_x"](x, torch.tensor([9.0]), torch.tensor([1.0]))
    # 9 / 9 * 32 * 150 / 331 = 14.5, so 14 columns.
    assert torch.allclose(moved[..., -14:], torch.tensor(GREY))
    assert torch.allclose(moved[..., :-14], x[..., 14:])


def test_what_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="policy must be one of cifar10, imagenet, svhn"):
        Augmentation([{"step": "auto-augment", "policy": "mnist"}])
    with pytest.raises(snnprof.SnnprofError, match="inputs of 2 channels, 2 time steps"):
        Augmentation(["auto-augment"])(torch.zeros(2, 3, 2, 5, 5), torch.zeros(3))


@pytest.mark.parametrize(("steps", "channels"), [(3, 1), (2, 3), (4, 2)])
def test_a_sequence_is_no_image(steps: int, channels: int) -> None:
    """Three grey time steps are not red, green and blue."""
    y = torch.zeros(5, dtype=torch.long)
    augment = Augmentation(["auto-augment"])
    said = f"inputs of {channels} channels, {steps} time steps: it is for grey and RGB images"
    for shape in ((steps, 5, channels, 8, 8), (5, steps, channels, 8, 8)):
        with pytest.raises(snnprof.SnnprofError, match=said):
            augment(torch.rand(shape), y)
    assert augment(torch.rand(1, 5, 3, 8, 8), y)[0].shape == (1, 5, 3, 8, 8)  # one step is an image

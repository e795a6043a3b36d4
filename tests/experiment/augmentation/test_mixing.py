"""Mixup and CutMix: what is mixed of the images is what is mixed of the labels."""

from __future__ import annotations

import math

import pytest
import torch

import snnprof
from snnprof.experiment.augmentation import Augmentation

CLASSES = 5
BATCHES = 2000


def flat_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images of one value each, 1 to 4, of classes 0 to 3."""
    return torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 1, 8, 8), torch.arange(4)


def augmentation(step: str, **strengths: object) -> Augmentation:
    return Augmentation([{"step": step, **strengths}], num_classes=CLASSES)


def test_mixup_mixes_labels_as_it_mixes_images() -> None:
    x, y = flat_batch()
    augment = augmentation("mixup", smoothing=0.0)
    shares = []
    for _ in range(BATCHES):
        mixed, soft = augment(x, y)
        share = float(soft[0, 0])
        assert torch.allclose(soft.sum(1), torch.ones(4))
        assert soft[0, 3].item() == pytest.approx(1 - share, abs=1e-6)
        # The first with the last: share * 1 + (1 - share) * 4, the second with the third.
        expected = torch.tensor([4 - 3 * share, 3 - share, 2 + share, 1 + 3 * share])
        assert torch.allclose(mixed, expected.view(4, 1, 1, 1).expand_as(mixed))
        shares.append(share)
    drawn = torch.tensor(shares, dtype=torch.float64)
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)) = 1 / 10.4 at a = 0.8.
    assert abs(drawn.mean() - 0.5) < 4 * math.sqrt(1 / 10.4 / BATCHES)
    assert abs(drawn.var() - 1 / 10.4) < 0.006  # kurtosis below 3: deviation < 0.136 / sqrt(2000)


def test_cutmix_labels_are_the_area_that_is_left() -> None:
    x, y = flat_batch()
    augment = augmentation("cutmix", smoothing=0.0)
    shares = []
    for _ in range(BATCHES):
        mixed, soft = augment(x, y)
        assert torch.allclose(soft.sum(1), torch.ones(4))
        for own, other, image in ((0, 3, 1.0), (1, 2, 2.0), (2, 1, 3.0), (3, 0, 4.0)):
            left = (mixed[own] == image).float().mean()
            assert soft[own, own].item() == pytest.approx(left.item(), abs=1e-6)
            assert soft[own, other].item() == pytest.approx(1 - left.item(), abs=1e-6)
        changed = (mixed[0, 0] != 1).nonzero()
        if len(changed):  # a rectangle
            height, width = (changed.amax(0) - changed.amin(0) + 1).tolist()
            assert height * width == len(changed)
        shares.append(float(soft[0, 0]))
    # As timm cuts: the side is int(8 * ratio) // 2 * 2, at most 6: 1 - 36 / 64 is left at least.
    assert min(shares) == 1 - 36 / 64 and max(shares) == 1.0


def test_smoothed_labels_sum_to_one_whatever_happens() -> None:
    x, y = flat_batch()
    _, soft = augmentation("mixup-or-cutmix", probability=0.0)(x, y)
    # 0.1 / 5 = 0.02 for each of five classes, and 0.9 more for the right one.
    expected = torch.full((4, CLASSES), 0.02)
    expected[range(4), range(4)] = 0.92
    assert torch.allclose(soft, expected)
    augment = augmentation("mixup-or-cutmix")
    for _ in range(50):
        _, soft = augment(x, y)
        assert torch.allclose(soft.sum(1), torch.ones(4))
        assert soft[:, 4].allclose(torch.tensor(0.02))  # a class that no image has


def test_the_switch_chooses_between_them() -> None:
    x, y = flat_batch()
    augment = augmentation("mixup-or-cutmix", switch=0.3, probability=0.8)
    blended = cut = 0
    for _ in range(BATCHES):
        mixed, _ = augment(x, y)
        values = mixed[0].unique()
        blended += int(len(values) == 1 and values.item() not in (1.0, 4.0))
        cut += int(len(values) == 2)
    # Mixup: 0.8 * 0.7 = 0.56 of the batches. CutMix: 0.24, less those that cut nothing or all.
    assert abs(blended / BATCHES - 0.56) < 4 * math.sqrt(0.56 * 0.44 / BATCHES)
    assert 0.15 < cut / BATCHES < 0.24 + 4 * math.sqrt(0.24 * 0.76 / BATCHES)


def test_what_is_refused() -> None:
    x, y = flat_batch()
    with pytest.raises(snnprof.SnnprofError, match="give num_classes"):
        Augmentation(["mixup"])(x, y)
    with pytest.raises(snnprof.SnnprofError, match="need labels that are classes"):
        augmentation("cutmix")(x, None)
    for wrong, said in (
        ({"mixup": 0.0}, "mixup must be above 0"),
        ({"mixup": math.inf}, "mixup must be above 0, at most 1e\\+06"),
        ({"cutmix": 1e308}, "cutmix must be above 0, at most 1e\\+06"),
        ({"cutmix": math.nan}, "cutmix must be"),
        ({"smoothing": math.nan}, "smoothing must"),
        ({"switch": 2.0}, "switch must"),
    ):
        with pytest.raises(snnprof.SnnprofError, match=said):
            augmentation("mixup-or-cutmix", **wrong)
    for step in ("mixup", "cutmix"):
        with pytest.raises(snnprof.SnnprofError, match="alpha must be above 0, at most 1e"):
            augmentation(step, alpha=math.inf)


@pytest.mark.parametrize("alpha", [5e-324, 1e-3, 1e6])
def test_every_alpha_that_is_taken_gives_pixels_and_shares(alpha: float) -> None:
    x, y = flat_batch()
    for step in ("mixup", "cutmix"):
        mixed, soft = augmentation(step, alpha=alpha)(x, y)
        assert x.min() <= mixed.min() and mixed.max() <= x.max()
        assert torch.allclose(soft.sum(1), torch.ones(len(soft)))

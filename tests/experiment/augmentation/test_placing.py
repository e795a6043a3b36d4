"""Crops, flips, cutouts, rolls and rotations: what they draw, and what becomes of each pixel."""

from __future__ import annotations

import math

import pytest
import torch

import snnprof
from snnprof.experiment.augmentation import Augmentation
from snnprof.experiment.augmentation.placing import moved, rotation
from snnprof.experiment.data import Normalization

MANY = 4000


def numbered(samples: int, side: int = 12) -> torch.Tensor:
    """Pixels that say where they are: channel 0 its row + 1, channel 1 its column + 1."""
    place = torch.arange(1.0, side + 1)
    image = torch.stack([place[:, None].expand(side, side), place.expand(side, side)])
    return image.repeat(samples, 1, 1, 1)


def uniform(values: torch.Tensor, least: int, largest: int) -> None:
    """Each value as often as the others: chi-square below its mean plus five deviations."""
    counts = torch.bincount(values.long() - least, minlength=largest - least + 1).double()
    assert len(counts) == largest - least + 1  # none outside
    expected = len(values) / len(counts)
    free = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < free + 5 * math.sqrt(2 * free)


def test_crops_shift_uniformly_and_show_black() -> None:
    x = numbered(MANY)
    cropped, y = Augmentation([{"step": "random-crop", "padding": 3}])(x, "labels")
    assert y == "labels" and cropped.shape == x.shape
    # Row 6 and column 6 of 12 are inside whatever the shift, from -3 to 3.
    down, right = cropped[:, 0, 6, 6] - 7, cropped[:, 1, 6, 6] - 7
    uniform(down, -3, 3)
    uniform(right, -3, 3)
    assert abs(torch.corrcoef(torch.stack([down, right]))[0, 1]) < 4 / math.sqrt(MANY)
    one = int((down == 2).nonzero()[0])
    assert cropped[one, 0, :, 6].tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]


def test_flips_happen_with_their_probability() -> None:
    x = numbered(MANY)
    for probability in (0.0, 0.3, 1.0):
        flipped, _ = Augmentation([{"step": "flip", "probability": probability}])(x, None)
        happened = flipped[:, 1, 0, 0] == 12
        assert torch.equal(flipped[happened], x[happened].flip(-1))
        assert torch.equal(flipped[~happened], x[~happened])
        deviation = math.sqrt(probability * (1 - probability) / MANY)
        assert abs(happened.float().mean() - probability) <= 4 * deviation


def test_cutouts_have_their_area_and_the_mean_pixel() -> None:
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    x = torch.ones(MANY, 3, 32, 32)
    augment = Augmentation([{"step": "cutout", "size": 16}], normalization=normalization)
    cut, _ = augment(x, None)
    holes = (cut[:, 0].abs() < 1e-6).float()
    assert torch.allclose(cut * holes[:, None], torch.zeros(()), atol=1e-6)  # all channels
    areas = holes.sum((1, 2))
    assert areas.max() == 256 and areas.min() >= 64  # 16 * 16; a centre in the corner: 8 * 8
    # Along a side of 32 a centre c leaves c + 8 pixels for c = 0..7 (92 in all), 16 for c = 8..24
    # (17 * 16 = 272) and 40 - c for c = 25..31 (84): 448 / 32 = 14 on average, 14 * 14 = 196.
    lengths = [8, 9, 10, 11, 12, 13, 14, 15] + 17 * [16] + [15, 14, 13, 12, 11, 10, 9]
    squares = sum(n * n for n in lengths) / 32
    deviation = math.sqrt((squares**2 - 196**2) / MANY)
    assert abs(areas.mean() - 196) < 4 * deviation
    half, _ = Augmentation([{"step": "cutout", "size": 2, "probability": 0.5}])(x, None)
    share = ((half == 0).flatten(1).any(1)).float().mean()
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(MANY)


def test_rolls_lose_nothing() -> None:
    x = numbered(MANY)
    rolled, _ = Augmentation([{"step": "roll", "shift": 2}])(x, None)
    down = 1 - rolled[:, 0, 0, 0]  # row 0 shows row 1 - down, counted from 1, modulo 12
    down = torch.where(down < -6, down + 12, down)
    uniform(down, -2, 2)
    one = int((down == -2).nonzero()[0])
    right = rolled[one, 1, 0].tolist().index(1.0)
    right = right if right < 6 else right - 12
    assert torch.equal(rolled[one], x[one].roll((-2, right), (1, 2)))
    assert torch.equal(rolled.sum((2, 3)), x.sum((2, 3)))


def test_rotations_are_about_the_middle() -> None:
    x = torch.rand(3, 2, 9, 9)
    turned = moved(x, rotation(torch.tensor([0.0, 90.0, 180.0])))
    assert torch.equal(turned[0], x[0])
    assert torch.equal(turned[1], x[1].rot90(1, (1, 2)))  # counter-clockwise, as Pillow's
    assert torch.equal(turned[2], x[2].rot90(2, (1, 2)))
    corner = torch.zeros(1000, 1, 33, 33)
    corner[:, :, 16, 32] = 1  # 16 to the right of the middle
    turned, _ = Augmentation([{"step": "rotate", "degrees": 20.0}])(corner, None)
    column = turned[:, 0, :, 24:].amax(2)
    assert set(turned.unique().tolist()) == {0.0, 1.0}  # nearest: counts stay whole
    moved_by = (column * (torch.arange(33) - 16)).sum(1) / column.sum(1).clamp(min=1)
    assert moved_by.abs().max() <= 16 * math.sin(math.radians(20)) + 1
    assert moved_by.abs().max() > 16 * math.sin(math.radians(17))


@pytest.mark.parametrize("time_first", [True, False])
def test_all_frames_of_a_recording_change_alike(time_first: bool) -> None:
    frames = numbered(6).expand(4, 6, 2, 12, 12) * torch.arange(1, 5).view(4, 1, 1, 1, 1)
    x = frames if time_first else frames.transpose(0, 1)
    steps = ["flip", {"step": "roll", "shift": 3}, {"step": "rotate", "degrees": 30.0}]
    augmented, _ = Augmentation(steps)(x, torch.zeros(6, dtype=torch.long))
    assert augmented.shape == x.shape
    by_time = augmented if time_first else augmented.transpose(0, 1)
    for t in range(4):
        assert torch.equal(by_time[t], by_time[0] * (t + 1))
    assert len({tuple(sample.flatten().tolist()) for sample in by_time[0]}) == 6


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("rotat", "unknown augmentation step 'rotat'; known: auto-augment, cutmix, cutout, flip"),
        ({"padding": 4}, "give its name"),
        ({"step": "flip", "chance": 1}, "'flip' has no 'chance'; known: probability"),
        ({"step": "flip", "probability": "half"}, "probability='half': must be a number, as 0.5"),
        ({"step": "random-crop", "padding": True}, "padding=True: must be a whole number, as 4"),
        ({"step": "flip", "probability": 1.5}, r"Flip\(probability=1.5\): .* between 0 and 1"),
        ({"step": "random-crop", "padding": -1}, r"RandomCrop\(padding=-1\): .* from 0 to 32768"),
        ({"step": "cutout", "size": 0}, r"size must be from 1 to 32768"),
        ({"step": "cutout", "size": 10**30}, r"size must be from 1 to 32768"),
        ({"step": "roll", "shift": 10**30}, r"shift must be from 0 to 32768"),
        ({"step": "rotate", "degrees": float("inf")}, r"degrees must be from 0 to 180"),
        ({"step": "rotate", "degrees": float("nan")}, r"degrees must be from 0 to 180"),
        ({"step": "random-resized-crop", "ratio": float("inf")}, r"ratio must be 1 or more, and f"),
        ({"step": "random-resized-crop", "area": 0.0}, r"area must be above 0, at most 1"),
    ],
)
def test_a_step_that_cannot_be_is_refused(step, said: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=said):
        Augmentation([step])

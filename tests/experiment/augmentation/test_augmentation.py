"""Augmentation as a whole: reproducible, resumable, and nothing else is touched."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

import snnprof
from snnprof.experiment.augmentation import Augmentation, augmented, save_batch_picture
from snnprof.experiment.data import Normalization
from snnprof.experiment.data_sets import load

STEPS = [
    {"step": "random-crop", "padding": 2},
    "flip",
    {"step": "cutout", "size": 3},
    "mixup-or-cutmix",
]
NORMALIZATION = Normalization((0.5,), (0.25,))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(16, 1, 8, 8, generator=generator)
    return NORMALIZATION.apply(pixels), torch.arange(16) % 10


def made(seed: int = 0) -> Augmentation:
    return Augmentation(STEPS, seed, NORMALIZATION, num_classes=10)


def test_the_seed_decides_and_no_other_generator_is_touched() -> None:
    x, y = batch()
    before, state = x.clone(), torch.random.get_rng_state()
    (a, a_y), (b, b_y), (c, _) = made()(x, y), made()(x, y), made(1)(x, y)
    assert torch.equal(a, b) and torch.equal(a_y, b_y)
    assert not torch.equal(a, c)
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_saved_state_goes_on_where_it_was() -> None:
    x, y = batch()
    unbroken, resumed = made(), made(5)
    unbroken(x, y)
    file = io.BytesIO()
    torch.save(unbroken.state_dict(), file)
    expected = [unbroken(x, y) for _ in range(3)]
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for images, labels in expected:
        again, again_labels = resumed(x, y)
        assert torch.equal(again, images) and torch.equal(again_labels, labels)
    json.dumps(resumed.state_dict())
    with pytest.raises(snnprof.SnnprofError, match="no state of an augmentation's generator"):
        resumed.load_state_dict({"generator": 3})


def test_without_steps_it_is_what_it_was() -> None:
    x, y = batch()
    images, labels = Augmentation([], normalization=NORMALIZATION)(x, y)
    assert images is x and labels is y
    kept, _ = Augmentation([{"step": "flip", "probability": 0.0}], 0, NORMALIZATION)(x, y)
    assert torch.allclose(kept, x, atol=1e-6)  # pixels and back
    with pytest.raises(snnprof.SnnprofError, match=r"shape \(16, 8\): must be images"):
        Augmentation(["flip"])(x[:, 0, 0], y)
    assert str(made()).startswith("RandomCrop(padding=2), Flip(probability=0.5), Cutout(size=3,")


def test_augmented_data_change_their_training_batches_only() -> None:
    data = load("digits")
    changed = augmented(data, Augmentation(["flip"], 0, data.normalization))
    changed = changed.to(torch.device("cpu"), torch.channels_last)
    assert (changed.images, changed.shape, changed.steps(64)) == (1437, data.shape, 22)
    (x, y), *_ = data.epoch(64, torch.Generator().manual_seed(3))
    (a, a_y), *others = changed.epoch(64, torch.Generator().manual_seed(3))
    assert len(others) == 21 and torch.equal(y, a_y)
    same = torch.isclose(a, x, atol=1e-5).flatten(1).all(1)
    turned = torch.isclose(a, x.flip(-1), atol=1e-5).flatten(1).all(1)
    assert (same | turned).all() and same.any() and turned.any()
    assert torch.equal(changed.first(8)[0], data.first(8)[0])
    assert torch.equal(next(iter(changed.test(8)))[0], next(iter(data.test(8)))[0])
    assert changed.notes == ("Training images were augmented: Flip(probability=0.5).",)


def test_a_run_trains_on_soft_labels() -> None:
    data = load("digits")
    given = augmented(data, made())
    settings = {"epochs": 1, "timesteps": 1, "modes": ["stbp", "online"]}
    report = snnprof.run(data=lambda: given, **settings)
    assert all(row.failure is None and row.accuracy is not None for row in report.rows)
    assert any("Mixup" in note for note in report.notes)


def test_a_picture_shows_the_batch(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = torch.zeros(5, 3, 64, 64)
    pixels[4, 0] = 1
    save_batch_picture(NORMALIZATION.apply(pixels), tmp_path / "a.png", NORMALIZATION)
    shown = image.open(tmp_path / "a.png")
    # Five images: three columns, two rows, of 64 pixels with 2 between and around.
    assert shown.size == (3 * 66 + 2, 2 * 66 + 2)
    assert shown.getpixel((2 + 66 + 5, 2 + 66 + 5)) == (255, 0, 0)  # the fifth: row 1, column 1
    assert shown.getpixel((5, 5)) == (0, 0, 0)
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    events = torch.zeros(2, 1, 2, 8, 8)
    events[:, 0, 1, 0, 0] = 3
    events[0, 0, 0, 7, 7] = 2
    save_batch_picture(events, tmp_path / "b.png")
    shown = image.open(tmp_path / "b.png")
    assert shown.size == (68, 68)  # 8 * 8 = 64, and 2 on each side
    assert shown.getpixel((2, 2)) == (0, 0, 255)  # six events, the most
    assert shown.getpixel((65, 65)) == (85, 0, 0)  # 2 / 6 * 255
    with pytest.raises(snnprof.SnnprofError, match="must end in"):
        save_batch_picture(pixels, "a.jpg")
    with pytest.raises(snnprof.SnnprofError, match=r"shape \(5, 4\): must be"):
        save_batch_picture(torch.zeros(5, 4), tmp_path / "a.png")

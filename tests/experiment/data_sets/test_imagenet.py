"""ImageNet's folders of classes and Tiny-ImageNet's own layout, written small and read back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import snnprof
from snnprof.experiment import own_data
from snnprof.experiment.augmentation import (
    Augmentation,
    AugmentedData,
    RandomResizedCrop,
    augmented,
)
from snnprof.experiment.data_sets import DATA_SETS, load
from snnprof.experiment.data_sets.image_files import IMAGENET, CenterCrop, ImageFiles
from snnprof.experiment.own_data import Loading

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def write_image(file: Path, colour: tuple[int, ...], size: tuple[int, int], mode: str = "RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)


def imagenet(root: Path) -> Path:
    """Two classes; three training images and two of validation, of different sizes and modes."""
    write_image(root / "train/n01440764/n01440764_18.JPEG", (200, 0, 0), (50, 40))
    write_image(root / "train/n01440764/n01440764_36.JPEG", (200,), (30, 60), "L")
    write_image(root / "train/n01443537/n01443537_2.JPEG", (0, 0, 200), (64, 64))
    write_image(root / "val/n01440764/ILSVRC2012_val_00000293.JPEG", (200, 0, 0), (50, 40))
    write_image(root / "val/n01443537/ILSVRC2012_val_00000236.JPEG", (0, 0, 200), (40, 50))
    (root / "train/n01440764/readme.txt").write_text("no image")
    return root


def tiny(root: Path) -> Path:
    root = root / "tiny-imagenet-200"
    for n, wnid in enumerate(("n02124075", "n01443537")):  # not in the order of their names
        write_image(root / f"train/{wnid}/images/{wnid}_0.JPEG", (100 * n, 0, 0), (64, 64))
        write_image(root / f"train/{wnid}/images/{wnid}_1.JPEG", (100 * n, 0, 0), (64, 64))
        write_image(root / f"val/images/val_{n}.JPEG", (0, 100 * n, 0), (64, 64))
    (root / "wnids.txt").write_text("n02124075\nn01443537\n")
    lines = ["val_1.JPEG\tn01443537\t0\t32\t44\t62", "val_0.JPEG\tn02124075\t52\t55\t57\t59"]
    (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_folders_of_classes_are_streamed(tmp_path: Path, workers: int) -> None:
    imagenet(tmp_path / "imagenet")
    loading = Loading(batch_size=2, workers=workers)
    data = load("imagenet", 32, data_dir=tmp_path, loading=loading)
    assert data.images == 3
    assert data.shape == {"num_classes": 2, "in_channels": 3, "image_size": 32}
    assert data.normalization is IMAGENET
    (x, y), *others = data.test(2)
    assert not others
    assert y.tolist() == [0, 1]
    colours = IMAGENET.undo(x).mean((2, 3)) * 255  # JPEG rounds
    assert torch.allclose(colours, torch.tensor([[200.0, 0, 0], [0, 0, 200]]), atol=4)
    assert data.steps(2) == 1  # of three images, two


def test_of_test_images_the_middle_is_taken() -> None:
    # The shorter side becomes 56 * 256 / 224 = 64: this picture stays as it is. The middle 56 of 64
    # rows are 4 to 59, of 128 columns 36 to 91.
    rows, columns = np.mgrid[:64, :128].astype(np.uint8)
    picture = np.stack([rows, columns, rows], 2)
    cropped = np.asarray(CenterCrop(56)(Image.fromarray(picture)))
    assert cropped.shape == (56, 56, 3)
    assert cropped[:, 0, 0].tolist() == [*range(4, 60)]
    assert cropped[0, :, 1].tolist() == [*range(36, 92)]


def gradients(root: Path) -> Path:
    """Two classes of four training images and one of validation, 64x128: red the row, green the
    column; no JPEG, which would blur them."""
    rows, columns = np.mgrid[:64, :128].astype(np.uint8)
    picture = Image.fromarray(np.stack([rows, columns, rows], 2))
    for name in ("n01440764", "n01443537"):
        for part, count in (("train", 4), ("val", 1)):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                picture.save(root / part / name / f"{number}.png")
    return root


def pixels(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Of normalised images, by the mean and deviation of torchvision's documentation."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (batch[0] * deviation + mean) * 255


def cropped(folder: Path, workers: int) -> AugmentedData:
    data = load("imagenet", 56, data_dir=folder, loading=Loading(2, workers, seed=3))
    return augmented(data, Augmentation(["random-resized-crop"]))


def epochs(data: AugmentedData, count: int) -> list[list[torch.Tensor]]:
    order = torch.Generator()
    return [[x for x, _ in data.epoch(2, order)] for _ in range(count)]


def test_training_images_are_cropped_at_random_only_where_the_augmentation_says_so(
    tmp_path: Path,
) -> None:
    gradients(tmp_path / "imagenet")
    data = load("imagenet", 56, data_dir=tmp_path, loading=Loading(2))
    for part in (data.epoch(2, torch.Generator()), data.test(2), cropped(tmp_path, 0).test(2)):
        found = pixels(next(part))
        assert torch.allclose(found[:, 0, :, 0], torch.arange(4.0, 60).expand(2, -1), atol=1e-3)
        assert torch.allclose(found[:, 1, 0], torch.arange(36.0, 92).expand(2, -1), atol=1e-3)
    files = ImageFiles([tmp_path / "imagenet/val/n01440764/0.png"], [1], ("a", "b"), CenterCrop(56))
    assert torch.equal(files.cropped(RandomResizedCrop().part)[0][0], files[0][0])  # no seed
    for batch in cropped(tmp_path, 0).epoch(2, torch.Generator()):
        red, green = pixels(batch)[0, :2]
        # Of a part of h x w pixels, 56x56 are made: 53 h / 56 between rows 1 and 54.
        height, width = 56 / 53 * (red[54, 9] - red[1, 9]), 56 / 53 * (green[9, 54] - green[9, 1])
        assert 0.07 < height * width / (64 * 128) < 0.8  # all of a square of 64x64 is half of it
        assert 0.7 < width / height < 1.4


def test_workers_alter_neither_the_order_nor_the_parts(tmp_path: Path) -> None:
    gradients(tmp_path / "imagenet")
    here = cropped(tmp_path, 0)
    torch.manual_seed(5)  # torch's own generator says nothing
    first, second = epochs(here, 2)
    assert not any(torch.equal(a, b) for a in first for b in second)
    there = cropped(tmp_path, 2)
    for a, b in zip((*first, *second), (x for e in epochs(there, 2) for x in e), strict=True):
        assert torch.equal(a, b)
    states = [[g.get_state() for g in data.generators] for data in (here, there)]
    for a, b in zip(*states, strict=True):
        assert torch.equal(a, b)  # so what is resumed goes on alike


def test_a_random_resized_crop_is_refused_where_no_files_are_read(tmp_path: Path) -> None:
    digits = load("digits")
    crop = Augmentation(["random-resized-crop"])
    with pytest.raises(snnprof.SnnprofError, match=r"these data are scikit-learn d.*: leave it"):
        augmented(digits, crop)
    with pytest.raises(snnprof.SnnprofError, match="these images are read already: give it first"):
        crop(*digits.first(2))
    gradients(tmp_path / "imagenet")
    data = load("imagenet", 56, data_dir=tmp_path, loading=Loading(2))
    with pytest.raises(snnprof.SnnprofError, match="before all other steps: give it once"):
        augmented(data, Augmentation(["flip", "random-resized-crop"]))


def test_random_parts_have_the_areas_and_ratios_of_their_bounds() -> None:
    generator, crop = np.random.default_rng(0), RandomResizedCrop()
    boxes = torch.tensor([crop.part(400, 300, generator) for _ in range(2000)]).float()
    left, top, right, bottom = boxes.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 400 and bottom.max() <= 300
    share = (right - left) * (bottom - top) / (400 * 300)
    ratio = (right - left) / (bottom - top)
    assert 0.079 < share.min() < 0.1 and 0.9 < share.max() <= 1
    assert 0.74 < ratio.min() < 0.77 and 1.31 < ratio.max() < 1.35
    # Small parts always fit, so there the logarithm of the ratio is uniform on +-log(4/3): mean 0,
    # deviation log(4/3) / sqrt(3) = 0.166 each, four deviations of the mean of n.
    small = ratio[share < 0.3].log()
    assert len(small) > 300
    assert abs(small.mean()) < 4 * math.log(4 / 3) / math.sqrt(3 * len(small))


def test_tiny_imagenet_is_read_in_its_own_layout(tmp_path: Path) -> None:
    tiny(tmp_path)
    data = load("imagenet200", data_dir=tmp_path, loading=Loading(batch_size=4))
    assert data.images == 4
    assert data.shape == {"num_classes": 2, "in_channels": 3, "image_size": 64}
    x, y = data.first(4)
    red = (IMAGENET.undo(x)[:, 0].mean((1, 2)) * 255).round()
    assert torch.allclose(red, 100.0 * y, atol=2)  # class 0 is the first line of wnids.txt
    ((x, y),) = data.test(4)
    assert y.tolist() == [1, 0]  # the order of the annotations
    assert torch.allclose((IMAGENET.undo(x)[:, 1].mean((1, 2)) * 255), 100.0 * y, atol=2)


@pytest.mark.parametrize("name", ["imagenet", "imagenet200"])
def test_a_seed_without_loading_is_that_of_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    gradients(tmp_path / "imagenet")
    tiny(tmp_path)
    monkeypatch.setattr(own_data, "USUAL_BATCH", 2)
    for loading, seed in ((Loading(2, seed=3), 3), (None, 7)):
        data = DATA_SETS[name](8, 7, data_dir=tmp_path, loading=loading)
        assert data.generators[0].initial_seed() == seed


def broken_imagenet(tmp_path: Path, name: str) -> None:
    root = imagenet(tmp_path / "imagenet")
    if name == "empty":
        (root / "train/n01443537/n01443537_2.JPEG").unlink()
    elif name == "image":
        (root / "val/n01443537/ILSVRC2012_val_00000236.JPEG").write_bytes(b"\xff\xd8 nothing")
    elif name == "classes":
        write_image(root / "val/n02/1.JPEG", (0, 0, 0), (8, 8))
    elif name == "half":
        (root / "val").rename(root / "validation")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", r"train/n01443537: a class folder without images \("),
        ("image", r"val_00000236\.JPEG is no image that Pillow can read"),
        ("classes", ": train and val have different classes, as 'n02'"),
        ("half", "data 'imagenet': .* only one of the folders train and val"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, name: str, said: str) -> None:
    broken_imagenet(tmp_path, name)
    for workers in (0, 1):
        loading = Loading(batch_size=2, workers=workers)
        with pytest.raises(snnprof.SnnprofError, match=f"^[^ ]*{said}") as error:
            load("imagenet", 16, data_dir=tmp_path, loading=loading)
        assert "\n" not in str(error.value)


def test_what_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(snnprof.SnnprofError, match=f"none of imagenet/train.* in {tmp_path}: put"):
        load("imagenet", data_dir=tmp_path)
    with pytest.raises(snnprof.SnnprofError, match=r"unpack http://.*tiny-imagenet-200\.zip"):
        load("imagenet200", data_dir=tmp_path)
    root = tiny(tmp_path)
    (root / "val/images/val_0.JPEG").unlink()
    missing = root / "val/images/val_0.JPEG"
    with pytest.raises(snnprof.SnnprofError) as error:
        load("imagenet200", data_dir=tmp_path)
    assert str(error.value) == f"{missing}, named in val_annotations.txt, is missing: get it anew"
    (root / "val/val_annotations.txt").write_text("val_1.JPEG\tn00000000\t0\t32\t44\t62\n")
    unknown = r"image 'val_1\.JPEG' is of class 'n00000000', which is not in wnids\.txt: "
    with pytest.raises(snnprof.SnnprofError, match=unknown):
        load("imagenet200", data_dir=tmp_path)
    (root / "wnids.txt").unlink()
    with pytest.raises(snnprof.SnnprofError, match=r"wnids\.txt cannot be read"):
        load("imagenet200", data_dir=tmp_path)


def test_a_run_streams_them(tmp_path: Path) -> None:
    tiny(tmp_path)
    (row,) = snnprof.run(
        data="imagenet200", data_dir=tmp_path, batch_size=2, workers=1, image_size=32,
        epochs=1, timesteps=1, modes="stbp",
    ).rows  # fmt: skip
    assert row.failure is None and row.counts.samples == 2

"""ImageNet as folders of classes, and Tiny-ImageNet-200 in its own layout, streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Data, Part
from snnprof.experiment.data_sets.image_files import (
    IMAGENET,
    SUFFIXES,
    CenterCrop,
    Fit,
    ImageFiles,
    Resized,
    pillow,
)
from snnprof.experiment.data_sets.place import data_folder, find
from snnprof.experiment.data_sets.registry import DATA_SETS
from snnprof.experiment.own_data import Loading, OwnData, own_data

IMAGENET_SIZE = 224
TINY_SIZE = 64
TINY_ADDRESS = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@DATA_SETS.register("imagenet")
def imagenet(
    image_size: int | None,
    seed: int,
    data_dir: str | Path | None = None,
    loading: Loading | None = None,
) -> Data:
    """ImageNet-1k, or any images in folders ``train/CLASS`` and ``val/CLASS``.

    The shorter side is resized to 256 / 224 of ``image_size`` (224), and the middle taken; random
    parts of training images, and flips, are left to the augmentation.

    Raises:
        SnnprofError: not there, a class without images, or classes that differ.
    """
    pillow()
    size = image_size or IMAGENET_SIZE
    root = _with_folders("imagenet", data_dir)
    classes = _classes(root / "train")
    if _classes(root / "val") != classes:
        differ = sorted(set(classes) ^ set(_classes(root / "val")))
        raise SnnprofError(
            f"{root}: train and val have different classes, as {differ[0]!r}: give both the same"
        )
    train = _in_folders(root / "train", classes, CenterCrop(size))
    test = _in_folders(root / "val", classes, CenterCrop(size))
    how = f"the middle {size}x{size}"
    return _streamed("imagenet", "ImageNet", train, test, how, loading or Loading(seed=seed))


@DATA_SETS.register("imagenet200")
def imagenet200(
    image_size: int | None,
    seed: int,
    data_dir: str | Path | None = None,
    loading: Loading | None = None,
) -> Data:
    """Tiny-ImageNet-200: 100,000 training and 10,000 validation images of 3x64x64, 200 classes.

    Raises:
        SnnprofError: not there, a class without images, or an annotation without its image.
    """
    pillow()
    size = image_size or TINY_SIZE
    known = ("tiny-imagenet-200",)
    root = find("imagenet200", data_dir, known, f"unpack {TINY_ADDRESS} there")
    classes = tuple(_lines(root / "wnids.txt"))
    number = {name: n for n, name in enumerate(classes)}
    train = _in_folders(root / "train", classes, Resized(size), below="images")
    files, targets = [], []
    annotations = root / "val" / "val_annotations.txt"
    for line in _lines(annotations):
        name, wnid, *_ = [*line.split("\t"), "", ""]
        file = root / "val" / "images" / name
        if wnid not in number:
            raise SnnprofError(
                f"{annotations}: image {name!r} is of class {wnid!r}, which is not in wnids.txt: "
                "get it anew"
            )
        if not file.is_file():
            raise SnnprofError(f"{file}, named in {annotations.name}, is missing: get it anew")
        files.append(file)
        targets.append(number[wnid])
    test = ImageFiles(files, targets, classes, Resized(size))
    how = f"3x{size}x{size}; its validation images are the test images"
    loading = loading or Loading(seed=seed)
    return _streamed("imagenet200", "Tiny-ImageNet-200", train, test, how, loading)


def _streamed(
    name: str, title: str, train: ImageFiles, test: ImageFiles, how: str, loading: Loading
) -> Data:
    data = own_data(
        {
            "train": train,
            "test": test,
            "num_classes": len(train.classes),
            "description": (
                f"{title}, {len(train):,} training and {len(test):,} test images of "
                f"{len(train.classes)} classes, {how}"
            ),
        },
        loading,
        name,
    )
    assert isinstance(data, OwnData)

    def cropped(part: Part) -> Data:
        how_read = f"random parts of training images resized; of test images {how}"
        return _streamed(name, title, train.cropped(part), test, how_read, loading)

    return replace(data, normalization=IMAGENET, cropped=cropped)


def _with_folders(name: str, data_dir: str | Path | None) -> Path:
    """The folder with ``train`` and ``val`` in it: the data folder, or one of that name there."""
    root = data_folder(data_dir)
    for place in (root / name, root):
        if (place / "train").is_dir() and (place / "val").is_dir():
            return place
    find(name, data_dir, (f"{name}/train", f"{name}/val"), "put its folders of classes there")
    raise SnnprofError(f"data {name!r}: {root} has only one of the folders train and val: add it")


def _classes(folder: Path) -> tuple[str, ...]:
    found = tuple(sorted(place.name for place in folder.iterdir() if place.is_dir()))
    if not found:
        raise SnnprofError(f"{folder} has no folders of classes: put one per class there")
    return found


def _in_folders(
    folder: Path,
    classes: tuple[str, ...],
    fit: Fit,
    below: str = "",
) -> ImageFiles:
    """The images in a folder per class, in the order of their names."""
    files: list[Path] = []
    targets: list[int] = []
    for number, name in enumerate(classes):
        place = folder / name / below
        there = sorted(place.iterdir()) if place.is_dir() else []
        images = [file for file in there if file.suffix.lower() in SUFFIXES]
        if not images:
            raise SnnprofError(
                f"{place}: a class folder without images ({', '.join(sorted(SUFFIXES))}): fill it, "
                "or remove the class"
            )
        files += images
        targets += [number] * len(images)
    return ImageFiles(files, targets, classes, fit)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SnnprofError(f"{file} cannot be read: {error}; get it anew") from error

"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from their archives, pickled or binary."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Normalization
from snnprof.experiment.data_sets.in_memory import Dataset
from snnprof.experiment.data_sets.place import find
from snnprof.experiment.data_sets.registry import DATA_SETS
from snnprof.experiment.data_sets.restricted_pickle import read_pickle

SIZE = 32
PIXELS = 3 * SIZE * SIZE
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar.html"

# Mean and deviation of the training pixels, as papers print them.
CIFAR10 = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))

# From a file's content and name to images [N, 3072] and labels [N], both uint8.
Parse = Callable[[bytes, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Form:
    """One of the forms in which a data set is distributed.

    Attributes:
        folder, archive: their names.
        train, test: names of the files in it.
        parse: reads one of them.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Parse


def _pickled(key: str) -> Parse:
    def parse(content: bytes, file: str) -> tuple[np.ndarray, np.ndarray]:
        """``data`` [N, 3072], a row being the red, green and blue plane, and labels."""
        found = read_pickle(content, file)
        images, labels = found.get("data"), found.get(key)
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.shape[1:] != (PIXELS,)
        ):
            raise SnnprofError(f"{file}: its 'data' are no images of {PIXELS} bytes: get it anew")
        if (
            not isinstance(labels, list)
            or len(labels) != len(images)
            or not all(isinstance(label, int) and 0 <= label < 256 for label in labels)
        ):
            raise SnnprofError(f"{file}: its {key!r} are not one class per image: get it anew")
        return images, np.array(labels, np.uint8)

    return parse


def _binary(label_bytes: int) -> Parse:
    def parse(content: bytes, file: str) -> tuple[np.ndarray, np.ndarray]:
        """Records of the labels' bytes, the last being the fine one, and 3072 of pixels."""
        record = label_bytes + PIXELS
        if not content or len(content) % record:
            raise SnnprofError(
                f"{file}: {len(content)} bytes are no whole number of records of {record}: "
                "get it anew"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return records[:, label_bytes:], records[:, label_bytes - 1]

    return parse


_BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6))
_FORMS_10 = (
    _Form(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _BATCHES,
        ("test_batch",),
        _pickled("labels"),
    ),
    _Form(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{batch}.bin" for batch in _BATCHES),
        ("test_batch.bin",),
        _binary(1),
    ),
)
_FORMS_100 = (
    _Form(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ("train",),
        ("test",),
        _pickled("fine_labels"),
    ),
    _Form("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",), _binary(2)),
)


@DATA_SETS.register("cifar10")
def cifar10(image_size: int | None, seed: int, data_dir: str | Path | None = None) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 3x32x32, 10 classes, in uint8.

    Raises:
        SnnprofError: not there, or a broken file.
    """
    return _cifar("cifar10", "CIFAR-10", 10, _FORMS_10, CIFAR10, image_size, data_dir)


@DATA_SETS.register("cifar100")
def cifar100(image_size: int | None, seed: int, data_dir: str | Path | None = None) -> Dataset:
    """CIFAR-100: as CIFAR-10, with 100 classes (the fine labels).

    Raises:
        SnnprofError: not there, or a broken file.
    """
    return _cifar("cifar100", "CIFAR-100", 100, _FORMS_100, CIFAR100, image_size, data_dir)


def _cifar(
    name: str,
    title: str,
    classes: int,
    forms: tuple[_Form, ...],
    normalization: Normalization,
    image_size: int | None,
    data_dir: str | Path | None,
) -> Dataset:
    known = {place: form for form in forms for place in (form.folder, form.archive)}
    how = f"get {forms[0].archive} from {ADDRESS} into it"
    place = find(name, data_dir, tuple(known), how)
    form = known[place.name]
    files = _contents(place, (*form.train, *form.test))
    train_images, train_labels = _joined(form, form.train, files, place, classes, image_size)
    test_images, test_labels = _joined(form, form.test, files, place, classes, image_size)
    size = train_images.shape[-1]
    resized = "" if size == SIZE else f", resized bilinearly from {SIZE}x{SIZE}"
    return Dataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        num_classes=classes,
        labelled=True,
        description=(
            f"{title}, {len(train_labels):,} training and {len(test_labels):,} test images of "
            f"3x{size}x{size}{resized}, its own split, from {place.name}"
        ),
        normalization=normalization,
    )


def _contents(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of those names, in a folder or in an archive, which is read once.

    Raises:
        SnnprofError: one is not there, or the archive is broken.
    """
    try:
        found = _of_folder(place, names) if place.is_dir() else _of_archive(place, names)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise SnnprofError(f"{place} is broken: {error}; get it anew") from error
    for name in names:
        if name not in found:
            raise SnnprofError(f"{place} has no file {name}: get it anew")
    return found


def _of_folder(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}


def _of_archive(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(place, "r:gz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            opened = archive.extractfile(member) if name in names else None
            if opened is not None:
                found[name] = opened.read()
    return found


def _joined(
    form: _Form,
    names: tuple[str, ...],
    files: Mapping[str, bytes],
    place: Path,
    classes: int,
    image_size: int | None,
) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W] in uint8 and labels [N] of several files."""
    images, labels = [], []
    for name in names:
        rows, classes_of = form.parse(files[name], str(place / name))
        if len(classes_of) and classes_of.max() >= classes:
            raise SnnprofError(
                f"{place / name}: class {classes_of.max()} of {classes}: get it anew"
            )
        images.append(_resized(torch.from_numpy(rows.copy()).view(-1, 3, SIZE, SIZE), image_size))
        labels.append(torch.from_numpy(classes_of.astype(np.int64)))
    return torch.cat(images), torch.cat(labels)


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or size == SIZE:
        return images
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=size < SIZE)
        for part in images.split(1000)
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])

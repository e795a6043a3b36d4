"""DVS-CIFAR10 and DVS128 Gesture: events, read and cut into frames by tonic."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as MapStyle

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Batch, Data
from snnprof.experiment.data_sets.place import find
from snnprof.experiment.data_sets.registry import DATA_SETS
from snnprof.experiment.own_data import Loading, OwnData, own_data

SENSOR = 128
SIZE = 48
TEST_PER_CLASS = 100
# What tonic cuts into frames: microseconds, place, polarity.
EVENTS = np.dtype([("t", np.int64), ("x", np.int64), ("y", np.int64), ("p", np.int64)])
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter-clockwise", "left arm clockwise", "left arm counter-clockwise", "arm roll",
    "air drums", "air guitar", "other gestures",
)  # fmt: skip

Read = Callable[[Path], np.ndarray]


def _tonic() -> Any:
    try:
        import tonic
    except ImportError as error:
        raise SnnprofError(
            f"event data need tonic ({error}): pip install 'snnprof[dvs]'"
        ) from error
    return tonic


class EventFrames(MapStyle[tuple[Tensor, int]]):
    """Recordings as frames [T, 2, H, W] of event counts, and their classes.

    A recording's time is cut into T equal parts. Events of the sensor's 128x128 pixels are counted
    where they fall on H x W, so that no event is lost and frames hold whole numbers.

    Args:
        files: of one recording each.
        targets: their classes.
        classes: names of the classes.
        read: from a file to its events, as ``EVENTS``.
        timesteps: T.
        size: H and W.
    """

    def __init__(
        self,
        files: list[Path],
        targets: list[int],
        classes: tuple[str, ...],
        read: Read,
        timesteps: int,
        size: int,
    ) -> None:
        self.files = files
        self.targets = targets
        self.classes = classes
        self._read = read
        self._size = size
        sensor = (size, size, 2)
        self._to_frames = _tonic().transforms.ToFrame(sensor_size=sensor, n_time_bins=timesteps)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The frames and the class.

        Raises:
            SnnprofError: a file that cannot be read, or holds no events.
        """
        file = self.files[index]
        try:
            events = self._read(file)
        except Exception as error:  # the readers raise anything
            raise SnnprofError(f"{file} is broken: {error}; get it anew") from error
        if not len(events):
            raise SnnprofError(f"{file} holds no events: get it anew")
        events["x"] = events["x"] * self._size // SENSOR
        events["y"] = events["y"] * self._size // SENSOR
        frames = np.asarray(self._to_frames(events), np.float32)
        return torch.from_numpy(frames), self.targets[index]


def read_aedat4(file: Path) -> np.ndarray:
    """Events of a file of DVS-CIFAR10, in microseconds."""
    from tonic.io import read_aedat4 as read

    found = read(str(file))
    return _events(*(found[name] for name in found.dtype.names))


def read_gesture(file: Path) -> np.ndarray:
    """Events of a file of tonic's DVS128 Gesture: [N, 4] of x, y, polarity and milliseconds."""
    x, y, p, ms = np.load(file, allow_pickle=False).T
    return _events(ms * 1000, x, y, p)


def _events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    events = np.empty(len(t), EVENTS)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


@DATA_SETS.register("dvs-cifar10")
def dvs_cifar10(
    image_size: int | None,
    seed: int,
    data_dir: str | Path | None = None,
    timesteps: int = 10,
    loading: Loading | None = None,
) -> Data:
    """DVS-CIFAR10 (Li et al., 2017): 10,000 recordings, 1,000 of each class.

    It has no split of its own: of each class the last 100 by number are for testing.

    Raises:
        SnnprofError: not there, tonic is missing, or a class with too few recordings.
    """
    root = find(
        "dvs-cifar10",
        data_dir,
        ("CIFAR10DVS", "dvs-cifar10"),
        "let tonic.datasets.CIFAR10DVS(save_to=...) get it there",
    )
    train: tuple[list[Path], list[int]] = [], []
    test: tuple[list[Path], list[int]] = [], []
    for number, name in enumerate(CLASSES):
        files = sorted((root / name).glob("*.aedat4"), key=_number)
        if len(files) <= TEST_PER_CLASS:
            raise SnnprofError(
                f"{root / name}: {len(files)} recordings (.aedat4), where the last "
                f"{TEST_PER_CLASS} are for testing: get it anew"
            )
        for (paths, targets), part in (
            (train, files[:-TEST_PER_CLASS]),
            (test, files[-TEST_PER_CLASS:]),
        ):
            paths += part
            targets += [number] * len(part)
    split = f"of each class the last {TEST_PER_CLASS} recordings are for testing, the others train"
    return _streamed(
        "dvs-cifar10", "DVS-CIFAR10", train, test, CLASSES, read_aedat4, split,
        timesteps, image_size, loading or Loading(seed=seed),
    )  # fmt: skip


@DATA_SETS.register("dvs128-gesture")
def dvs128_gesture(
    image_size: int | None,
    seed: int,
    data_dir: str | Path | None = None,
    timesteps: int = 10,
    loading: Loading | None = None,
) -> Data:
    """DVS128 Gesture (Amir et al., 2017) as tonic distributes it, cut into single gestures.

    Raises:
        SnnprofError: not there, tonic is missing, or a part without recordings.
    """
    root = find(
        "dvs128-gesture",
        data_dir,
        ("DVSGesture", "dvs128-gesture"),
        "let tonic.datasets.DVSGesture(save_to=...) get it there, train=True and False",
    )
    parts = []
    for name in ("ibmGestureTrain", "ibmGestureTest"):
        files = sorted((root / name).glob("*/*.npy"), key=lambda f: (_number(f.parent), str(f)))
        if not files:
            raise SnnprofError(f"{root / name}: no recordings (user*/CLASS.npy): get it anew")
        for file in files:
            if not file.stem.isdigit() or int(file.stem) >= len(GESTURES):
                raise SnnprofError(f"{file}: its name is no class from 0 to 10: get it anew")
        parts.append((files, [int(file.stem) for file in files]))
    return _streamed(
        "dvs128-gesture", "DVS128 Gesture", parts[0], parts[1], GESTURES, read_gesture,
        "its own split, by user", timesteps, image_size, loading or Loading(seed=seed),
    )  # fmt: skip


def _number(path: Path) -> int:
    """The last number in a name: of ``cifar10_cat_12``, 12; of ``user07_led``, 7."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else -1


def _streamed(
    name: str,
    title: str,
    train: tuple[list[Path], list[int]],
    test: tuple[list[Path], list[int]],
    classes: tuple[str, ...],
    read: Read,
    split: str,
    timesteps: int,
    image_size: int | None,
    loading: Loading,
) -> Data:
    size = image_size or SIZE
    parts = [EventFrames(*part, classes, read, timesteps, size) for part in (train, test)]
    given = {
        "train": parts[0],
        "test": parts[1],
        "num_classes": len(classes),
        "prepare": time_first,
        "description": (
            f"{title}, {len(parts[0]):,} training and {len(parts[1]):,} test recordings of "
            f"{len(classes)} classes; {split}"
        ),
    }
    data = own_data(given, loading, name, timesteps=timesteps)
    assert isinstance(data, OwnData)
    note = (
        f"{title}: a recording's time is cut into {timesteps} equal parts; frames of {size}x{size} "
        f"hold the number of events of the {SENSOR}x{SENSOR} sensor that fall on each pixel; "
        f"{split}."
    )
    return replace(data, notes=(*data.notes, note))


def time_first(batch: Batch) -> Batch:
    """Frames [B, T, ...] as [T, B, ...], as our networks take them."""
    x, y = batch
    return x.transpose(0, 1).contiguous(), y

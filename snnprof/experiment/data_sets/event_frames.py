"""DVS-CIFAR10 and DVS128 Gesture: events, as tonic lays their files out, cut into frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
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
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter-clockwise", "left arm clockwise", "left arm counter-clockwise", "arm roll",
    "air drums", "air guitar", "other gestures",
)  # fmt: skip

# From a file to the times, columns, rows and polarities of its events: [4, N], whole numbers.
Read = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Recordings:
    """A data set of recordings.

    Attributes:
        name, title: its name here, and in papers.
        classes: their names.
        read: reads one of its files.
        split: which recordings train and which test, in words.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    read: Read
    split: str


class EventFrames(MapStyle[tuple[Tensor, int]]):
    """Recordings as frames [T, 2, H, W] of event counts, and their classes.

    Args:
        files: of one recording each.
        targets: their classes.
        classes: names of the classes.
        read: from a file to its events.
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
        self._timesteps = timesteps
        self._size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The frames and the class.

        Raises:
            SnnprofError: a file that cannot be read, or whose events are none or no events of
                the sensor.
        """
        file = self.files[index]
        try:
            events = np.asarray(self._read(file), np.int64)
            frames = cut(events, self._timesteps, self._size)
        except Exception as error:  # the readers raise anything
            raise SnnprofError(f"{file} is broken: {error}; get it anew") from error
        return torch.from_numpy(frames), self.targets[index]


def cut(events: np.ndarray, timesteps: int, size: int) -> np.ndarray:
    """Numbers of events [T, 2, size, size] in T equal parts of the time from first to last.

    Part k of the duration D holds the times from k * D / T on and before (k + 1) * D / T; the last
    part holds the last time too, so that every event is counted once. Pixels of the sensor are
    scaled down: x falls on x * size / 128, rounded down.

    Args:
        events: times, columns, rows and polarities, [4, N] in int64; in any order.
        timesteps: T.
        size: of the frames, in pixels.

    Raises:
        SnnprofError: no events, or some that the sensor has no pixel or polarity for.
    """
    if not events.size:
        raise SnnprofError("it holds no events")
    times, columns, rows, polarities = events
    for name, values, most in (("x", columns, SENSOR), ("y", rows, SENSOR), ("p", polarities, 2)):
        if not 0 <= values.min() <= values.max() < most:
            raise SnnprofError(
                f"{name} goes from {values.min()} to {values.max()}, not from 0 to {most - 1}"
            )
    since = times - times.min()
    part = np.minimum(since * timesteps // max(since.max(), 1), timesteps - 1)
    shape = (timesteps, 2, size, size)
    places = (part, polarities, rows * size // SENSOR, columns * size // SENSOR)
    counts = np.bincount(np.ravel_multi_index(places, shape), minlength=np.prod(shape))
    return counts.reshape(shape).astype(np.float32)


def _aedat() -> Any:
    try:
        import aedat
    except ImportError as error:
        raise SnnprofError(
            f"DVS-CIFAR10 needs aedat ({error}): pip install 'snnprof[dvs]'"
        ) from error
    return aedat


def read_aedat4(file: Path) -> np.ndarray:
    """Events of the first event stream of an AEDAT 4 file, in microseconds."""
    decoder = _aedat().Decoder(str(file))
    streams = decoder.id_to_stream().items()
    events_of = (number for number, stream in streams if stream["type"] == "events")
    first = min(events_of, default=None)
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == first]
    if not packets:
        raise SnnprofError("it holds no events")
    events = np.concatenate(packets)
    return np.stack([events[name] for name in ("t", "x", "y", "on")]).astype(np.int64)


def read_gesture(file: Path) -> np.ndarray:
    """Events of a file of tonic's DVS128 Gesture: [N, 4] of x, y, polarity and milliseconds."""
    x, y, p, ms = np.load(file, allow_pickle=False).T
    return np.stack([ms, x, y, p])


DVS_CIFAR10 = Recordings(
    "dvs-cifar10",
    "DVS-CIFAR10",
    CLASSES,
    read_aedat4,
    f"of each class the last {TEST_PER_CLASS} recordings are for testing, the others train",
)
DVS128_GESTURE = Recordings(
    "dvs128-gesture", "DVS128 Gesture", GESTURES, read_gesture, "its own split, by user"
)


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
        SnnprofError: not there, aedat is missing, or a class with too few recordings.
    """
    _aedat()
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
    loading = loading or Loading(seed=seed)
    return _in_frames(DVS_CIFAR10, train, test, timesteps, image_size, loading)


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
        SnnprofError: not there, or a part without recordings.
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
    train, test = parts
    loading = loading or Loading(seed=seed)
    return _in_frames(DVS128_GESTURE, train, test, timesteps, image_size, loading)


def _number(path: Path) -> int:
    """The last number in a name: of ``cifar10_cat_12``, 12; of ``user07_led``, 7."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else -1


def _in_frames(
    what: Recordings,
    train: tuple[list[Path], list[int]],
    test: tuple[list[Path], list[int]],
    timesteps: int,
    image_size: int | None,
    loading: Loading,
) -> Data:
    size = image_size or SIZE
    parts = [EventFrames(*part, what.classes, what.read, timesteps, size) for part in (train, test)]
    given = {
        "train": parts[0],
        "test": parts[1],
        "num_classes": len(what.classes),
        "prepare": time_first,
        "description": (
            f"{what.title}, {len(parts[0]):,} training and {len(parts[1]):,} test recordings of "
            f"{len(what.classes)} classes; {what.split}"
        ),
    }
    data = own_data(given, loading, what.name, timesteps=timesteps)
    assert isinstance(data, OwnData)
    note = (
        f"{what.title}: a recording's time is cut into {timesteps} equal parts; frames of "
        f"{size}x{size} hold the number of events of the {SENSOR}x{SENSOR} sensor that fall on "
        f"each pixel; {what.split}."
    )
    return replace(data, notes=(*data.notes, note))


def time_first(batch: Batch) -> Batch:
    """Frames [B, T, ...] as [T, B, ...], as our networks take them."""
    x, y = batch
    return x.transpose(0, 1).contiguous(), y

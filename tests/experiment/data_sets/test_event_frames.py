"""Event data: recordings that are written here, in the real formats, and cut into frames."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snnprof
from snnprof.experiment.data_sets import event_frames, load
from snnprof.experiment.own_data import Loading

# x, y, polarity, milliseconds: two events in the first half of 100 ms, three in the second, the
# last of them at its very end.
RECORDING = np.array(
    [[0, 0, 1, 0], [127, 0, 0, 10], [127, 127, 1, 60], [127, 127, 1, 61], [64, 5, 0, 100]], np.int64
)


TEN_MS = [*range(10)]  # one event per ms: parts of 9 / T ms


@pytest.mark.parametrize(
    ("times", "timesteps", "numbers"),
    [
        (TEN_MS, 1, [10]),
        (TEN_MS, 2, [5, 5]),  # 0 to 4 lie before 4.5
        (TEN_MS, 3, [3, 3, 4]),  # the last part is closed: 6, 7, 8 and 9
        (TEN_MS, 4, [3, 2, 2, 3]),  # bounds 2.25, 4.5, 6.75
        (TEN_MS, 10, [1] * 10),  # bounds 0.9, 1.8, ..., 8.1
        ([0] + [9] * 9, 3, [1, 0, 9]),
        ([7] * 10, 4, [10, 0, 0, 0]),  # all at once: no time to cut
        ([100, 0, 40, 60, 20], 2, [3, 2]),  # in no order
    ],
)
def test_every_event_is_in_one_part_of_the_time(
    times: list[int], timesteps: int, numbers: list[int]
) -> None:
    n = len(times)
    events = np.array([times, range(n), range(n), [k % 2 for k in range(n)]], np.int64)
    frames = event_frames.cut(events, timesteps, 128)
    assert frames.sum((1, 2, 3)).tolist() == numbers
    assert frames.sum(0)[events[3], events[2], events[1]].tolist() == [1] * n  # its own pixel


def test_columns_and_rows_are_not_exchanged() -> None:
    events = np.array([[0], [100], [3], [1]], np.int64)  # x = 100, y = 3
    frames = event_frames.cut(events, 1, 64)
    assert frames[0, 1, 1, 50] == 1 and frames.sum() == 1  # 3 * 64 // 128 = 1, 100 * 64 // 128 = 50


@pytest.mark.parametrize(
    ("event", "said"),
    [((0, 128, 0, 0), "x goes from 128 to 128, not from 0 to 127"),
     ((0, 0, -1, 0), "y goes from -1 to -1, not from 0 to 127"),
     ((0, 0, 0, 2), "p goes from 2 to 2, not from 0 to 1")],
)  # fmt: skip
def test_events_that_the_sensor_cannot_have_are_named(event: tuple[int, ...], said: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=said):
        event_frames.cut(np.array(event, np.int64).reshape(4, 1), 1, 48)
    with pytest.raises(snnprof.SnnprofError, match="it holds no events"):
        event_frames.cut(np.empty((4, 0), np.int64), 1, 48)


def gestures(root: Path) -> Path:
    root = root / "DVSGesture"
    for part, users in (("ibmGestureTrain", (1, 2)), ("ibmGestureTest", (24,))):
        for user in users:
            folder = root / part / f"user{user:02}_fluorescent"
            folder.mkdir(parents=True)
            for label in (0, 10):
                np.save(folder / f"{label}.npy", RECORDING)
    return root


def test_events_are_counted_in_their_half_and_on_their_pixel(tmp_path: Path) -> None:
    gestures(tmp_path)
    data = load("dvs128-gesture", data_dir=tmp_path, timesteps=(2,), loading=Loading(2))
    assert data.images == 4
    assert data.shape == {"num_classes": 11, "in_channels": 2, "image_size": 48}
    ((x, y),) = data.test(2)
    assert y.tolist() == [0, 10]
    assert x.shape == (2, 2, 2, 48, 48)  # [T, B, polarity, H, W]
    frames = x[:, 0]
    # 127 * 48 // 128 = 47; 64 * 48 // 128 = 24; 5 * 48 // 128 = 1.
    assert frames[0, 1, 0, 0] == 1 and frames[0, 0, 0, 47] == 1 and frames[0].sum() == 2
    assert frames[1, 1, 47, 47] == 2 and frames[1, 0, 1, 24] == 1 and frames[1].sum() == 3
    assert any("cut into 2 equal parts" in note for note in data.notes)


def test_a_run_takes_t_frames(tmp_path: Path) -> None:
    gestures(tmp_path)
    settings = {"epochs": 1, "batch_size": 2, "modes": "stbp", "data_dir": tmp_path}
    (row,) = snnprof.run(data="dvs128-gesture", timesteps=3, **settings).rows
    assert row.failure is None and row.counts.samples == 2
    with pytest.raises(snnprof.SnnprofError, match=r"timesteps=2,3: .*give one T per run"):
        snnprof.run(data="dvs128-gesture", timesteps=[2, 3], **settings)


def flatbuffer(identifier: bytes, vtable: tuple[int, ...], content: bytes) -> bytes:
    """A flatbuffer with its size before it: a table whose one field points to a vector."""
    fields = struct.pack(f"<{len(vtable)}H", *vtable)
    table = 8 + len(fields) + -len(fields) % 4
    body = struct.pack("<I", table) + identifier + fields.ljust(table - 8, b"\0")
    body += struct.pack("<i", table - 8)  # back to the vtable
    vector = len(body) + 4
    vector += -(vector + 4) % 8  # so that structs with 64-bit members are aligned
    body = (body + struct.pack("<I", vector - len(body))).ljust(vector, b"\0") + content
    return struct.pack("<I", len(body)) + body


STREAMS = b"""<dv version="2.0"><node name="outInfo" path="/outInfo/">
<node name="0" path="/outInfo/0/"><attr key="compression" type="string">NONE</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/outInfo/0/info/"><attr key="sizeX" type="int">128</attr>
<attr key="sizeY" type="int">128</attr></node></node></node></dv>"""


def aedat4(recording: np.ndarray) -> bytes:
    """A file of the format AEDAT 4: a header that lists one stream, and one packet of events."""
    text = struct.pack("<I", len(STREAMS)) + STREAMS + b"\0"
    header = flatbuffer(b"IOHE", (10, 8, 0, 0, 4), text)
    events = b"".join(
        struct.pack("<qhh?3x", ms * 1000, x, y, bool(p)) for x, y, p, ms in recording.tolist()
    )
    packet = flatbuffer(b"EVTS", (6, 8, 4), struct.pack("<I", len(recording)) + events)
    stream = 0
    return b"#!AER-DAT4.0\r\n" + header + struct.pack("<ii", stream, len(packet)) + packet


def test_dvs_cifar10_tests_on_the_last_hundred(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    for name in event_frames.CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(103):
            recording = RECORDING.copy()
            recording[0, :2] = number, 7  # the first event says which it is
            (folder / f"cifar10_{name}_{number}.aedat4").write_bytes(aedat4(recording))
    data = load("dvs-cifar10", 128, data_dir=tmp_path, timesteps=(2,), loading=Loading(20))
    assert data.images == 30  # 3 of each of 10 classes
    assert data.shape == {"num_classes": 10, "in_channels": 2, "image_size": 128}
    batches = list(data.test(20))
    assert torch.cat([y for _, y in batches]).tolist() == [n for n in range(10) for _ in range(100)]
    x = torch.cat([x for x, _ in batches[20:25]], 1)  # class 4
    assert x.shape == (2, 100, 2, 128, 128)
    assert x[0, :, 1, 7].argmax(1).tolist() == [*range(3, 103)]  # 0, 1 and 2 train
    assert (x[0, :, 0, 0, 127] == 1).all() and (x[1, :, 1, 127, 127] == 2).all()
    assert (x[1, :, 0, 5, 64] == 1).all() and (x.sum((0, 2, 3, 4)) == 5).all()
    assert "of each class the last 100" in data.notes[-1]


def test_aedat_is_asked_for_before_any_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(snnprof.SnnprofError, match=r"needs aedat .*: pip install 'snnprof\[dvs\]'"):
        load("dvs-cifar10", data_dir=tmp_path)


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"tonic\.datasets\.DVSGesture\(save_to"):
        load("dvs128-gesture", data_dir=tmp_path)
    root = gestures(tmp_path)
    file = root / "ibmGestureTrain/user01_fluorescent/0.npy"
    for content in (b"", b"\x93NUMPY nothing"):
        for user in (1, 2):
            for label in (0, 10):
                other = root / f"ibmGestureTrain/user{user:02}_fluorescent/{label}.npy"
                other.write_bytes(content)
        with pytest.raises(snnprof.SnnprofError, match=r"\.npy is broken: "):
            load("dvs128-gesture", data_dir=tmp_path, loading=Loading(2))
    file.rename(file.with_name("11.npy"))
    with pytest.raises(snnprof.SnnprofError, match=r"11\.npy: its name is no class from 0 to 10"):
        load("dvs128-gesture", data_dir=tmp_path)


def test_what_is_broken_of_dvs_cifar10_is_named(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    with pytest.raises(snnprof.SnnprofError, match=r"tonic\.datasets\.CIFAR10DVS\(save_to"):
        load("dvs-cifar10", data_dir=tmp_path)
    (tmp_path / "CIFAR10DVS/airplane").mkdir(parents=True)
    with pytest.raises(snnprof.SnnprofError, match=r"airplane: 0 recordings"):
        load("dvs-cifar10", data_dir=tmp_path)
    for name in event_frames.CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(101):
            (folder / f"cifar10_{name}_{number}.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(snnprof.SnnprofError, match=r"cifar10_\w+_0\.aedat4 is broken: "):
        load("dvs-cifar10", data_dir=tmp_path, loading=Loading(2))

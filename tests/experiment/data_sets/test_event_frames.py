"""Event data: recordings that are written here, in the real formats, and cut into frames."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import snnprof
from snnprof.experiment.data_sets import event_frames, load
from snnprof.experiment.own_data import Loading

pytest.importorskip("tonic", reason="tonic is not installed (extra dvs)")

# x, y, polarity, milliseconds: two events in the first half of 100 ms, three in the second.
RECORDING = np.array(
    [[0, 0, 1, 0], [127, 0, 0, 10], [127, 127, 1, 60], [127, 127, 1, 61], [64, 5, 0, 100]], np.int64
)


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
    assert frames[1, 1, 47, 47] == 2 and frames[1].sum() >= 2
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
    pytest.importorskip("aedat", reason="aedat, which tonic reads AEDAT 4 by, is not installed")
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
    assert "of each class the last 100" in data.notes[-1]


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"tonic\.datasets\.DVSGesture\(save_to"):
        load("dvs128-gesture", data_dir=tmp_path)
    with pytest.raises(snnprof.SnnprofError, match=r"tonic\.datasets\.CIFAR10DVS\(save_to"):
        load("dvs-cifar10", data_dir=tmp_path)
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
    (tmp_path / "CIFAR10DVS/airplane").mkdir(parents=True)
    with pytest.raises(snnprof.SnnprofError, match=r"airplane: 0 recordings"):
        load("dvs-cifar10", data_dir=tmp_path)


def test_a_broken_aedat4_file_is_named(tmp_path: Path) -> None:
    for name in event_frames.CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(101):
            (folder / f"cifar10_{name}_{number}.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(snnprof.SnnprofError, match=r"cifar10_\w+_0\.aedat4 is broken: "):
        load("dvs-cifar10", data_dir=tmp_path, loading=Loading(2))

"""CIFAR's readers, on small files in the real formats: Python 2's pickles, and binary records."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import snnprof
from snnprof.experiment.data_sets import load
from snnprof.experiment.data_sets.cifar import CIFAR10

GENERATOR = np.random.default_rng(0)
BATCHES = [f"data_batch_{n}" for n in range(1, 6)]


def pixels(images: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (images, 3072), np.uint8)


def short(text: bytes) -> bytes:
    """SHORT_BINSTRING, which only Python 2 writes."""
    return b"U" + bytes([len(text)]) + text


def python2_pickle(images: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """A batch as the distributed files hold it: protocol 2, written by Python 2."""
    content = images.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
        b"(K\x01J" + struct.pack("<i", len(images)) + b"M\x00\x0c\x86"  # the shape, (N, 3072)
        b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    entries = short(b"data") + array + short(key) + listed + short(b"batch_label") + short(b"a")
    return b"\x80\x02}(" + entries + b"u."


def cifar10_files(images: int = 2) -> tuple[dict[str, bytes], np.ndarray, list[int]]:
    """Six files, and the pixels and classes of the training images in them."""
    files, rows, labels = {}, [], []
    for n, name in enumerate([*BATCHES, "test_batch"]):
        of_file, classes = pixels(images), [(n + k) % 10 for k in range(images)]
        files[name] = python2_pickle(of_file, classes)
        rows.append(of_file)
        labels += classes
    return files, np.concatenate(rows[:5]), labels[: 5 * images]


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_archive(archive: Path, folder: str, files: dict[str, bytes]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_the_archive_and_its_folder_give_the_planes_normalised(tmp_path: Path) -> None:
    files, rows, labels = cifar10_files()
    write_archive(tmp_path / "a/cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    write_folder(tmp_path / "b/cifar10/cifar-10-batches-py", files)
    places = ("a", "a/cifar-10-python.tar.gz", "b", "b/cifar10")
    for data in (load("cifar10", data_dir=tmp_path / place) for place in places):
        assert data.images == 10
        assert data.shape == {"num_classes": 10, "in_channels": 3, "image_size": 32}
        x, y = data.first(10)
        assert y.tolist() == labels
        # Plane 1 is green, row 3 of 32 columns, column 5: byte 1024 + 3 * 32 + 5.
        byte = rows[7, 1024 + 3 * 32 + 5]
        assert x[7, 1, 3, 5].item() == pytest.approx((byte / 255 - 0.4822) / 0.2435, abs=1e-6)
        back = CIFAR10.undo(x).mul(255).round().to(torch.uint8).flatten(1)
        assert np.array_equal(back.numpy(), rows)


# Mean and deviation of the training pixels, as papers print them.
PRINTED = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
}


@pytest.mark.parametrize("name", PRINTED)
def test_every_channel_has_the_mean_and_deviation_of_papers(tmp_path: Path, name: str) -> None:
    grey = np.full((10, 3 * 32 * 32), 51, np.uint8)  # 51 / 255 = 0.2
    if name == "cifar10":
        files = cifar10_files()[0]
        files = {file: python2_pickle(grey[:2], [0, 1], b"labels") for file in files}
        write_folder(tmp_path / "cifar-10-batches-py", files)
    else:
        content = python2_pickle(grey, [*range(10)], b"fine_labels")
        write_folder(tmp_path / "cifar-100-python", {"train": content, "test": content})
    x, _ = load(name, data_dir=tmp_path).first(1)
    mean, deviation = PRINTED[name]
    expected = [(0.2 - m) / d for m, d in zip(mean, deviation, strict=True)]
    assert x[0, :, 5, 7].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_variable_of_the_environment_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _, _ = cifar10_files()
    write_folder(tmp_path / "data/cifar-10-batches-py", files)
    monkeypatch.chdir(tmp_path)
    assert load("cifar10").images == 10  # ./data
    monkeypatch.setenv("SNNPROF_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(snnprof.SnnprofError, match=r"tar\.gz.* in .*elsewhere: get"):
        load("cifar10")


def test_cifar100_has_fine_labels_in_both_forms(tmp_path: Path) -> None:
    images = pixels(3)
    pickled = {
        "train": python2_pickle(images, [7, 99, 0], b"fine_labels"),
        "test": python2_pickle(images, [1, 2, 3], b"fine_labels"),
    }
    write_archive(tmp_path / "a/cifar-100-python.tar.gz", "cifar-100-python", pickled)
    records = [bytes([coarse, fine]) for coarse, fine in ((19, 7), (5, 99), (0, 0))]
    content = b"".join(r + row.tobytes() for r, row in zip(records, images, strict=True))
    binary = {"train.bin": content, "test.bin": content}
    write_archive(tmp_path / "b/cifar-100-binary.tar.gz", "cifar-100-binary", binary)
    a, b = (load("cifar100", data_dir=tmp_path / place) for place in "ab")
    assert a.first(3)[1].tolist() == b.first(3)[1].tolist() == [7, 99, 0]
    assert torch.equal(a.first(3)[0], b.first(3)[0])
    assert a.shape["num_classes"] == 100


def test_cifar10s_binary_records_have_one_byte_of_label(tmp_path: Path) -> None:
    image = pixels(1)
    files = {f"{name}.bin": bytes([4]) + image.tobytes() for name in [*BATCHES, "test_batch"]}
    write_folder(tmp_path / "cifar-10-batches-bin", files)
    data = load("cifar10", data_dir=tmp_path)
    assert data.first(5)[1].tolist() == [4] * 5
    (tmp_path / "cifar-10-batches-bin/data_batch_2.bin").write_bytes(b"\x00" * 3074)
    with pytest.raises(snnprof.SnnprofError, match=r"data_batch_2\.bin: 3074 bytes are no whole"):
        load("cifar10", data_dir=tmp_path)


def test_images_are_resized(tmp_path: Path) -> None:
    files, _, _ = cifar10_files()
    flat = {n: python2_pickle(np.full((2, 3072), 51, np.uint8), [0, 1]) for n in files}
    write_folder(tmp_path / "cifar-10-batches-py", flat)
    data = load("cifar10", 16, data_dir=tmp_path)
    x, _ = data.first(4)
    assert x.shape == (4, 3, 16, 16)
    assert torch.allclose(x[:, 0], torch.tensor((51 / 255 - 0.4914) / 0.2470))
    assert "resized" in data.description


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"data": Evil()}, 2), "asks for .*exec"),
        (pickle.dumps({"data": Path("x")}, 2), "asks for pathlib"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "asks for __builtin__.eval"),
        (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "asks for the encoding 'rot13'"),
        (python2_pickle(pixels(2), [0, 1])[:500], "data_batch_1 is broken"),
        (b"", "data_batch_1 is broken"),
        (pickle.dumps([1]), "holds a list, not a dict"),
        (pickle.dumps({"labels": [0]}), "'data' are no images of 3072 bytes"),
        (python2_pickle(pixels(2), [0]), "'labels' are not one class per image"),
        (python2_pickle(pixels(2), [0, 10]), "class 10 of 10"),
    ],
)
def test_a_batch_that_is_broken_or_asks_for_more_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    files, _, _ = cifar10_files()
    write_folder(tmp_path / "cifar-10-batches-py", files | {"data_batch_1": content})
    with pytest.raises(snnprof.SnnprofError, match=said) as error:
        load("cifar10", data_dir=tmp_path)
    assert "data_batch_1" in str(error.value)
    assert "\n" not in str(error.value)


def test_arrays_that_python_3_pickled_are_read(tmp_path: Path) -> None:
    files, _, _ = cifar10_files()
    batch = {"data": pixels(2), "labels": [3, 4]}
    for protocol in (2, 4):
        files["data_batch_1"] = pickle.dumps(batch, protocol)
        write_folder(tmp_path / str(protocol) / "cifar-10-batches-py", files)
        data = load("cifar10", data_dir=tmp_path / str(protocol))
        assert data.first(2)[1].tolist() == [3, 4]


def test_a_broken_archive_and_a_missing_file_are_named(tmp_path: Path) -> None:
    files, _, _ = cifar10_files()
    archive = tmp_path / "cifar-10-python.tar.gz"
    write_archive(archive, "cifar-10-batches-py", files)
    whole = archive.read_bytes()
    for broken in (
        whole[: len(whole) // 2],
        b"no archive",
        whole[:100] + b"x" * 900 + whole[1000:],
    ):
        archive.write_bytes(broken)
        with pytest.raises(
            snnprof.SnnprofError, match=r"cifar-10-python\.tar\.gz is broken: .*anew"
        ):
            load("cifar10", data_dir=tmp_path)
    files.pop("data_batch_3")
    write_archive(archive, "cifar-10-batches-py", files)
    with pytest.raises(snnprof.SnnprofError, match="has no file data_batch_3"):
        load("cifar10", data_dir=tmp_path)


def test_a_run_reads_it_from_a_folder(tmp_path: Path) -> None:
    files, _, _ = cifar10_files(4)
    write_folder(tmp_path / "cifar-10-batches-py", files)
    settings = {"epochs": 1, "batch_size": 8, "timesteps": 1, "modes": "stbp"}
    (row,) = snnprof.run(data="cifar10", data_dir=tmp_path, **settings).rows
    assert row.counts.samples == 4
    with pytest.raises(snnprof.SnnprofError, match="data_dir='x': data 'digits' are read from no"):
        snnprof.run(data="digits", data_dir="x", **settings)

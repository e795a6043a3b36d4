"""Files that nothing breaks: a slice of benchmarks/files.py, and its cases one by one."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.core.termination import termination_raises, termination_waits
from snnprof.energy.conventions import convention_names
from snnprof.experiment.checkpoint import load_checkpoint
from snnprof.render.tensorboard import write_scalars

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


def test_damaged_files_are_refused_or_equal(
    benchmark: Callable[[str], Any], tmp_path: Path
) -> None:
    damaged = benchmark("damaged_files")
    for kind in damaged.kinds(tmp_path):
        wrong: list[str] = []
        found = damaged.tried(kind, 60, 1, tmp_path, wrong.append)
        assert not wrong, kind.name
        assert found.total() == 60
        assert found["refused"] > 30, kind.name


def test_another_value_would_be_noticed(benchmark: Callable[[str], Any], tmp_path: Path) -> None:
    damaged = benchmark("damaged_files")
    content = b'{"crc32": 1}'
    blind = damaged.Kind("x", content, lambda path: path.read_bytes(), summed=True)
    assert damaged.outcome(blind, content, tmp_path / "x", content) == "equal"
    with pytest.raises(AssertionError, match="another value than the original"):
        damaged.outcome(blind, content, tmp_path / "x", b"the original")
    broken = damaged.Kind("x", content, lambda path: path / 1, summed=True)
    with pytest.raises(AssertionError, match="TypeError"):
        damaged.outcome(broken, content, tmp_path / "x", content)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals like these there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_whole_files(
    benchmark: Callable[[str], Any], tmp_path: Path, number: signal.Signals
) -> None:
    killed = benchmark("killed_writers")
    found, wrong = killed.kill_many("snnprof.save, in a loop", number, 8, 1, tmp_path)
    assert not wrong
    assert found == {"right": 8}


# --- case 20 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["[" * 1000, '{"kind": ' + "9" * 5000 + "}", '{"kind": "Report", "snnprof_schema": 3}']
)
def test_hostile_reports(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SnnprofError, match=r"not JSON|damaged"):
        snnprof.load(tmp_path / "x.json")


ENTRY: dict[str, Any] = {
    "names": ["weight"], "coding": "plain", "dtype": "float32", "shape": [1],
    "channels": {"transposed": False, "groups": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[ENTRY | {"shape": [float("inf")]}], []], "Infinity is no number"),
        ([[ENTRY | {"shape": [1] * 100_000}], []], "has a shape that no tensor has"),
        ([[ENTRY], [ENTRY]], "'weight' is there twice"),
        ([[ENTRY | {"names": ["a", "a"]}], []], "'a' is there twice"),
        ([[ENTRY | {"shape": [True]}], []], r"shape\[0\] is a bool, and must be a whole number"),
        ([[ENTRY | {"channels": {"transposed": 1, "groups": 1}}], []], "must be true or false"),
        ([[ENTRY | {"channels": {"transposed": True, "groups": 0}}], []], "has 0 groups"),
        ([[ENTRY | {"names": "ab"}], []], "names is a str, and must be a list"),
    ],
)
def test_hostile_packed_weights(table: object, message: str, tmp_path: Path) -> None:
    header = json.dumps(table).encode()
    path = tmp_path / "w.bin"
    path.write_bytes(b"snnpack\x01" + len(header).to_bytes(4, "little") + header + bytes(4))
    with pytest.raises(SnnprofError, match=message):
        snnprof.unpack(path, nn.Linear(1, 1, bias=False))


def test_packed_weights_of_layout_1_are_read(tmp_path: Path) -> None:
    model, path = nn.Linear(2, 2), tmp_path / "w.bin"
    snnprof.pack(model).save(path)
    content = path.read_bytes()
    assert content[7] == 2
    path.write_bytes(content[:7] + b"\x01" + content[8:-4])
    fresh = nn.Linear(2, 2)
    snnprof.unpack(path, fresh)
    assert torch.equal(fresh.weight, model.weight)
    path.write_bytes(content[:-6] + b"\x55" + content[-5:])  # in the last number
    with pytest.raises(SnnprofError, match="its checksum is of other weights"):
        snnprof.unpack(path, fresh)


@pytest.mark.parametrize(
    "tensor",
    [
        lambda: torch.empty(2, 2, device="meta"),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(2)]),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8),
        lambda: nn.parameter.UninitializedParameter(),
        lambda: torch.eye(2, dtype=torch.complex64),
    ],
)
def test_hostile_checkpoints(tensor: Callable[[], torch.Tensor], tmp_path: Path) -> None:
    try:
        torch.save({"weight": tensor()}, tmp_path / "x.pt")
    except RuntimeError as error:
        pytest.skip(f"torch does not save it: {error}")
    with pytest.raises(SnnprofError, match="checkpoint") as caught:
        load_checkpoint(nn.Linear(2, 2, bias=False), tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_an_archive_of_torch_has_checksums_and_they_are_read(tmp_path: Path) -> None:
    path, model = tmp_path / "x.pt", nn.Linear(2, 2)
    torch.save(model.state_dict(), path)
    numbers = model.weight.detach().numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(numbers, bytes(16)))
    with pytest.raises(SnnprofError, match=r"is damaged: '.*data/0' in it"):
        load_checkpoint(nn.Linear(2, 2), path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model.state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    load_checkpoint(fresh := nn.Linear(2, 2), path)
    assert torch.equal(fresh.weight, model.weight)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, "no TOML"),
        ("0x" + "f" * 5000, "constants.mac.value_pj is a int: must be a positive number"),
        ("1" + "0" * 400, "must be a positive number"),
        ("1e-320", "must be a positive number"),  # times 1e-12 it is 0
        ("[" * 1000 + "]" * 1000, "no TOML: its brackets are too deep|positive number"),
        ("inf", "must be a positive number"),
    ],
)
def test_hostile_prices(
    value: str, message: str, tmp_path: Path, benchmark: Callable[[str], Any]
) -> None:
    text = benchmark("damaged_files").PRICES
    (tmp_path / "p.toml").write_text(text.replace("value_pj = 1.5", f"value_pj = {value}"))
    with pytest.raises(SnnprofError, match=message) as caught:
        convention_names(str(tmp_path / "p.toml"))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "read",
    [
        snnprof.load,
        lambda path: snnprof.unpack(path, nn.Linear(1, 1)),
        lambda path: load_checkpoint(nn.Linear(1, 1), path),
        lambda path: convention_names(f"{path}.toml"),
        lambda path: snnprof.save(snnprof.Report(()), f"{path}.md"),
        lambda path: snnprof.pack(nn.Linear(1, 1)).save(path),
    ],
)
def test_a_path_with_a_nul(read: Callable[[str], object], tmp_path: Path) -> None:
    with pytest.raises(SnnprofError, match=r"null|NUL"):
        read(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("name", ["../../out", "/out", "..", ".", "a/../../out", "x" * 300, "a\0b"])
def test_names_in_a_report_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "runs"
    folder.mkdir(parents=True)
    report = snnprof.Report((snnprof.ReportRow(name, accuracy=0.5),))
    with suppress(SnnprofError):
        write_scalars(report, folder)
    assert [*tmp_path.iterdir()] == [folder.parent]
    assert [*folder.parent.iterdir()] == [folder]


# --- signals and streams ------------------------------------------------------------------------


def test_sigterm_waits_for_the_end_of_the_block() -> None:
    done: list[None] = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_raises(), termination_waits():
        done.append(os.kill(os.getpid(), signal.SIGTERM))
    assert done == [None]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("saved") / "report.json"
    snnprof.save(snnprof.Report((snnprof.row("mine"),)), file)
    return file


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        (">&-", 2, "Error: standard output: Bad file descriptor\n"),
        (">/dev/full", 2, "Error: standard output: No space left on device\n"),
    ],
)
def test_a_stream_that_takes_nothing(saved: Path, where: str, status: int, said: str) -> None:
    """The file is written, and there is one line at the most."""
    output = saved.with_name("again.md")
    output.unlink(missing_ok=True)
    command = f"{sys.executable} -m snnprof show {saved} -o {output} {where}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "mine" in output.read_text()
    assert (done.returncode, done.stderr) == (status, said)
    assert sorted(file.name for file in saved.parent.iterdir()) == ["again.md", "report.json"]


@pytest.mark.parametrize("command", [["show"], ["models"]])  # printed by rich, and by click
def test_a_reader_that_has_gone_is_one_line(saved: Path, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [str(saved)] if command == ["show"] else []
    try:
        done = subprocess.run(
            [sys.executable, "-m", "snnprof", *command, *arguments],
            stdout=writing, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (2, "Error: standard output: Broken pipe\n")

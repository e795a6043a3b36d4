"""A trial of benchmarks/gpu.py without a GPU: it comes to its end, and says what it lacks."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import snnprof
from snnprof.profiling.step_memory import OutOfMemory

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ARGUMENTS = ("--device=cpu", "--quick")


@pytest.fixture(scope="module")
def gpu() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("gpu")


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Rows of the table of every part, by its title."""
    found: dict[str, list[dict[str, str]]] = {}
    for part in text.split("\n## ")[1:]:
        title, *lines = part.splitlines()
        cells = [
            [cell.strip() for cell in line[1:-1].split(" | ")]
            for line in lines
            if line.startswith("| ")
        ]
        found[title] = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
    return found


def test_everything_runs_on_the_cpu_and_says_what_is_not_measured(gpu: Any, tmp_path: Path) -> None:
    file = tmp_path / "gpu.md"
    assert gpu.main([*ARGUMENTS, f"--output={file}"]) == 0
    found = tables(file.read_text())
    assert list(found) == [title for title, _ in gpu.PARTS.values()]
    rows = found["The rows of Tab. 2"]
    assert [(r["neuron"], r["weights"], r["mode"]) for r in rows] == [
        (*row, mode) for row in gpu.ROWS for mode in gpu.MODES
    ]
    for row in rows:
        milliseconds = float(row["step (ms)"].split()[0])
        epoch_s = float(row["s per 50,000 images"])
        # batches of 2: 25,000 steps; both figures are rounded, to 0.0005 ms and 0.005 s
        assert epoch_s == pytest.approx(25_000 * milliseconds / 1000, abs=0.0125 + 0.005)
        assert float(row["peak (MiB)"]) > 0
        assert row["as SLTT's authors print it"] == row["as HD-LIF's"] == row["mJ per image"] == ""
        assert row["not measured"].startswith("only NVIDIA GPUs have an energy counter")
    peaks = {row["mode"]: row["T=2"] for row in found["Memory over T"]}
    assert [*peaks] == [*gpu.OVER_T]
    batch = gpu.QUICK.images(gpu.QUICK.batch, torch.device("cpu"))
    for mode in ("stbp", "online"):
        build = gpu.QUICK.setup(gpu.HDLIF, mode, 2).build
        alone = snnprof.profile_step(build, batch, mode, warmup=0, repeats=1, device="cpu")
        assert peaks[mode] == f"{alone.peak_bytes / 2**20:.1f}"
    assert {row["read by"] for row in found["What counting costs"]} <= {"c", "torch"}
    assert {row["batch"] for row in found["The batch that fits"]} == {str(gpu.QUICK.most)}


def test_a_row_that_fails_says_why_and_the_rest_goes_on(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = gpu.memory_profile

    def scarce(setup: Any, *others: Any, **options: Any) -> Any:
        if setup.mode == "stbp" and setup.timesteps > 1:
            return OutOfMemory()
        if setup.mode == "ottt":
            raise RuntimeError("no such kernel")
        return measure(setup, *others, **options)

    def broken(*_: object) -> None:
        raise RuntimeError("no such driver")

    monkeypatch.setattr(gpu, "memory_profile", scarce)
    monkeypatch.setitem(gpu.PARTS, "counting", ("What counting costs", broken))
    file = tmp_path / "gpu.md"
    assert gpu.main([*ARGUMENTS, f"--output={file}", "counting", "memory"]) == 1
    text = file.read_text()
    assert re.search(r"This part failed: .*no such driver", text)
    cells = {row["mode"]: row for row in tables(text)["Memory over T"]}
    assert cells["stbp"]["T=2"] == "out of memory"
    assert cells["stbp"]["T=2 / T=2"] == ""
    assert cells["ottt"]["T=1"].endswith("no such kernel")
    assert float(cells["online"]["T=2"]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quick"], "--output FILE: only a full run on a GPU is for reports/gpu.md"),
        (["speed"], "speed: choose from tab2, memory, counting, batch"),
    ],
)
def test_what_cannot_be_is_one_line(
    gpu: Any, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert said in capsys.readouterr().err.splitlines()[-1]

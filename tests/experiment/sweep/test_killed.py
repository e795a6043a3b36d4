"""A sweep of real processes, killed half-way, and taken up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import snnprof
from snnprof.results import ReportRow

pytest.importorskip("submitit", reason="submitit is not installed: extra cluster")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

GRID = """
data = "theirs:data"
mode = "online"
timesteps = 2
epochs = 1
device = "cpu"
seed = [0, 1]
"""
# Every row leaves a trace when it has begun its work, and then takes its time.
THEIRS = """
import time
from pathlib import Path
import torch

def data(seed):
    Path(f"begun-{seed}").write_text("")
    time.sleep(0.5)
    generator = torch.Generator().manual_seed(seed)
    batches = [(torch.rand(8, 3, 8, 8, generator=generator), torch.arange(8)) for _ in range(3)]
    return batches, batches
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "grid.toml").write_text(GRID)
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start() -> subprocess.Popen[str]:
    """The command in a group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "snnprof", "sweep", "grid.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a background
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def figures(row: ReportRow) -> tuple[Any, ...]:
    """All but times."""
    return row.name, row.seed, row.failure, row.accuracy, row.loss, row.counts, row.energies


def test_killed_and_interrupted_it_gives_the_same_table(folder: Path) -> None:
    killed = start()
    wait_for(folder / "begun-1", killed)  # the first row is done, the second at work
    os.killpg(killed.pid, signal.SIGKILL)  # the parent, its children and theirs
    killed.communicate()
    assert len([*(folder / "grid").glob("*.json")]) == 1

    (folder / "begun-1").unlink()
    interrupted = start()
    wait_for(folder / "begun-1", interrupted)
    os.killpg(interrupted.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    output, errors = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, errors
    assert errors.splitlines() == ["Interrupted: what was finished is written and printed."]
    assert "1 of 2 rows are still to come" in output

    found = snnprof.sweep("grid.toml")
    assert not found.interrupted
    unbroken = snnprof.run(
        data="theirs:data", modes="online", timesteps=2, epochs=1, device="cpu", seed=[0, 1]
    )
    assert [*map(figures, found.rows)] == [*map(figures, unbroken.rows)]
    assert all(row.loss is not None and row.accuracy is not None for row in found.rows)
    logs = [path for path in (folder / "grid" / "logs").iterdir() if path.is_dir()]
    assert len(logs) <= 1  # of the process that was killed

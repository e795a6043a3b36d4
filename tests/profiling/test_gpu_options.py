"""Memory snapshots and NVTX ranges: with CUDA's functions replaced, and with CUDA where it is."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.experiment.gpu_stages import record_snapshots
from snnprof.profiling import memory_snapshot
from snnprof.profiling.memory_snapshot import (
    check_cuda,
    dumped_when_out_of_memory,
    recorded_memory,
)
from snnprof.profiling.nvtx_ranges import mark_steps
from tests.support.commands import refused


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of CUDA's allocator."""
    asked: list[Any] = []
    memory: Any = torch.cuda.memory
    monkeypatch.setattr(memory, "_record_memory_history", lambda **how: asked.append(how))
    monkeypatch.setattr(memory, "_snapshot", lambda: {"segments": list(asked)})
    monkeypatch.setattr(
        torch._C, "_cuda_attach_out_of_memory_observer", asked.append, raising=False
    )
    monkeypatch.setattr(memory_snapshot, "_observed", False)
    return asked


def test_a_snapshot_is_written_and_recording_ends(cuda: list[Any], tmp_path: Path) -> None:
    with recorded_memory(tmp_path / "a.pickle"):
        pass
    assert pickle.loads((tmp_path / "a.pickle").read_bytes()) == {
        "segments": [{"max_entries": 100_000}]
    }
    assert cuda[-1] == {"enabled": None}
    with pytest.raises(ZeroDivisionError), recorded_memory(tmp_path / "b.pickle"):
        raise ZeroDivisionError
    assert (tmp_path / "b.pickle").exists()
    assert cuda[-1] == {"enabled": None}


def test_every_seed_has_a_snapshot_of_its_own(cuda: list[Any], tmp_path: Path) -> None:
    step: Any = SimpleNamespace(runner=SimpleNamespace(run=lambda x, y: None))
    for seed in (0, 1):
        run: Any = SimpleNamespace(name="vgg5 lif fp32 stbp T4", meter=step, notes=[])
        settings: Any = SimpleNamespace(
            memory_snapshot=tmp_path, seed=seed, batch=(1, 2), device=torch.device("cpu")
        )
        record_snapshots([run], settings)
        assert run.notes == []
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "vgg5 lif fp32 stbp T4 seed 0.pickle",
        "vgg5 lif fp32 stbp T4 seed 1.pickle",
    ]


def test_memory_that_runs_out_leaves_a_snapshot_each_time(cuda: list[Any], tmp_path: Path) -> None:
    with dumped_when_out_of_memory(tmp_path):
        (observer,) = cuda
        observer(0, 1, 2, 3)
        observer(0, 1, 2, 3)
    observer(0, 1, 2, 3)  # afterwards: nothing
    assert sorted(file.name.rsplit("-", 1)[1] for file in tmp_path.iterdir()) == [
        "1.pickle",
        "2.pickle",
    ]
    with dumped_when_out_of_memory(tmp_path):
        assert cuda == [observer]  # attached once


def test_ranges_of_layers_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", told.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: told.append("end"))
    model = nn.Sequential(nn.ReLU())
    mark_steps(lambda: model(torch.ones(1)), name="net", model=model, timesteps=1, steps=1)
    assert told == ["net step 0", "Sequential t=0", "0 t=0", "end", "end", "end"]


def test_on_the_cpu_they_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SnnprofError, match="nvtx is of CUDA, and this runs on the cpu: leave it"):
        check_cuda("nvtx", torch.device("cpu"))
    assert "nvtx is of CUDA" in refused("run", "--nvtx")
    folder = tmp_path / "snapshots"
    assert "memory_snapshot is of CUDA" in refused("run", f"--memory-snapshot={folder}")
    assert not folder.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_snapshot_of_cudas_own(tmp_path: Path) -> None:
    with recorded_memory(tmp_path / "a.pickle"):
        held = torch.ones(1000, device="cuda")
    assert held.numel() == 1000
    found = pickle.loads((tmp_path / "a.pickle").read_bytes())
    assert found["segments"] and found["device_traces"]

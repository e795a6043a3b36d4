"""``torchrun -m snnprof run``: two processes do what one does, and end together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed

import snnprof
from snnprof.core import processes
from snnprof.core.processes import (
    ALONE,
    ProcessError,
    Processes,
    SaidElsewhereError,
    announced,
    together,
)
from snnprof.experiment.safetensors_file import from_bytes
from snnprof.experiment.shared_figures import ForAll
from snnprof.profiling.step_memory import Failure

from ..support.commands import call, refused
from ..support.shared_training import KILL, STEPS

ROOT = Path(__file__).parents[2]
HERE = "tests.support.shared_training"
needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``torchrun --nproc-per-node 2 -m snnprof ARGUMENTS``, on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "-m", "snnprof", *arguments, "--device=cpu"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def said(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that are ours: torchrun reports what has failed in its own words."""
    return [line for line in ran.stderr.splitlines() if line.startswith(("Error", "Warning"))]


def weights_alike(two: Path, one: Path) -> int:
    """How many files there are in two folders of weights, which are the same to 1e-6."""
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in two.iterdir())
    for name in files:
        joined, _ = from_bytes((two / name).read_bytes())
        alone, _ = from_bytes((one / name).read_bytes())
        assert list(joined) == list(alone)
        for key, tensor in alone.items():
            torch.testing.assert_close(joined[key], tensor, rtol=0, atol=1e-6, msg=f"{name} {key}")
    return len(files)


def report(path: Path) -> snnprof.Report:
    found = snnprof.load(path)
    assert isinstance(found, snnprof.Report)
    return found


@needs_gloo
def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    # 360 test images in batches of 80: the first process takes 80 + 80 + 40, the second 80 + 80
    arguments = ["run", "--timesteps=1", "--mode=stbp", "--epochs=0", "--batch-size=80"]
    ran = torchrun(*arguments, f"-o{tmp_path / 'two.json'}")
    assert (ran.returncode, said(ran)) == (0, []), ran.stderr
    assert ran.stdout.count("side by side") == 1  # one of them prints
    assert call(*arguments, f"-o{tmp_path / 'one.json'}").exit_code == 0
    two, one = report(tmp_path / "two.json"), report(tmp_path / "one.json")
    (row,), (alone,) = two.rows, one.rows
    assert row.counts == alone.counts
    assert row.counts is not None
    assert row.counts.samples == 360
    assert row.neuron_ops == alone.neuron_ops is not None
    assert row.energies == alone.energies
    assert two.environment["processes"] == "2, joined by gloo"
    assert "2 processes shared the work" in ran.stdout


@needs_gloo
def test_two_processes_train_what_one_trains_on_the_joined_batch(tmp_path: Path) -> None:
    arguments = ["run", "--timesteps=3", f"--data={HERE}:data", "--epochs=2", "--learning-rate=0.1"]
    arguments += [f"--mode={mode}" for mode in ("stbp", "online", "online-step", "sltt-2")]
    arguments += [f"--model={HERE}:plain", f"--model={HERE}:normed"]
    arguments += ["--energy=operands", "--energy=sata"]
    two, one = tmp_path / "two", tmp_path / "one"
    ran = torchrun(*arguments, "--sync-bn", f"--save={two}", f"-o{tmp_path / 'two.json'}")
    assert (ran.returncode, said(ran)) == (0, []), ran.stderr
    assert call(*arguments, f"--save={one}", f"-o{tmp_path / 'one.json'}").exit_code == 0
    assert weights_alike(two, one) == 8  # 2 networks in 4 modes
    for row, of_one in zip(
        report(tmp_path / "two.json").rows, report(tmp_path / "one.json").rows, strict=True
    ):
        assert row.accuracy == of_one.accuracy is not None
        assert row.loss == pytest.approx(of_one.loss, rel=1e-5)
        # 2 * 4 steps: 5 to warm up, 1 for memory, 2 timed; of both processes' samples
        assert row.profile is not None
        assert of_one.profile is not None
        assert (row.profile.batch_size, len(row.step_s)) == (8, 2)
        assert row.profile.static_bytes == of_one.profile.static_bytes
        assert row.profile.backward_passes == of_one.profile.backward_passes
        assert row.profile.optimizer_steps == of_one.profile.optimizer_steps
        # The training step that is counted is of both processes' samples; sltt-2 draws 3 times.
        step, alone_step = row.training_counts, of_one.training_counts
        assert step is not None
        assert alone_step is not None
        assert step.samples == alone_step.samples == (24 if row.mode == "sltt-2" else 8)
        gradients = [layer.gradient for layer in step.rows]
        assert None not in gradients
        assert gradients == [layer.gradient for layer in alone_step.rows]
        assert "counted on 8 training samples" in ran.stdout


@needs_gloo
def test_divided_parameters_train_and_count_alike(tmp_path: Path) -> None:
    modes = ("stbp", "online-step", "sltt-2", "stbp-checkpoint", "ottt", "ndot")
    arguments = ["run", "--timesteps=3", f"--data={HERE}:data", "--epochs=2", "--learning-rate=0.1"]
    arguments += [f"--model={HERE}:divided", *(f"--mode={mode}" for mode in modes)]
    two, one = tmp_path / "two", tmp_path / "one"
    ran = torchrun(*arguments, "--fsdp", f"--save={two}", f"-o{tmp_path / 'two.json'}")
    assert (ran.returncode, said(ran)) == (0, []), ran.stderr
    assert call(*arguments, f"--save={one}", f"-o{tmp_path / 'one.json'}").exit_code == 0
    assert weights_alike(two, one) == len(modes)
    joined, alone = report(tmp_path / "two.json"), report(tmp_path / "one.json")
    assert joined.environment["processes"] == (
        "2, joined by gloo, parameters divided among them (FSDP)"
    )
    assert "Parameters, gradients and optimiser states were divided" in ran.stdout
    for row, of_one in zip(joined.rows, alone.rows, strict=True):
        assert row.counts == of_one.counts is not None
        assert row.modules == of_one.modules
        assert (row.neuron_ops, row.size_bytes) == (of_one.neuron_ops, of_one.size_bytes)
        assert row.parameters == of_one.parameters
        # Weights, gradients and momenta of 4 bytes each. Whole: the one scale and, where traces are
        # made from them, the leaks [3] of two layers of neurons. Divided: [64, 6], [64], [64, 64],
        # [64], [64, 64], [3, 64], [3] and the neurons' other [3]; the first process has 32 rows of
        # 64 and 2 of 3, the second 32 and 1.
        leaks = 2 if row.mode in ("ottt", "ndot") else 0
        whole, halves = 1 + 3 * leaks, 32 * 6 + 32 + 32 * 64 + 32 + 32 * 64
        parts = {12 * (whole + halves + n * 64 + n + (4 - leaks) * n) for n in (1, 2)}
        assert row.profile is not None
        assert row.profile.static_bytes in parts
        assert of_one.profile is not None
        assert of_one.profile.static_bytes == 12 * row.parameters
        assert row.profile.backward_passes == of_one.profile.backward_passes


@needs_gloo
def test_a_killed_process_ends_the_others_and_the_training_goes_on(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    arguments = ["train", f"--model={HERE}:killed", f"--data={HERE}:data", "--mode=online"]
    arguments += [f"--timesteps={STEPS}", "--epochs=3", "--augmentation=none"]
    start = time.monotonic()
    ran = torchrun(*arguments, f"-o{two}", **{KILL: "1"})
    assert time.monotonic() - start < 60  # its beginning too; torch would wait for 30 minutes
    assert ran.returncode != 0
    (line,) = said(ran)
    assert line == (
        "Error: rank 0: another process of the run was killed or has failed, so this one ends "
        "too; files that it has written are whole"
    )
    # 4 steps are an epoch: the sixth is in the second one
    assert len((two / "epochs.csv").read_text().splitlines()) == 2
    assert not (two / "report.json").exists()

    # The second time divided among the processes: the checkpoint holds nothing of that either.
    ran = torchrun(*arguments, "--resume", "--fsdp", f"-o{two}")
    assert (ran.returncode, said(ran)) == (0, []), ran.stderr
    assert "Taken up again after epoch 1" in ran.stdout
    assert ran.stdout.count("side by side") == 1
    assert call(*arguments, "--device=cpu", f"-o{one}").exit_code == 0
    states = [torch.load(folder / "last.pt") for folder in (two, one)]
    for part in ("model", "optimizer"):
        torch.testing.assert_close(*(state[part] for state in states), rtol=0, atol=1e-6)
    (joined,), (alone,) = (report(folder / "report.json").rows for folder in (two, one))
    assert joined.counts == alone.counts
    assert joined.accuracy == alone.accuracy is not None


def test_a_row_that_fails_ends_the_run() -> None:
    def fails() -> None:
        raise KeyError("weights")

    cpu = torch.device("cpu")
    with pytest.raises(ProcessError, match=r"^rank 1: vgg5 online T4: .*KeyError: 'weights'$"):
        ForAll(Processes(1, 2), "vgg5 online T4")(fails, cpu)
    assert isinstance(ForAll(ALONE)(fails, cpu), Failure)

    def is_cut_off() -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1")

    with pytest.raises(ProcessError, match=r"^rank 1: another process of the run was killed"):
        ForAll(Processes(1, 2))(is_cut_off, cpu)


def test_a_mistake_is_said_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken() -> None:
        raise snnprof.SnnprofError("wrong")

    def told(rank: int, others: list[str | None]) -> Processes:
        monkeypatch.setattr(processes, "gathered", lambda mine: others)
        return Processes(rank, len(others))

    assert together(lambda: 3, told(0, [None, None])) == 3
    with pytest.raises(snnprof.SnnprofError, match=r"^wrong$"):
        together(mistaken, told(0, ["wrong", "wrong"]))
    for rank, action in ((1, mistaken), (0, lambda: None)):
        with pytest.raises(SaidElsewhereError):
            together(action, told(rank, ["wrong", "wrong"] if rank else [None, "wrong"]))
    with pytest.raises(ProcessError, match=r"^rank 1: wrong$"):
        together(mistaken, told(1, [None, "wrong"]))


@pytest.fixture
def of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of 400 processes, none of which is joined."""
    monkeypatch.setattr(processes, "_current", Processes(rank=0, count=400))


@pytest.mark.usefixtures("of_many")
def test_fewer_images_than_processes_are_refused() -> None:
    line = refused("run", "--epochs=0")
    assert line == (
        "Error: 360 test images are fewer than the 400 processes: start fewer (torchrun "
        "--nproc-per-node 360)\n"
    )


@pytest.mark.usefixtures("of_many")
def test_batches_of_fewer_samples_than_processes_are_refused() -> None:
    """Data of one's own that do not say how many images they have."""
    line = refused("run", f"--model={HERE}:normed", f"--data={HERE}:data", "--timesteps=3")
    assert line == (
        "Error: batches of 8 have fewer samples than the 400 processes: start fewer (torchrun "
        "--nproc-per-node 8), or give larger batches\n"
    )


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_current", Processes(rank=0, count=3))
    assert "a joined batch of 64 cannot be split evenly among 3 processes" in refused("run")
    assert "is 1 sample for each process" in refused("run", "--batch-size=3")
    for option in ("--trace=x", "--batch-size=auto", "--isolate"):
        assert "is of one process" in refused("run", "--epochs=0", option)


def test_what_is_of_several_processes_is_refused_for_one() -> None:
    for option in ("sync_bn", "fsdp"):
        line = refused("run", f"--{option.replace('_', '-')}")
        assert f"{option} is for several processes" in line
    assert "fsdp is for several processes" in refused("run", "--fsdp", "--isolate")


def test_torchrun_is_known_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    of_torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert announced(of_torchrun) == Processes(rank=5, count=8, local_rank=1)
    assert not announced({}).several
    with pytest.raises(snnprof.SnnprofError, match=r"LOCAL_RANK=None: start with torchrun"):
        announced({"RANK": "0", "WORLD_SIZE": "2"})
    for name, value in of_torchrun.items():
        monkeypatch.setenv(name, value)
    result = call("models")  # which one process alone can do; the first one says so
    assert (result.exit_code, result.output) == (2, "")
    monkeypatch.setenv("RANK", "0")
    assert call("models").stderr == "Error: models runs in one process: start it without torchrun\n"

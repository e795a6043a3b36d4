"""A sweep without processes: what is run, what is saved, what is joined."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli.main import cli
from snnprof.experiment.sweep.cell_run import Place, run_cell
from snnprof.results import Report, ReportRow

QUICK: dict[str, Any] = {
    "data": "random",
    "image_size": 8,
    "timesteps": 1,
    "epochs": 0,
    "mode": "stbp",
    "batch_size": 2,
    "device": "cpu",
}


@dataclass
class Submitit:
    """A submitit that runs cells here and at once.

    Attributes:
        names: of the cells that were submitted.
        lost: the part of a name whose job ends without a trace.
        ctrl_c: the part of a name at whose submission Ctrl-C is pressed.
        asked: parameters.
        queued: ids of jobs that Slurm still has, and what happens meanwhile.
        places: of the cells that were submitted.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    lost: str | None = None
    ctrl_c: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    queued: dict[str, Any] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)

    def module(self) -> ModuleType:
        module = ModuleType("submitit")
        module.AutoExecutor = lambda folder, cluster: self  # type: ignore[attr-defined]
        module.SlurmJob = self.kept  # type: ignore[attr-defined]
        return module

    def update_parameters(self, **asked: Any) -> None:
        self.asked.append(asked)

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, function: Any, cell: Any, folder: Path, place: Place) -> Any:
        if self.ctrl_c and self.ctrl_c in cell.name:
            raise KeyboardInterrupt
        self.names.append(cell.name)
        self.places.append(place)
        if not (self.lost and self.lost in cell.name):
            function(cell, folder, Place())
        return self.job(f"{len(self.names)}")

    def job(self, number: str) -> Any:
        paths = SimpleNamespace(result_pickle=self.folder / "none")
        return SimpleNamespace(
            job_id=number, done=lambda force_check=False: True, paths=paths, state="TIMEOUT"
        )

    def kept(self, folder: Path, job_id: str) -> Any:
        job = self.job(job_id)
        if job_id in self.queued:
            job.done = lambda force_check=False: not force_check
            self.queued[job_id]()  # meanwhile its row is saved
        return job

    @property
    def taken(self) -> list[str]:
        """Names of the cells since the last call, without their digest."""
        names, self.names = self.names, []
        return [name.rpartition("-")[0] for name in names]


@pytest.fixture
def submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submitit:
    monkeypatch.setattr("snnprof.experiment.sweep.jobs._POLL_S", 0.0)
    monkeypatch.setattr("snnprof.experiment.sweep.jobs._SEEN_S", 0.0)
    fake = Submitit(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", fake.module())
    monkeypatch.chdir(tmp_path)
    return fake


def quick(**given: Any) -> Report:
    options = {key: given.pop(key) for key in ("retry", "jobs", "executor") if key in given}
    return snnprof.sweep({**QUICK, **given}, folder="rows", **options)


def test_rows_are_those_of_run_and_none_is_run_twice(submitit: Submitit) -> None:
    report = quick(seed=[0, 1])
    assert submitit.taken == ["vgg5-lif-fp32-stbp-T1-seed0", "vgg5-lif-fp32-stbp-T1-seed1"]
    arguments = {key: value for key, value in QUICK.items() if key != "mode"}
    expected = snnprof.run(modes="stbp", seed=[0, 1], **arguments)
    assert [row.counts for row in report.rows] == [row.counts for row in expected.rows]
    assert [row.seed for row in report.rows] == [0, 1]
    again = quick(seed=[2, 0, 1])
    assert submitit.taken == ["vgg5-lif-fp32-stbp-T1-seed2"]
    assert [row.seed for row in again.rows] == [2, 0, 1]
    assert again.rows[1:] == report.rows
    quick(seed=0, image_size=16)  # a changed setting is another row
    assert submitit.taken == ["vgg5-lif-fp32-stbp-T1-seed0"]


def test_one_dense_row_for_all_rows_of_a_seed(submitit: Submitit) -> None:
    report = quick(mode=["stbp", "online"], baseline="dense")
    assert len(submitit.taken) == 2
    assert [row.mode for row in report.rows] == ["stbp", "dense", "online"]
    frame = report.to_frame()
    ratios = frame["energy_operands_ratio_to_dense"]
    assert ratios.notna().all()
    # The row of the other process, over the dense row's price of every nominal MAC.
    dense = frame["energy_dense_j"][1]
    assert ratios[2] == pytest.approx(frame["energy_operands_j"][2] / dense, rel=1e-12)


def test_one_that_fails_does_not_stop_the_rest(submitit: Submitit) -> None:
    grid = {"epochs": 1, "batch_size": [1, 64]}  # batch norm cannot train on one sample
    for retry, taken in ((False, 2), (False, 0), (True, 1)):
        report = quick(**grid, retry=retry)
        assert len(submitit.taken) == taken
        failed, done = report.rows
        assert (
            "vgg5 lif fp32 stbp T1: batch_size=1: batch norm needs at least 2 samples to train on."
            in (report.notes)
        )
        assert failed.failure == "batch_size=1: batch norm needs at least 2 samples to train on"
        assert (failed.name, failed.seed, failed.batch_size) == ("vgg5 lif fp32 stbp T1", 0, 1)
        assert done.failure is None
        assert done.counts is not None
        assert not any("machines or versions" in note for note in report.notes)


def test_a_process_that_is_lost_is_a_row_with_the_reason(submitit: Submitit) -> None:
    submitit.lost = "seed1"
    lost, done = quick(seed=[1, 0]).rows
    assert lost.failure == "process killed, as it is when memory runs out"
    assert done.counts is not None
    submitit.lost = None
    assert quick(seed=[1, 0], retry=True).rows[0].failure is None


def test_rows_that_failed_are_told_apart_by_their_variants(submitit: Submitit) -> None:
    submitit.lost = "seed"
    variants = {"connect": ["add", "iand"], "leak": [0.5, 0.25]}
    assert [row.name for row in quick(model="sew_resnet18", variants=variants).rows] == [
        f"sew_resnet18+connect={connect} lif+leak={leak} fp32 stbp T1"
        for connect in ("add", "iand")
        for leak in (0.5, 0.25)
    ]


def test_what_ctrl_c_left_is_taken_up_again(submitit: Submitit) -> None:
    submitit.ctrl_c = "seed1"
    half = quick(seed=[0, 1, 2])
    assert half.interrupted
    assert [row.seed for row in half.rows] == [0]
    assert "2 of 3 rows are still to come: vgg5-lif-fp32-stbp-T1-seed1-" in half.notes[-1]
    submitit.ctrl_c = None
    whole = quick(seed=[0, 1, 2])
    assert [row.seed for row in whole.rows] == [0, 1, 2]
    assert not whole.interrupted
    submitit.ctrl_c = "seed3"
    with pytest.raises(KeyboardInterrupt):  # there is nothing to show
        quick(seed=3)


def test_a_report_that_was_interrupted_is_not_saved(
    submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Report((ReportRow("net", failure="interrupted"),), interrupted=True)
    monkeypatch.setattr("snnprof.experiment.sweep.cell_run.run", lambda **given: half)
    (cell,) = snnprof_cells()
    run_cell(cell, Path("rows"), Place())
    assert [path.name for path in Path("rows").iterdir()] == ["logs"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_a_process_left_over_is_waited_for(
    submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    begun: list[Any] = []
    monkeypatch.setattr(
        "snnprof.experiment.sweep.cell_run.run", lambda **given: begun.append(given)
    )
    (cell,) = snnprof_cells()
    (Path("rows") / "logs").mkdir(parents=True)
    with (Path("rows") / "logs" / f"{cell.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = threading.Thread(target=run_cell, args=(cell, Path("rows"), Place()))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        snnprof.save(Report((ReportRow("net"),)), Path("rows") / f"{cell.name}.json")
    second.join()
    assert begun == []


def test_settings_without_a_column_get_one_and_are_no_seeds(submitit: Submitit) -> None:
    submitit.ctrl_c = "seed1"
    quick(repeats=1, seed=[0, 1])  # the second is not run
    submitit.ctrl_c = None
    quick(repeats=2, seed=[0, 1])
    file = Path("grid.toml")
    text = "\n".join(f"{key} = {value!r}" for key, value in QUICK.items())
    file.write_text(f"{text}\nrepeats = [1, 2]\nseed = [0, 1]")
    shown = CliRunner().invoke(cli, ["sweep", "grid.toml", "--folder", "rows", "--show", "-ot.csv"])
    assert shown.exit_code == 0, shown.output
    assert "1 of 4 rows are still to come: vgg5-lif-fp32-stbp-T1-seed1-" in shown.output
    lines = Path("t.csv").read_text().splitlines()
    assert [line.split(",")[-1] for line in lines] == ["option repeats", "1", "2", "2"]
    printed = CliRunner().invoke(
        cli, ["sweep", "grid.toml", "--folder", "rows", "--show", "--format", "csv"]
    )
    assert printed.output == Path("t.csv").read_text()
    table = CliRunner().invoke(
        cli, ["sweep", "grid.toml", "--folder", "rows", "--show", "-ot.md", "--columns=seed"]
    )
    assert table.exit_code == 0, table.output
    # Seeds 0 and 1 of the second are a line; seed 0 of the first is none of them.
    assert [line.strip("| ") for line in Path("t.md").read_text().splitlines() if "|" in line][
        -2:
    ] == ["0", "0, 1"]


def test_a_dry_run_lists_what_is_done(submitit: Submitit) -> None:
    text = "\n".join(f"{key} = {value!r}" for key, value in (QUICK | {"batch_size": 1}).items())
    Path("grid.toml").write_text(text.replace("epochs = 0", "epochs = 1\nseed = [0, 1]"))
    listed = CliRunner().invoke(cli, ["sweep", "grid.toml", "--dry-run"])
    assert listed.output.splitlines()[-1] == (
        "rows in 'grid': 0 done, 0 failed, 2 to run, by local, one at a time"
    )
    assert not Path("grid").exists()
    submitit.ctrl_c = "seed1"
    assert CliRunner().invoke(cli, ["sweep", "grid.toml"]).exit_code == 130
    listed = CliRunner().invoke(cli, ["sweep", "grid.toml", "--dry-run", "--jobs=3"])
    first, second, last = listed.output.splitlines()
    assert ": failed: batch_size=1: batch norm needs at least 2 samples" in first
    assert second.endswith(": to run")
    assert last == (
        "rows in 'grid': 0 done, 1 failed (--retry runs them again), 1 to run, by local, 3 at a "
        "time"
    )


def test_folders_are_a_rows_own_and_whole(submitit: Submitit) -> None:
    left = Path("w") / "half.part"
    left.mkdir(parents=True)
    quick(seed=[0, 1], save="w")
    names = submitit.names
    assert sorted(str(path) for path in Path("w").rglob("*.safetensors")) == sorted(
        f"w/{name}/vgg5-lif-fp32-stbp-T1-seed{seed}.safetensors" for seed, name in enumerate(names)
    )
    notes = quick(seed=[0, 1], save="w").notes
    (weights,) = (note for note in notes if note.startswith("Trained weights"))
    assert ": w/*/*.safetensors;" in weights
    (data,) = (note for note in notes if note.startswith("Data: "))
    assert data.endswith(
        "seed 0; labels are random too, so no accuracy is given. (Others like it differ in seeds "
        "or times alone.)"
    )
    row = Path("rows") / f"{names[0]}.json"
    row.unlink()  # run again, its weights do not stand in the way
    assert quick(seed=[0, 1], save="w").rows[0].failure is None


def test_a_damaged_row_is_named(submitit: Submitit) -> None:
    quick(seed=0)
    (file,) = Path("rows").glob("*.json")
    file.write_text("{")
    with pytest.raises(snnprof.SnnprofError) as error:
        quick(seed=0)
    assert str(error.value).startswith(f"'{file}': not JSON")
    assert str(error.value).endswith("without this file its row is run again")


def test_without_submitit_one_line_and_the_table_all_the_same(
    submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(f"{key} = {value!r}" for key, value in QUICK.items())
    Path("rows.toml").write_text(text + "\nseed = [0, 1]")
    nothing = CliRunner().invoke(cli, ["sweep", "rows.toml", "--show"])
    assert nothing.stderr == "Error: no row is saved in 'rows' yet: run the sweep first\n"
    quick(seed=0)
    monkeypatch.setitem(sys.modules, "submitit", None)
    done = CliRunner().invoke(cli, ["sweep", "rows.toml"])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "Error: a sweep needs submitit to run rows: pip install 'snnprof[cluster]'"
    )
    assert CliRunner().invoke(cli, ["sweep", "rows.toml", "--show"]).exit_code == 0
    assert "1 done, 0 failed, 1 to run" in (
        CliRunner().invoke(cli, ["sweep", "rows.toml", "--dry-run"]).output
    )


def test_slurm_is_given_one_array_and_its_jobs_are_waited_for(
    submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = {"executor": "slurm", "time": "1:00:00", "partition": "gpu", "gpus": 1}
    with pytest.raises(snnprof.SnnprofError, match="there is no srun on this machine"):
        quick(seed=0, cluster=slurm)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    submitit.lost = "seed1"
    report = quick(seed=[0, 1], cluster=slurm, jobs=4)
    assert submitit.asked == [
        {
            "timeout_min": 60,
            "name": "snnprof",
            "slurm_partition": "gpu",
            "gpus_per_node": 1,
            "slurm_array_parallelism": 4,
        }
    ]
    assert [row.failure for row in report.rows] == [None, "Slurm ended its job 2: TIMEOUT"]
    # Submitted before, by a sweep that was killed; Slurm has the first still, not the second.
    *_, name, gone = (cell.name for cell in snnprof_cells(seed=[0, 1, 2, 3]))
    for number, each in (("8", name), ("9", gone)):
        (Path("rows") / "logs" / f"{each}.slurm").write_text(number)
    (row,) = Path("rows").glob("*seed0-*.json")
    submitit.queued["8"] = lambda: (Path("rows") / f"{name}.json").write_bytes(row.read_bytes())
    submitit.names.clear()
    more = quick(seed=[2, 3], cluster=slurm)
    assert submitit.taken == ["vgg5-lif-fp32-stbp-T1-seed3"]
    assert len(more.rows) == 2
    assert not [*Path("rows").rglob("*.slurm")]


def snnprof_cells(**given: Any) -> Any:
    from snnprof.experiment.sweep import read_grid

    return read_grid({**QUICK, **given}, "rows").cells


def test_processes_share_gpus_and_threads(
    submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x")
    submitit.lost = "seed"  # it is how they are started that is looked at
    quick(seed=[0, 1, 2, 3], jobs=3)
    assert [place.gpu for place in submitit.places] == ["3", "GPU-x", "3", "3"]
    assert {(place.others, place.ended_by_parent) for place in submitit.places} == {(3, True)}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads: list[int] = []
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    *_, new = snnprof_cells(seed=[0, 4])
    run_cell(new, Path("rows"), Place(others=3, gpu="7"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert threads == [2]  # 8 // 3
    report = snnprof.load(Path("rows") / f"{new.name}.json")
    assert isinstance(report, Report)
    assert report.notes[-1].startswith("Up to 3 rows ran at a time on one machine")

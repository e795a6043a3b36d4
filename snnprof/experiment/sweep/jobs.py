"""Cells as jobs of submitit: processes of this machine, or Slurm's."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snnprof.core.atomic_files import write_whole
from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry
from snnprof.experiment.isolation import KILLED, interrupts_blocked
from snnprof.experiment.sweep.cell import Cell
from snnprof.experiment.sweep.cell_run import Place, run_cell
from snnprof.experiment.sweep.cluster import LOCAL, SLURM, Cluster
from snnprof.experiment.sweep.rows import LOGS, failure_of, row_file, save_failure, saved_report

_POLL_S, _POLL_SLURM_S = 0.1, 5.0
_END_S = 10.0  # for processes that were told to end
_SEEN_S = 30.0  # for a file that a node of Slurm has written to be seen from here
_A_YEAR = 365 * 24 * 60  # minutes: submitit ends local jobs after 2 if nobody says otherwise
_NO_SUBMITIT = "a sweep needs submitit to run rows: pip install 'snnprof[cluster]'"


@dataclass(frozen=True)
class Work:
    """Cells to run.

    Attributes:
        cells: one row each, or more where modes were left open.
        folder: of the rows.
        cluster: how.
        ended: told of every cell that is done.
    """

    cells: Sequence[Cell]
    folder: Path
    cluster: Cluster
    ended: Callable[[], None]

    @property
    def logs(self) -> Path:
        return self.folder / LOGS


Runner = Callable[[Work], None]
RUNNERS: Registry[Runner] = Registry("executor")


def run_jobs(work: Work) -> None:
    """Run every cell to its end; one that saves no row gets a row with the reason.

    Raises:
        SnnprofError: Slurm refuses.
        KeyboardInterrupt: Ctrl-C. Processes of this machine have ended; Slurm keeps its jobs.
    """
    RUNNERS.find(work.cluster.executor)(work)


@RUNNERS.register(LOCAL)
def _locally(work: Work) -> None:
    """As many processes at a time as were asked for, each with a GPU of its own as far as they go.

    Ctrl-C does not reach them: their parent ends them.
    """
    minutes = _A_YEAR if work.cluster.minutes is None else work.cluster.minutes
    at_a_time = work.cluster.jobs or 1
    gpus = _visible_gpus()
    waiting = deque(work.cells)
    running: dict[int, tuple[Cell, Any, Path]] = {}
    try:
        while waiting or running:
            free = [slot for slot in range(at_a_time) if slot not in running]
            for slot, cell in zip(free, _taken(waiting, len(free)), strict=False):
                gpu = gpus[slot % len(gpus)] if gpus else None
                place = Place(min(at_a_time, len(work.cells)), gpu, ended_by_parent=True)
                running[slot] = (cell, *_started(work, cell, place, minutes))
            time.sleep(_POLL_S)
            for slot, (cell, job, logs) in [*running.items()]:
                if job.done():
                    del running[slot]
                    if _settle(work, cell, partial(_local_end, job)):
                        shutil.rmtree(logs, ignore_errors=True)
    except BaseException:
        _end([job for _, job, _ in running.values()])
        for _, _, logs in running.values():
            shutil.rmtree(logs, ignore_errors=True)
        raise


def _taken(waiting: deque[Cell], most: int) -> list[Cell]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _started(work: Work, cell: Cell, place: Place, minutes: int) -> tuple[Any, Path]:
    """The job of a cell, and the folder of its logs."""
    logs = Path(tempfile.mkdtemp(prefix=f"{cell.name}-", dir=work.logs))
    executor = _executor(LOCAL, logs)
    executor.update_parameters(timeout_min=minutes)
    with interrupts_blocked():
        return executor.submit(run_cell, cell, work.folder.absolute(), place), logs


def _visible_gpus() -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them; submitit would hide them all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def _end(jobs: Sequence[Any]) -> None:
    """End local jobs, and wait for them."""
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # which submitit hands on to the process
    until = time.monotonic() + _END_S
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(_POLL_S)


def _local_end(job: Any) -> str | None:
    if job.paths.result_pickle.exists():
        return _error_of(job)
    return f"{KILLED}, as it is when memory runs out"


@RUNNERS.register(SLURM)
def _by_slurm(work: Work) -> None:
    """All cells as one array of jobs; those that Slurm still has from before are waited for."""
    executor = _executor(SLURM, work.logs)
    _refused_in_one_line(lambda: executor.update_parameters(**work.cluster.parameters))
    jobs = {cell.name: job for cell in work.cells if (job := _kept_job(work, cell)) is not None}
    new = [cell for cell in work.cells if cell.name not in jobs]
    if new:
        submit = partial(_submitted, executor, new, work.folder.absolute())
        jobs |= _refused_in_one_line(submit)
    for cell in new:
        write_whole(_id_file(work, cell), jobs[cell.name].job_id.encode())
    waiting = [*work.cells]
    while waiting:
        for cell in waiting:
            job = jobs[cell.name]
            if row_file(work.folder, cell).exists() or job.done():
                _settle(work, cell, partial(_slurm_end, job), _SEEN_S)
                _id_file(work, cell).unlink(missing_ok=True)
        left = [cell for cell in waiting if _id_file(work, cell).exists()]
        if left and len(left) == len(waiting):
            time.sleep(_POLL_SLURM_S)
        waiting = left


def _submitted(executor: Any, cells: Sequence[Cell], folder: Path) -> dict[str, Any]:
    with executor.batch():
        return {cell.name: executor.submit(run_cell, cell, folder, Place()) for cell in cells}


def _kept_job(work: Work, cell: Cell) -> Any:
    """The job of a cell that was submitted before, if Slurm has not ended it; else None."""
    file = _id_file(work, cell)
    if not file.exists():
        return None
    job = _submitit().SlurmJob(work.logs.absolute(), file.read_text("utf-8").strip())
    return None if job.done(force_check=True) else job


def _id_file(work: Work, cell: Cell) -> Path:
    return work.logs / f"{cell.name}.slurm"


def _slurm_end(job: Any) -> str | None:
    if job.paths.result_pickle.exists():
        return _error_of(job)
    return f"Slurm ended its job {job.job_id}: {job.state}"


def _error_of(job: Any) -> str | None:
    """The last line of the job's error; None where its function returned."""
    if job.exception() is None:
        return None
    lines = (job.stderr() or "").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it failed")
    return f"{last} (all of it: {job.paths.stderr})"


def _settle(work: Work, cell: Cell, why: Callable[[], str | None], patience_s: float = 0.0) -> bool:
    """Save a row with the reason where a job that has ended saved none and was not interrupted.

    Returns:
        Whether all went well.
    """
    until = time.monotonic() + patience_s
    while not (there := row_file(work.folder, cell).exists()) and time.monotonic() < until:
        time.sleep(_POLL_S)
    reason = None if there else why()
    if reason is not None:
        save_failure(work.folder, cell, reason)
    work.ended()
    report = saved_report(work.folder, cell)
    return report is not None and failure_of(report) is None


def _submitit() -> Any:
    """The module, imported when rows are to be run.

    Raises:
        SnnprofError: it is not installed.
    """
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise SnnprofError(_NO_SUBMITIT) from error


def check_executor(name: str) -> None:
    """Raise SnnprofError where rows cannot be run: no submitit, or no Slurm."""
    _submitit()
    if name == SLURM and shutil.which("srun") is None:
        raise SnnprofError(
            "executor 'slurm': there is no srun on this machine: start the sweep where jobs are "
            "submitted, or run it here with --executor local"
        )


def _executor(name: str, folder: Path) -> Any:
    return _submitit().AutoExecutor(folder=folder, cluster=name)


def _refused_in_one_line(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except SnnprofError:
        raise
    except Exception as error:  # sbatch's own words are in it
        raise SnnprofError(f"Slurm takes no jobs: {one_line(error)}") from error

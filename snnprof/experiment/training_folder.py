"""The folder of a training: its checkpoints, what each epoch came to, and the report.

``last.pt`` is the one that counts: everything that training goes on from, after the last whole
epoch. It is written first; every other file can be made from it again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snnprof.core.atomic_files import check_writable, write_whole
from snnprof.core.errors import SnnprofError, reason_of
from snnprof.core.processes import ALONE, Processes, together
from snnprof.experiment.checkpoint import CONFIGURATION, read_file
from snnprof.experiment.weight_folder import weights_as_bytes
from snnprof.render.epoch_table import epochs_csv
from snnprof.render.output_files import load, save
from snnprof.render.tensorboard import check_folder, write_scalars
from snnprof.results import Report
from snnprof.results.training import TrainingHistory

LAST, BEST, EPOCHS, SCALARS = "last.pt", "best.safetensors", "epochs.csv", "scalars"
REPORT_JSON, REPORT_TABLE, CONFIGURATION_FILE = "report.json", "report.md", "configuration.toml"
_FILES = (LAST, BEST, EPOCHS, REPORT_JSON, REPORT_TABLE, CONFIGURATION_FILE)
TRAINING = "training"  # of a checkpoint's configuration: what only a training has
State = Mapping[str, Any]


class TrainingFolder:
    """A folder that a training writes to, and is taken up from.

    Args:
        path: the folder; made if it is not there, its parent is.
        processes: that share the training: the first alone writes, and the others wait for it.

    Raises:
        SnnprofError: an empty path.
    """

    def __init__(self, path: str | Path, processes: Processes = ALONE) -> None:
        if not str(path):
            raise SnnprofError("training folder '': name a directory; . is the current one")
        self.path = Path(path)
        self._processes = processes

    def find(self, resume: bool) -> State | None:
        """The state that the training goes on from; None where it begins. Nothing is written.

        Args:
            resume: whether a training that is in the folder is taken up again.

        Raises:
            SnnprofError: the folder cannot be made, holds a training that is not to be taken up,
                or a checkpoint that cannot be read.
        """
        return together(partial(self._find, resume), self._processes)

    def _find(self, resume: bool) -> State | None:
        shown = repr(str(self.path))
        if self.path.exists() and not self.path.is_dir():
            raise SnnprofError(f"training folder {shown} is a file: name a directory")
        if not self.path.parent.is_dir():
            raise SnnprofError(
                f"training folder {shown}: there is no directory {str(self.path.parent)!r}"
            )
        exists = (self.path / LAST).exists()
        if exists and not resume:
            raise SnnprofError(
                f"training folder {shown} holds a training: take it up with resume=True "
                "(--resume), or name another folder"
            )
        return self._read() if exists else None

    def make(self) -> None:
        """Make the folder, and see that everything can be written there.

        Raises:
            SnnprofError: it cannot be made or written to.
        """
        together(self._make, self._processes)

    def _make(self) -> None:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise SnnprofError(
                f"training folder {str(self.path)!r} cannot be made: {reason_of(error)}; name "
                "another one"
            ) from error
        for name in _FILES:
            check_writable(self.path / name)
        check_folder(self.path / SCALARS)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed process has left half-written."""
        for name in _FILES:
            for stale in self.path.glob(f".{name}.*"):
                with contextlib.suppress(OSError):
                    os.unlink(stale)
        for stage in (self.path / SCALARS).glob(".*"):
            shutil.rmtree(stage, ignore_errors=True)

    def _read(self) -> State:
        file = self.path / LAST
        try:
            state, metadata = read_file(file)
            stored = json.loads(metadata.get(CONFIGURATION, "null"))
        except ValueError as error:  # a SnnprofError too
            raise SnnprofError(
                f"{str(file)!r} is damaged: begin in another folder, perhaps from the weights in "
                f"{BEST} (--checkpoint)"
            ) from error
        if not isinstance(state, Mapping) or not isinstance(stored, dict) or TRAINING not in stored:
            raise SnnprofError(
                f"{str(file)!r} is no checkpoint of snnprof train: name another folder"
            )
        return state

    def write(self, state: State, history: TrainingHistory) -> None:
        """Write a checkpoint, the best weights if it is the best, and the history.

        Raises:
            SnnprofError: the state holds what no file can, or the system refuses to write.
        """
        together(partial(self._write, state, history), self._processes)

    def _write(self, state: State, history: TrainingHistory) -> None:
        if not self._processes.first:
            return
        content = io.BytesIO()
        torch.save(dict(state), content)
        write_whole(self.path / LAST, content.getvalue())
        self.complete(state, history)

    def complete(self, state: State, history: TrainingHistory) -> None:
        """Make the other files agree with the last checkpoint."""
        if not self._processes.first:
            return
        if history.best is not None and history.best is history.epochs[-1]:
            configuration = state[CONFIGURATION]
            write_whole(self.path / BEST, weights_as_bytes(state["model"], configuration))
        write_whole(self.path / EPOCHS, epochs_csv(history).encode())
        if history.epochs:
            write_scalars(history, self.path / SCALARS)

    def check_readable(self) -> None:
        """Raise SnnprofError where the checkpoint that was written cannot be read back."""
        together(self._check_readable, self._processes)

    def _check_readable(self) -> None:
        if not self._processes.first:
            return
        try:
            read_file(self.path / LAST)
        except SnnprofError as error:
            os.unlink(self.path / LAST)
            raise SnnprofError(
                "the state of this optimiser or schedule is more than tensors and numbers, so that "
                f"the training could not be taken up again ({error.__cause__}): give another one"
            ) from error

    def write_report(self, report: Report, configuration: str) -> None:
        """Write the report, and the configuration as a preset's file."""
        if not self._processes.first:
            return
        write_whole(self.path / CONFIGURATION_FILE, configuration.encode())
        save(report, self.path / REPORT_TABLE)
        save(report, self.path / REPORT_JSON)

    def report(self) -> Report | None:
        """The report that is there; None without one, or where it is of an unfinished training."""
        file = self.path / REPORT_JSON
        found = load(file) if file.exists() else None
        whole = isinstance(found, Report) and not found.interrupted
        return found if isinstance(found, Report) and whole and not found.rows[0].failure else None

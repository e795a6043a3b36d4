"""The folders that a run writes to."""

from __future__ import annotations

from collections.abc import Sequence

from snnprof.experiment.gpu_stages import check_snapshot_folder
from snnprof.experiment.settings import Settings
from snnprof.experiment.stages import check_trace_folders
from snnprof.experiment.training_run import TrainingRun
from snnprof.experiment.weight_folder import check_weight_folder


def check_folders(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Raise where something could not be written, before any training.

    Raises:
        SnnprofError: traces, weights or snapshots cannot be written, or are another run's.
    """
    check_trace_folders(runs, settings)
    check_weight_folder(runs, settings)
    check_snapshot_folder(runs, settings)

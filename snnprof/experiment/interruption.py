"""Ctrl-C ends the measuring, not the report of what is finished."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from snnprof.experiment.training_run import TrainingRun

INTERRUPTED = "interrupted"
NOT_RUN = "interrupted before it ran"


class UntilInterrupted:
    """A block that the first Ctrl-C ends quietly; rows without their counts say so.

    Args:
        runs: the rows that the block measures.

    Attributes:
        interrupted: whether it was.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.interrupted = False
        self._runs = runs

    def __enter__(self) -> UntilInterrupted:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.interrupted = isinstance(error, KeyboardInterrupt)
        if self.interrupted:
            for run in self._runs:
                if run.row.counts is None:
                    run.fail(NOT_RUN if run.meter is None else INTERRUPTED)
        return self.interrupted

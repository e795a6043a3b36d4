"""One row of the table, on its way through the stages of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snnprof.core.errors import SnnprofError
from snnprof.experiment.shared_figures import ForAll, joined_epoch
from snnprof.profiling.phase_timer import PhaseTimer
from snnprof.profiling.step_memory import Failure
from snnprof.profiling.step_meter import Batch, StepMeter
from snnprof.results import ReportRow, StepProfile
from snnprof.training.batch_run import NO_RECORDER
from snnprof.training.step_runner import StepRunner, StepSetup

WARMUP_STEPS = 5
MOST_TIMED = 1000  # steps: CUDA events of every step of a long training would fill the memory

Returned = TypeVar("Returned")


class TrainingRun:
    """A row: what was asked for, the model in training, the figures, and notes on them.

    Args:
        setup: mode, T, and the function that makes the model afresh, from the random seed, with
            the checkpoint's weights.
        row: names of what was asked for; figures join them as they are measured.
        notes: what has to be said of the row already.

    Attributes:
        setup, row: see above.
        meter: the model in training; None before :meth:`make`, and once the row has failed.
        loss: mean of the last epoch; None before its end.
        notes: what has to be said of this row alone.
        traceback: of the error that the row failed with; empty without one.
        saved: file with its weights; None before they are saved.
        loading_s: seconds that every batch took to be loaded.
    """

    def __init__(self, setup: StepSetup, row: ReportRow, notes: Iterable[str] = ()) -> None:
        self.setup = setup
        self.row = row
        self.meter: StepMeter | None = None
        self.loss: float | None = None
        self.notes = [*notes]
        self.loading_s: list[float] = []
        self.traceback = ""
        self.saved: Path | None = None

    @property
    def name(self) -> str:
        """``"vgg5 lif fp32 stbp T4"``: a name for a folder, and for TensorBoard."""
        return self.row.name

    @property
    def timesteps(self) -> int:
        assert self.row.timesteps is not None  # every row of a run is planned with its T
        return self.row.timesteps

    @property
    def brings_weights(self) -> bool:
        """True if the model may be trained before we train it."""
        if self.row.baseline_of == self.row.model:  # weights of spikes say nothing of its twin
            return False
        return self.row.checkpoint is not None or ":" in self.row.model

    def record(self, **figures: Any) -> None:
        """Put figures into the row."""
        self.row = replace(self.row, **figures)

    def attempt(
        self, action: Callable[[], Returned], device: torch.device, doing: str = ""
    ) -> Returned | None:
        """The action's result; None where it failed: then the row says why, and has ended.

        Args:
            action: other people's code may run in it, and may do anything.
            device: whose memory is given back.
            doing: what failed, where it is not the training.
        """
        done = ForAll(self.setup.processes, self.name)(action, device)
        if not isinstance(done, Failure):
            return done
        self.end(f"{done.reason} while {doing}" if doing else done.reason, done.traceback)
        return None

    def end(self, reason: str, traceback: str = "") -> None:
        """Say why the row failed, and leave it out of what follows."""
        self.meter = None
        self.fail(reason, traceback)

    def fail(self, reason: str, traceback: str = "") -> None:
        """Say in the row why figures are missing; of several reasons, the first."""
        if not self.row.failure:
            self.traceback = traceback
            self.record(failure=reason)

    def make(
        self,
        device: torch.device,
        seed: int,
        schedule: Callable[[Optimizer], LRScheduler | None],
        timed: bool,
    ) -> None:
        """Make the model and its optimiser; a row that fails says why.

        A :class:`SnnprofError` is raised, of what can be mended: nothing is trained yet.

        Args:
            device: where to train.
            seed: of the time steps that the mode draws.
            schedule: makes what changes the learning rate at every step, or None.
            timed: take time and memory of the training itself.
        """
        attempt = ForAll(self.setup.processes, self.name)
        made = attempt(partial(self._make, device, seed, timed), device, SnnprofError)
        if isinstance(made, Failure):
            self.fail(made.reason, made.traceback)
            return
        self.meter = made
        self._scheduler = schedule(made.runner.optimizer)

    def _make(self, device: torch.device, seed: int, timed: bool) -> StepMeter:
        timer = PhaseTimer(device) if timed else None
        runner = StepRunner(
            self.setup, self.setup.build(), device, recorder=timer or NO_RECORDER, seed=seed
        )
        return StepMeter(runner, device, timer)

    def step(self, batch: Batch) -> None:
        """One training step; after the warm-up the first is for memory, the rest for time."""
        if self.meter is None:
            return
        self.attempt(partial(self._step, self.meter, batch), batch[0].device)

    def _step(self, meter: StepMeter, batch: Batch) -> None:
        warm = meter.steps >= WARMUP_STEPS and meter.runner.updated
        if meter.timer is None or not warm or meter.steps > WARMUP_STEPS + MOST_TIMED:
            meter.step(batch, watch=meter.steps == 0)
        elif meter.memory is None:
            meter.measure_memory(batch)
        else:
            meter.time_step(batch)
        if self._scheduler is not None:
            self._scheduler.step()

    def end_epoch(self, epoch: int) -> None:
        """Note the mean loss of the epoch; a training that has diverged ends the row."""
        if self.meter is None:
            return
        self.loss, what = joined_epoch(self.setup.processes, *self.meter.take_losses())
        if what is not None:
            self.end(
                f"diverged: {what} (epoch {epoch + 1}): look for NaN in the data, or try a lower "
                "learning_rate"
            )

    @property
    def learning_rate(self) -> float | None:
        """That of the next step; None where the optimiser has none, or there is no model."""
        if self.meter is None:
            return None
        found = self.meter.runner.optimizer.param_groups[0].get("lr")
        return None if found is None else float(found)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the training goes on from; see :meth:`StepRunner.state_dict`."""
        assert self.meter is not None, "a row that has failed has no state"
        schedule = None if self._scheduler is None else self._scheduler.state_dict()
        return {**self.meter.runner.state_dict(), "schedule": schedule}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        assert self.meter is not None, "the model is made before its state is loaded"
        self.meter.runner.load_state_dict(state)
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["schedule"])

    @property
    def profile(self) -> StepProfile | None:
        """Time and memory of the training steps; None where the training was too short to tell."""
        meter = self.meter
        if meter is None or meter.memory is None or meter.timer is None:
            return None
        return meter.profile()

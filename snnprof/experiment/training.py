"""``snnprof train``: one network trained epoch by epoch, in a folder that it is taken up from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snnprof.core.processes import current_processes, together
from snnprof.energy.conventions import convention_names
from snnprof.experiment.checkpoint import CONFIGURATION
from snnprof.experiment.configuration import CONFIGURATION_NOTE
from snnprof.experiment.configuration_keys import KEYS
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.random_state import random_state, seeded, set_random_state
from snnprof.experiment.repricing import priced_anew
from snnprof.experiment.run import report_of
from snnprof.experiment.settings import NO_PROGRESS, Progress, Settings
from snnprof.experiment.shared_figures import ForAll, joined_step
from snnprof.experiment.stages import count, make_models
from snnprof.experiment.trainer import count_steps, train_epochs
from snnprof.experiment.training_data import augmentations_of, label_smoothing, training_settings
from snnprof.experiment.training_folder import BEST, LAST, TRAINING, State, TrainingFolder
from snnprof.experiment.training_run import TrainingRun
from snnprof.experiment.training_start import TrainingStart, find_start
from snnprof.experiment.weight_folder import saved_with_weights
from snnprof.profiling.step_memory import Failure
from snnprof.results import Report, StepProfile
from snnprof.results.serialization import from_json, to_json
from snnprof.results.training import EpochRecord, TrainingHistory

_STATUS_S = 1.0  # reading the loss waits for the GPU: no more often than so


def train(
    preset: str | Path | None = None,
    mode: str | None = None,
    *,
    folder: str | Path,
    resume: bool = False,
    progress: Progress = NO_PROGRESS,
    **overrides: Any,
) -> Report:
    """Train a network as a preset says, with a checkpoint after every epoch.

    The folder gets ``last.pt`` (everything that training goes on from), ``best.safetensors``
    (the weights of the highest test accuracy), ``epochs.csv``, ``scalars`` for TensorBoard,
    ``report.json``, ``report.md`` and ``configuration.toml``. A training that was killed, or
    ended by Ctrl-C, goes on where the last whole epoch ended; on the CPU, bit for bit as if it
    had not been.

    Args:
        preset: its name, or a TOML file of values with, perhaps, ``base = "cifar10"``; None for
            ``digits``, or for what a training that is taken up was begun with.
        mode: the training mode; None for that of the preset.
        folder: made if it is not there.
        resume: take up the training that is in the folder; where there is none, begin it, if
            a preset, a mode or another setting says what.
        progress: told of every training step and every epoch.
        **overrides: values in place of the preset's, by
            :data:`~snnprof.experiment.configuration_keys.KEYS`; where a name of the user's own
            code may stand, a function may.

    Returns:
        The report of :func:`snnprof.run`, of one row; of the last whole epoch after Ctrl-C.

    Raises:
        SnnprofError: a wrong name or value, or a checkpoint of another configuration, before
            any training.
    """
    given = overrides if mode is None else {"mode": mode, **overrides}
    return run_training(find_start(preset, given, folder, resume), progress)


def run_training(start: TrainingStart, progress: Progress) -> Report:
    """Train from where it starts; see :func:`train`."""
    place, configuration = start.place, start.configuration
    assert place is not None, "a training has a folder"
    if start.done == configuration.values["epochs"] and (finished := place.report()) is not None:
        return _priced(finished, start)
    with seeded(configuration.values["seed"]):
        checked = partial(training_settings, start.run_here, progress)
        with_data = together(checked, current_processes())
        place.make()
        if start.words:
            progress.say(start.words)
        settings, run = together(partial(_planned, with_data), current_processes())
        training = Training(run, settings, start, place)
        training.begin()
        interrupted = training.run_epochs()
    report = report_of([run], settings, interrupted)
    place.write_report(report, configuration.to_toml())
    return report


def _planned(with_data: Callable[[], Settings]) -> tuple[Settings, TrainingRun]:
    settings = with_data()
    (run,) = plan_rows(settings)
    return settings, run


def _priced(finished: Report, start: TrainingStart) -> Report:
    """The report of a finished training, under the conventions that are asked for now."""
    given = start.configuration.values["energy"]
    names = [name for energy in given for name in convention_names(energy)]
    (row,) = finished.rows
    if {*names} == {each.table for each in row.prices}:
        return finished
    assert start.place is not None, "a training has a folder"
    anew = priced_anew(finished, names)
    others = (note for note in anew.notes if not note.startswith(CONFIGURATION_NOTE))
    anew = replace(anew, notes=(start.configuration.words, *others))
    start.place.write_report(anew, start.configuration.to_toml())
    return anew


class Training:
    """A row that trains epoch by epoch, and what was saved of it.

    Args:
        run: the row.
        settings: of it.
        start: with the configuration that the settings are from.
        place: its folder.

    Attributes:
        history: the epochs that are in the last checkpoint.
    """

    def __init__(
        self,
        run: TrainingRun,
        settings: Settings,
        start: TrainingStart,
        place: TrainingFolder,
    ) -> None:
        self.history = TrainingHistory(())
        self._run = run
        self._settings = settings
        self._start = start
        self._configuration = start.configuration
        self._place = place
        self._order = torch.Generator().manual_seed(settings.seed)
        self._augmentations = augmentations_of(settings.data)
        self._prepare = label_smoothing(start.configuration, settings)
        self._resumed: list[int] = []
        self._profile: StepProfile | None = None
        self._begun = self._told = 0.0
        self._steps = 0
        # By epochs in a checkpoint: Ctrl-C may come while the next one is being written.
        self._rows = {0: run.row}

    def begin(self) -> None:
        """Make the model, and go on from the checkpoint; without one, write the first.

        Raises:
            SnnprofError: the model cannot be made, or its state not be saved.
        """
        recipe, data = self._settings.recipe, self._settings.data
        make_models([self._run], self._settings)
        if self._run.meter is None:
            return
        if self._start.state is None:
            self._save(self.history)
            self._place.check_readable()
        else:
            self._load(self._start.state)
        done = len(self.history.epochs)
        left = count_steps(data, recipe) * (recipe.epochs - done) // max(1, recipe.epochs)
        self._settings.progress.start(left)
        for record in self.history.epochs:
            self._settings.progress.epoch(record)

    def run_epochs(self) -> bool:
        """Train the epochs that are left, then say in the row what there is to say.

        Returns:
            Whether Ctrl-C ended it: the row is then that of the last checkpoint.
        """
        run, interrupted = self._run, False
        try:
            attempt = ForAll(self._settings.processes, run.name)
            trained = attempt(self._epochs, self._settings.device)
        except KeyboardInterrupt:
            if self._settings.processes.several:  # each is somewhere else
                raise
            interrupted = True
        else:
            if isinstance(trained, Failure):
                run.end(trained.reason, trained.traceback)
        failure = run.row.failure
        self._take_row_of_checkpoint(interrupted)
        if failure or run.row.counts is None:
            run.fail(failure or "interrupted before the first epoch ended", run.traceback)
        run.notes.extend(self._notes())
        return interrupted

    def _take_row_of_checkpoint(self, interrupted: bool) -> None:
        """Make the row, and every file, that of the last checkpoint; it is read where unsure."""
        run, state = self._run, self._place.find(resume=True)
        if state is None:
            return
        self.history = _history(state)
        done = len(self.history.epochs)
        run.row = self._rows[done]
        if interrupted and done and run.row.counts is None and run.meter is not None:
            run.load_state_dict(state)  # taken up again, and ended before its next epoch was
            self._measure()
        self._place.complete(state, self.history)

    def _epochs(self) -> None:
        settings, run = self._settings, self._run
        if run.meter is not None and len(self.history.epochs) == settings.recipe.epochs:
            self._measure()  # all trained, but not yet reported
            self._rows[settings.recipe.epochs] = run.row
            return
        trained = train_epochs(
            [run],
            settings.data,
            settings.recipe,
            self._order,
            self._advance,
            prepare=self._prepare,
            done=len(self.history.epochs),
        )
        self._begin_epoch()
        for epoch in trained:
            seconds = time.perf_counter() - self._begun
            self._measure()
            if run.meter is None:  # it has diverged, or its counting failed
                return
            record = self._record(epoch, seconds)
            self._save(TrainingHistory((*self.history.epochs, record)))
            settings.progress.epoch(record)
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._rate = self._run.learning_rate
        self._steps = 0
        self._begun = self._told = time.perf_counter()

    def _advance(self) -> None:
        self._steps += 1
        self._settings.progress.advance()
        now = time.perf_counter()
        if now - self._told >= _STATUS_S and self._run.meter is not None:
            self._told = now
            images = self._steps * self._settings.batch_size / (now - self._begun)
            self._settings.progress.status(self._run.meter.last_loss, images)

    def _measure(self) -> None:
        """Count and test the model as it is now."""
        found = joined_step(self._settings.processes, self._run.profile)
        self._profile = found or self._profile  # as many steps as were timed
        self._run.record(profile=self._profile)
        count([self._run], self._settings)

    def _record(self, epoch: int, seconds: float) -> EpochRecord:
        row = self._run.row
        self._run.record(epochs=epoch)
        return EpochRecord(
            epoch=epoch,
            learning_rate=self._rate,
            train_loss=self._run.loss,
            test_accuracy=row.accuracy,
            firing_rate=None if row.counts is None else row.counts.firing_rate,
            synops=None if row.counts is None else row.counts.per_sample("synops"),
            images_per_s=self._steps * self._settings.batch_size / seconds,
            seconds=seconds,
        )

    def _save(self, history: TrainingHistory) -> None:
        """Write a checkpoint; only then is the epoch done."""
        settings, run = self._settings, self._run
        values = self._configuration.plain
        given = dict.fromkeys(KEYS) | values
        saved = saved_with_weights(run.row, settings, given)
        saved[TRAINING] = {
            "configuration": values,
            "preset": self._configuration.preset,
            "epochs": [asdict(record) for record in history.epochs],
            "resumed": self._resumed,
            "profile": None if self._profile is None else to_json(self._profile),
        }
        state = run.state_dict() | {
            CONFIGURATION: json.dumps(saved),
            "random": random_state(),
            "order": self._order.get_state(),
            "augmentation": [made.state_dict() for made in self._augmentations],
            "loaders": [generator.get_state() for generator in settings.data.generators],
        }
        self._rows[len(history.epochs)] = run.row
        self._place.write(state, history)
        self.history = history

    def _load(self, state: State) -> None:
        stored = json.loads(state[CONFIGURATION])[TRAINING]
        self.history = _history(state)
        done = len(self.history.epochs)
        self._resumed = [*stored["resumed"], done]
        if stored["profile"] is not None:
            profile = from_json(stored["profile"])
            assert isinstance(profile, StepProfile), "it was written as one"
            self._profile = profile
        self._run.load_state_dict(state)
        self._run.record(epochs=done)
        self._run.loss = self.history.epochs[-1].train_loss if done else None
        self._rows = {done: self._run.row}
        self._order.set_state(state["order"])
        for augmentation, kept in zip(self._augmentations, state["augmentation"], strict=True):
            augmentation.load_state_dict(kept)
        for generator, kept in zip(self._settings.data.generators, state["loaders"], strict=True):
            generator.set_state(kept)
        self._place.complete(state, self.history)
        set_random_state(state["random"])  # last: nothing may draw from them in between

    def _notes(self) -> list[str]:
        done, recipe = len(self.history.epochs), self._settings.recipe
        notes = [self._configuration.words]
        if self._start.state is None and self._start.words:
            notes.append(self._start.words)
        if done < recipe.epochs:
            notes.append(
                f"{done} of {recipe.epochs} epochs are trained, and the figures are of the last of "
                f"them: {self._start.resumption} goes on."
            )
        if smoothing := self._configuration.values["label_smoothing"]:
            notes.append(f"Training labels: smoothed by {smoothing:g}; the loss is of these.")
        if (best := self.history.best) is not None:
            notes.append(
                f"The table is of the last epoch, {LAST}. Best test accuracy: "
                f"{best.test_accuracy:.2%}, epoch {best.epoch}, {BEST}: chosen on the test samples "
                "themselves, so it flatters."
            )
        if self._resumed:
            after = ", ".join(map(str, self._resumed))
            notes.append(f"Taken up again after epoch {after}, from the checkpoint.")
        return notes


def _history(state: State) -> TrainingHistory:
    """The epochs that are in a checkpoint."""
    stored = json.loads(state[CONFIGURATION])[TRAINING]
    return TrainingHistory(tuple(EpochRecord(**epoch) for epoch in stored["epochs"]))

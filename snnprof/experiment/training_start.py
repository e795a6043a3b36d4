"""How a training starts: anew, or from its folder's last checkpoint; and by which configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import current_processes
from snnprof.experiment.checkpoint import CONFIGURATION
from snnprof.experiment.configuration import (
    Configuration,
    configure,
    differences,
)
from snnprof.experiment.configuration_keys import KEYS
from snnprof.experiment.presets import Preset, find_preset
from snnprof.experiment.training_folder import LAST, TRAINING, State, TrainingFolder

USUAL_PRESET = "digits"
_IN_TOML = "checkpoint"
_OF_SEVERAL = ("sync_bn", "fsdp")


@dataclass(frozen=True)
class TrainingStart:
    """What a training starts from.

    Attributes:
        configuration: of the training.
        place: its folder; None for what only looks at the configuration.
        state: of the checkpoint that it goes on from; None where it begins.
        resume: a checkpoint was asked for.
    """

    configuration: Configuration
    place: TrainingFolder | None = None
    state: State | None = None
    resume: bool = False

    @property
    def done(self) -> int:
        """Epochs that the checkpoint has behind it."""
        return 0 if self.state is None else len(_stored(self.state)["epochs"])

    @property
    def words(self) -> str:
        """Where a training that was to be taken up goes on; empty where that was not asked."""
        if self.place is None or not self.resume:
            return ""
        if self.state is None:
            return f"No checkpoint in {self.place.path}: the training is begun anew."
        epochs = self.configuration.values["epochs"]
        if self.done == epochs:
            return f"{self.place.path}: all {epochs} epochs are trained."
        return f"{self.place.path} goes on after epoch {self.done} of {epochs}."

    @property
    def run_here(self) -> Configuration:
        """The configuration as these processes run it.

        What only several processes share means nothing in one that takes their training up; the
        checkpoint keeps it for when they are several again.
        """
        if self.state is None or current_processes().several:
            return self.configuration
        given = self.configuration.given
        alone = {key: False for key in _OF_SEVERAL if key not in given}
        return replace(self.configuration, values={**self.configuration.values, **alone})

    @property
    def resumption(self) -> str:
        """The command that takes the training up; in Python, where it was given functions there.

        Code of one's own is named in it: no file decides what code is run.
        """
        assert self.place is not None, "it has a folder"
        folder, values = str(self.place.path), self.configuration.values
        plain, own = self.configuration.plain, own_code(self.configuration.plain)
        if any(not isinstance(values[key], str) for key in own):
            given = ", ".join(f"{key}={_in_python(values[key])}" for key in own)
            return f"snnprof.train(folder={folder!r}, resume=True, {given})"
        processes = current_processes()
        start = ["snnprof"]
        if processes.several:
            start = ["torchrun", "--nproc-per-node", str(processes.count), "-m", "snnprof"]
        return f"{shlex.join([*start, 'train', '--resume', '-o', folder])}{_options(plain, own)}"


def find_start(
    preset: str | Path | None,
    given: Mapping[str, Any],
    folder: str | Path | None,
    resume: bool,
    origin: str = "given",
) -> TrainingStart:
    """How a training starts that is asked for; nothing is written.

    Args:
        preset, given, folder, resume: as of :func:`~snnprof.experiment.training.train`; a folder
            of None for the configuration alone.
        origin: who gave the values.

    Raises:
        SnnprofError: a wrong key or value; a folder that cannot be, or holds a training that is
            not to be taken up; nothing to take up, and nothing that says what to begin; another
            configuration than that of the checkpoint.
    """
    if folder is None:
        if resume:
            raise SnnprofError("name the folder of the training to take up: -o DIR")
        return TrainingStart(_begun(preset, given, origin))
    place = TrainingFolder(folder, current_processes())
    state = place.find(resume)
    if state is not None:
        configuration = _taken_up(preset, given, origin, _stored(state), place.path)
        return TrainingStart(configuration, place, state, resume)
    said = preset is not None or any(KEYS[key].alters for key in given if key in KEYS)
    if resume and not said:
        raise SnnprofError(
            f"no checkpoint in {str(folder)!r} to take up: name the folder of a training, or say "
            "what to begin there, by a preset or a setting (--preset digits)"
        )
    return TrainingStart(_begun(preset, given, origin), place, None, resume)


def _begun(preset: str | Path | None, given: Mapping[str, Any], origin: str) -> Configuration:
    return configure(find_preset(preset or USUAL_PRESET), given, origin)


def own_code(values: Mapping[str, Any]) -> list[str]:
    """Keys whose values, by name, are ``package.module:function``: code of the user's own."""
    return [key for key, what in KEYS.items() if what.code and ":" in str(values.get(key))]


def _in_python(value: object) -> str:
    """A name as text, a function by its own name; ``...`` for what has none to be found by."""
    if isinstance(value, str):
        return repr(value)
    name = getattr(value, "__name__", "")
    return name if name.isidentifier() else "..."


def _options(plain: Mapping[str, Any], keys: Iterable[str]) -> str:
    """`` --model package.module:function`` for every key, behind a command."""
    return "".join(f" --{key} {shlex.quote(plain[key])}" for key in keys)


def _stored(state: State) -> Mapping[str, Any]:
    stored: Mapping[str, Any] = json.loads(state[CONFIGURATION])[TRAINING]
    return stored


def _taken_up(
    preset: str | Path | None,
    given: Mapping[str, Any],
    origin: str,
    stored: Mapping[str, Any],
    folder: Path,
) -> Configuration:
    """The configuration of a training that is taken up again."""
    values = stored["configuration"]
    if preset is None:
        left = [key for key in own_code(values) if given.get(key) is None]
        if left:  # no file decides what code is run
            named = ", ".join(f"{key} {values[key]}" for key in left)
            them = "it" if len(left) == 1 else "them"
            raise SnnprofError(
                f"{folder}: trained with {named}: give {them} too ({_options(values, left)[1:]})"
            )
        found = Preset(stored["preset"], values, {}, dict.fromkeys(values, _IN_TOML))
    else:
        found = find_preset(preset)
    configuration = configure(found, given, origin)
    differing = list(differences(values, configuration))
    if differing:
        raise SnnprofError(
            f"{str(folder / LAST)!r} is of another configuration: {'; '.join(differing)}"
        )
    return configuration

"""The configuration of a training: every value, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError, unknown_key
from snnprof.experiment.configuration_keys import (
    COSINE,
    KEYS,
    SGD,
    Key,
    check_value,
)
from snnprof.experiment.own_function import name_of
from snnprof.experiment.presets import Preset
from snnprof.experiment.settings import Progress, Settings, check_settings

DEFAULT = "default"
_NONE = "none"


CONFIGURATION_NOTE = "Configuration:"


@dataclass(frozen=True)
class Configuration:
    """Every value of a training.

    Attributes:
        values: by key of :data:`~snnprof.experiment.configuration_keys.KEYS`, in their order.
        origins: who gave each: a preset or a file, ``"command line"`` and the like, or
            ``"default"``.
        sources: where a preset has its value from, by key.
        preset: name of the preset or the file.
        given: keys of the values that are none of the preset's, nor defaults.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    sources: Mapping[str, str]
    preset: str
    given: frozenset[str] = frozenset()

    @property
    def plain(self) -> dict[str, Any]:
        """The values as JSON and TOML can hold them: functions by name, None left out."""
        return {key: _plain(value) for key, value in self.values.items() if value is not None}

    @property
    def words(self) -> str:
        """All values in a sentence, and one on weights that were meant for another neuron."""
        changed = ", ".join(key for key in self.values if key in self.given)
        also = f" with {changed} given" if changed else ""
        listed = ", ".join(f"{key} {_shown(value)}" for key, value in self.plain.items())
        return (
            f"{CONFIGURATION_NOTE} preset {self.preset}{also}; {listed}.{self._of_another_neuron}"
        )

    @property
    def _of_another_neuron(self) -> str:
        source, weights = self.sources.get("weights"), self.values["weights"]
        if source is None or "neuron" not in self.given or weights == KEYS["weights"].default:
            return ""
        return f" Weights {weights} are the preset's, whose neuron was replaced: {source}."

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Key, value, who gave it, and the source, for a table; what is not set is empty."""
        return [
            (
                key,
                "" if value is None else _shown(_plain(value)),
                self.origins[key],
                self.sources.get(key, ""),
            )
            for key, value in self.values.items()
        ]

    def to_toml(self) -> str:
        """The values as a file that ``--preset`` reads."""
        lines = [f"{key} = {_toml(value)}" for key, value in self.plain.items()]
        heading = f"# From preset {self.preset}; for snnprof train --preset FILE.toml"
        return "\n".join([heading, *lines, ""])


def configure(found: Preset, given: Mapping[str, Any], origin: str) -> Configuration:
    """The values that were given, before those of a preset, before the defaults.

    Args:
        found: the preset.
        given: values by key. Functions and data of one's own may stand where a name may.
        origin: who gave them.

    Raises:
        SnnprofError: an unknown key; a value of the wrong type, or one that would be ignored.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key in given:
        if key not in KEYS:
            raise unknown_key(origin, key, KEYS)
    for key, what in KEYS.items():
        if key in given:
            values[key], origins[key] = _given(key, what, given[key], origin), origin
        elif key in found.values:
            values[key], origins[key] = found.values[key], found.origins[key]
        else:
            values[key], origins[key] = what.default, DEFAULT
    for key in _left_to_own_code(values, given):
        values[key], origins[key] = None, "left to code of your own"
    sources = {key: found.sources[key] for key in found.sources if origins[key] in found.names}
    return Configuration(values, origins, sources, found.name, frozenset(given))


_OF_SGD = ("learning_rate", "momentum", "nesterov", "weight_decay")
_OF_DATA = ("batch_size", "image_size")


def _left_to_own_code(values: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Keys of the preset that the user's own optimiser, schedule or data decide.

    Raises:
        SnnprofError: one of them was given, and would be ignored.
    """
    decided_by = dict.fromkeys(_OF_SGD, "optimizer") if values["optimizer"] != SGD else {}
    if values["schedule"] != COSINE:
        decided_by["warmup_epochs"] = "schedule"
    elif decided_by:  # the cosine is of our SGD
        decided_by |= dict.fromkeys(("schedule", "warmup_epochs"), "optimizer")
    for key, owner in decided_by.items():
        if given.get(key) is not None:
            raise SnnprofError(
                f"{key}={given[key]} would be ignored: {owner} {_shown(_plain(values[owner]))} "
                "decides it; leave it out"
            )
    own_data = not isinstance(values["data"], str) or ":" in values["data"]
    of_data = [key for key in _OF_DATA if own_data and key not in given]
    return [*decided_by, *of_data]


def _given(key: str, what: Key, value: Any, origin: str) -> Any:
    if value is None or (what.code and not isinstance(value, str | int | float | bool)):
        return value
    if what.kind is list and isinstance(value, str):
        value = (value,)
    check_value(origin, key, value)
    return value


def differences(stored: Mapping[str, Any], asked: Configuration) -> Iterator[str]:
    """What alters the training and is asked for otherwise than it was stored, in words."""
    plain = asked.plain
    for key, what in KEYS.items():
        before, now = _listless(stored.get(key)), _listless(plain.get(key))
        if what.alters and before != now:
            yield f"{key} {_or_none(before)} there, {_or_none(now)} here"


def _listless(value: Any) -> Any:
    return json.loads(json.dumps(value))  # a tuple is a list, as it comes back from a file


def _or_none(value: Any) -> str:
    return _NONE if value is None else _shown(value)


def settings_of(configuration: Configuration, progress: Progress) -> Callable[[], Settings]:
    """What loads the data of a training, and makes its settings: see :func:`check_settings`.

    Raises:
        SnnprofError: a wrong name or value, as far as it shows without the data.
    """
    values = {key: value for key, value in configuration.values.items() if value is not None}
    usual = {"optimizer": SGD, "schedule": COSINE}
    arguments: dict[str, Any] = dict.fromkeys(_NEEDED) | {
        key: value
        for key, value in values.items()
        if key not in _ELSEWHERE and usual.get(key) != value
    }
    return check_settings(
        **arguments,
        modes=values["mode"],
        variants=dict(map(_variant, values["variants"])),
        progress=progress,
    )


# Arguments without a default, and keys that the training itself reads.
_NEEDED = ("image_size", "batch_size", "learning_rate", "checkpoint")
_ELSEWHERE = ("augmentation", "label_smoothing", "mode", "variants")


def _variant(text: str) -> tuple[str, object]:
    """("connect", "iand") of "connect=iand", ("seca", True) of "seca"."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or name in KEYS:
        raise SnnprofError(f"variant {text!r}: give NAME or NAME=VALUE, e.g. connect=iand")
    return name, value if equals else True


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and all(isinstance(v, str | Mapping) for v in value):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return f"{type(value).__module__ if not callable(value) else value.__module__}:{name_of(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        name, *others = value.items()
        inside = ", ".join(f"{key}={_shown(item)}" for key, item in others)
        return f"{name[1]}({inside})" if inside else str(name[1])
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or _NONE
    return f"{value:g}" if isinstance(value, float) else str(value)


_TOML: dict[type, Callable[[Any], str]] = {
    bool: lambda value: str(value).lower(),
    str: lambda value: json.dumps(value, ensure_ascii=False),
    list: lambda value: f"[{', '.join(map(_toml, value))}]",
    dict: lambda value: f"{{ {', '.join(f'{k} = {_toml(v)}' for k, v in value.items())} }}",
}


def _toml(value: Any) -> str:
    return _TOML.get(type(value), repr)(value)

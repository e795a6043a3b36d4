"""Keys of a sweep's file, and what each may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snnprof.core.errors import SnnprofError, unknown_key
from snnprof.training.layouts import AUTO

VARIANTS, CLUSTER, BASELINE = "variants", "cluster", "baseline"


@dataclass(frozen=True)
class Key:
    """A value that can be set.

    Attributes:
        kinds: its types in TOML.
        what: the same in words.
        words: texts that it may be beside.
        several: a list is its value, and no axis.
    """

    kinds: tuple[type, ...]
    what: str
    words: tuple[str, ...] = ()
    several: bool = False


TEXT = Key((str,), "text")
TEXTS = Key((str,), "text", several=True)
WHOLE = Key((int,), "a whole number")
NUMBER = Key((int, float), "a number")
FLAG = Key((bool,), "true or false")

# The options of `snnprof run`, as they are named there.
SETTINGS: dict[str, Key] = {
    "model": TEXT,
    "neuron": TEXT,
    "weights": TEXT,
    "data": TEXT,
    "data_dir": TEXT,
    "image_size": WHOLE,
    "layout": TEXT,
    "loss": TEXT,
    "metric": TEXT,
    "optimizer": TEXT,
    "schedule": TEXT,
    "epochs": WHOLE,
    "steps": WHOLE,
    "batch_size": Key((int,), f"a whole number, or {AUTO!r}", words=(AUTO,)),
    "workers": WHOLE,
    "learning_rate": NUMBER,
    "energy": TEXTS,
    "precision": TEXT,
    "repeats": WHOLE,
    "latency": FLAG,
    "amp": TEXT,
    "compile": FLAG,
    "channels_last": FLAG,
    "measure_energy": NUMBER,
    "trace": TEXT,
    "save": TEXT,
    "isolate": FLAG,
    "device": TEXT,
    "strict": FLAG,
    "checkpoint": TEXT,
    "timesteps": WHOLE,
    "mode": TEXT,
    "seed": WHOLE,
    BASELINE: TEXT,
}
VARIANT = Key((str, int, float, bool), "text, a number, or true or false")


def check_keys(where: str, table: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise SnnprofError for a key that is not known; the nearest one is named, or all."""
    names = [*known]
    for key in table:
        if key not in names:
            raise unknown_key(where, str(key), names)


def values_of(where: str, name: str, key: Key, given: object) -> list[object]:
    """What a key may be, one after another; a single value is one of one.

    Raises:
        SnnprofError: an empty list, or a value of another type.
    """
    several = [*given] if isinstance(given, list | tuple) else [given]
    if not several:
        raise SnnprofError(f"{where}: {name} is an empty list: give a value, or leave it out")
    for value in several:
        if not _fits(value, key):
            raise SnnprofError(f"{where}: {name} = {value!r}: must be {key.what}")
    if float in key.kinds and str not in key.kinds:
        return [float(value) for value in several]  # type: ignore[arg-type]
    return several


def _fits(value: object, key: Key) -> bool:
    """Whether a value is of the type; true is no number, and NaN and infinity are none."""
    if type(value) not in key.kinds:
        return value in key.words if isinstance(value, str) else False
    return not isinstance(value, float) or math.isfinite(value)

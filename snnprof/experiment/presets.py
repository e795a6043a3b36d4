"""Presets by name, or from a TOML file of one's own: values, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError, unknown_key
from snnprof.core.toml_files import parse_toml, read_toml
from snnprof.experiment.configuration_keys import KEYS, check_value

BASE, SOURCES = "base", "sources"
_MOST_BASES = 20


@dataclass(frozen=True)
class Preset:
    """Values by key.

    Attributes:
        name: of the preset, or the path of the file.
        values: by key of :data:`~snnprof.experiment.configuration_keys.KEYS`.
        sources: where a value comes from, by key.
        origins: the preset or file that states a value, by key: this one, or one of its bases.
    """

    name: str
    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """Itself and its bases, as origins name them."""
        return set(self.origins.values())


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = resources.files("snnprof.experiment").joinpath("presets.toml").read_text("utf-8")
    return parse_toml(text)


def preset_names() -> list[str]:
    """The presets that come with snnprof, sorted."""
    return sorted(_shipped())


def find_preset(name: str | Path) -> Preset:
    """A preset with the values of its bases.

    Args:
        name: of :func:`preset_names`, or a file that ends in ``.toml``: keys and values, and
            perhaps ``base``, the name of a preset or of another file, and ``[sources]``.

    Raises:
        SnnprofError: no such preset or file, one that is no TOML, an unknown key, a value of
            the wrong type, or a base that leads back.
    """
    return _with_bases(str(name), ())


def _with_bases(name: str, above: tuple[str, ...]) -> Preset:
    if name in above or len(above) > _MOST_BASES:
        raise SnnprofError(f"preset {above[0]!r}: its bases lead back to {name!r}")
    table, where = _table(name)
    base, sources = table.pop(BASE, None), table.pop(SOURCES, {})
    if base is not None and not isinstance(base, str):
        raise SnnprofError(f"{where}: {BASE} = {base!r}: must be the name of a preset, or a file")
    if not isinstance(sources, dict):
        raise SnnprofError(f"{where}: {SOURCES} must be a table of sentences, by key")
    for key in (*table, *sources):
        if key not in KEYS:
            raise unknown_key(where, key, (*KEYS, BASE, SOURCES))
    for key, value in table.items():
        check_value(where, key, value)
    for key, value in sources.items():
        if not isinstance(value, str):
            raise SnnprofError(f"{where}: {SOURCES}.{key} = {value!r}: must be a sentence")
    under = Preset(name, {}) if base is None else _with_bases(_beside(base, name), (*above, name))
    kept = {key: source for key, source in under.sources.items() if key not in table}
    return Preset(
        name,
        {**under.values, **table},
        {**kept, **sources},
        {**under.origins, **dict.fromkeys(table, where)},
    )


def _beside(base: str, name: str) -> str:
    """A base that is a file stands beside the file that names it."""
    return str(Path(name).parent / base) if _is_file(base) else base


def _is_file(name: str) -> bool:
    return name.lower().endswith(".toml")


def _table(name: str) -> tuple[dict[str, Any], str]:
    """What is stated under a name, and where, for messages."""
    if not _is_file(name):
        if name not in _shipped():
            listed = ", ".join(preset_names())
            raise SnnprofError(f"unknown preset {name!r}; known: {listed}; or a file, NAME.toml")
        return dict(_shipped()[name]), f"preset {name}"
    return read_toml(name, f"preset {name!r}"), name

"""The grid of a sweep: a TOML file, every key of it checked, and the cells that it spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError, known
from snnprof.core.toml_files import read_toml
from snnprof.energy.conventions import at_precision, convention_names
from snnprof.experiment.baseline import find_twin
from snnprof.experiment.lookups import once_each
from snnprof.experiment.model_source import find_builder
from snnprof.experiment.random_state import check_seed
from snnprof.experiment.sweep.cell import USUAL, Cell
from snnprof.experiment.sweep.cluster import Cluster, read_cluster
from snnprof.experiment.sweep.keys import (
    BASELINE,
    CLUSTER,
    SETTINGS,
    VARIANT,
    VARIANTS,
    Key,
    check_keys,
    values_of,
)
from snnprof.models import MODELS, WEIGHTS
from snnprof.spiking.neuron_registry import neuron_maker
from snnprof.training.layouts import AUTO, LAYOUTS
from snnprof.training.modes import find_mode

# From the slowest to the fastest; other axes stand between variants and time steps.
_FIRST, _LAST = ("model", "neuron", "weights"), ("timesteps", "mode", "seed")
_IN_COLUMNS = {*_FIRST, *_LAST, "data", "epochs", "batch_size", "image_size"}
# What the rows that are held against one dense row may differ in.
_BESIDE_ONE_DENSE = {"neuron", "weights", "mode", "timesteps"}
_SUFFIX = ".toml"


@dataclass(frozen=True)
class Grid:
    """Cells, and where and how they are run.

    Attributes:
        cells: in the order of the table.
        folder: of the saved rows.
        cluster: what runs them.
    """

    cells: tuple[Cell, ...]
    folder: Path
    cluster: Cluster


def read_grid(source: str | Path | Mapping[str, Any], folder: str | Path | None = None) -> Grid:
    """The grid that a file spans, or a dict with the same keys.

    Args:
        source: ``NAME.toml``: options of ``snnprof run`` by their names, ``[variants]`` and
            ``[cluster]``. A list of several values is an axis.
        folder: for the rows; None for ``NAME`` beside the file.

    Raises:
        SnnprofError: no such file, no TOML, an unknown key, a value of the wrong type or that
            cannot be, or an empty list: the file and the key are named.
    """
    where = "sweep" if isinstance(source, Mapping) else f"sweep {str(source)!r}"
    table = dict(source) if isinstance(source, Mapping) else _read(Path(source), where)
    if folder is None and isinstance(source, Mapping):
        raise SnnprofError("sweep: the rows of a dict need a place: give folder")
    cluster, variants = table.pop(CLUSTER, {}), table.pop(VARIANTS, {})
    for name, inner in ((CLUSTER, cluster), (VARIANTS, variants)):
        if not isinstance(inner, Mapping):
            raise SnnprofError(f"{where}: {name} = {inner!r}: must be a table, [{name}]")
    check_keys(where, table, (*SETTINGS, VARIANTS, CLUSTER))
    _check_variants(where, variants)
    axes = {key: _axis(where, key, SETTINGS[key], table[key]) for key in _ordered(table)}
    of_variants = {
        key: _axis(where, f"{VARIANTS}.{key}", VARIANT, given) for key, given in variants.items()
    }
    _check_values(where, axes)
    baselines = axes.pop(BASELINE, [])
    cells = _with_baseline(where, baselines, tuple(_cells(axes, of_variants)))
    for precision in axes.get("precision", ()):
        _in(where, "precision", _check_precision, (axes.get("energy", USUAL["energy"]), precision))
    place = Path(str(source)).with_suffix("") if folder is None else Path(folder)
    return Grid(cells, place, read_cluster(f"{where}: {CLUSTER}", cluster))


def _axis(where: str, name: str, key: Key, given: object) -> list[object]:
    """The values of a key, each once."""
    return [*once_each(f"{where}: {name}", values_of(where, name, key, given))]


def _read(path: Path, where: str) -> dict[str, Any]:
    if path.suffix.lower() != _SUFFIX:
        raise SnnprofError(f"{where}: give a file NAME{_SUFFIX}")
    return read_toml(path, where)


def _check_variants(where: str, variants: Mapping[str, Any]) -> None:
    for key in variants:
        if not key.isidentifier() or key in (*SETTINGS, "modes", "progress"):
            raise SnnprofError(
                f"{where}: {VARIANTS}.{key}: this is no variant of a neuron or a network"
            )


def _ordered(table: Mapping[str, Any]) -> list[str]:
    others = (key for key in SETTINGS if key not in (*_FIRST, *_LAST))
    return [key for key in (*_FIRST, *others, *_LAST) if key in table]


def _cells(
    axes: Mapping[str, Sequence[object]], variants: Mapping[str, Sequence[object]]
) -> Iterator[Cell]:
    """Every combination."""
    choices = {
        key: [(key, value) for value in ([tuple(v)] if SETTINGS[key].several else v)]
        for key, v in axes.items()
    }
    names = [*variants]
    combined = [dict(zip(names, values, strict=True)) for values in product(*variants.values())]
    first = [values for key, values in choices.items() if key in _FIRST]
    rest = [values for key, values in choices.items() if key not in _FIRST]
    telling = [k for k, values in choices.items() if len(values) > 1 and k not in _IN_COLUMNS]
    for chosen in product(product(*first), combined, product(*rest)):
        settings = dict((*chosen[0], *chosen[2]))
        shown = {f"option {key}": str(settings[key]) for key in telling}
        yield Cell({**settings, **({VARIANTS: chosen[1]} if chosen[1] else {})}, shown)


def _with_baseline(
    where: str, given: Sequence[object], cells: tuple[Cell, ...]
) -> tuple[Cell, ...]:
    """The cells; the first of each network, data and seed trains the dense network beside it.

    Raises:
        SnnprofError: several baselines, one that these cells cannot have, or rows that run in a
            process of their own within the cell.
    """
    if not given:
        return cells
    if len(given) > 1:
        raise SnnprofError(f"{where}: {BASELINE}: one for the whole grid, not {len(given)}")
    name = str(given[0])
    found: set[str] = set()
    marked = []
    for cell in cells:
        if cell.settings.get("isolate"):
            raise SnnprofError(
                f"{where}: {BASELINE}: the dense network is trained beside a row: leave isolate "
                "out, every row of a sweep has a process of its own"
            )
        alike = {k: v for k, v in cell.settings.items() if k not in _BESIDE_ONE_DENSE}
        key = repr(sorted(alike.items()))
        marked.append(
            cell if key in found else replace(cell, settings={**cell.settings, BASELINE: name})
        )
        found.add(key)
    if ":" not in name:
        timesteps = [
            *dict.fromkeys(cell.settings.get("timesteps", USUAL["timesteps"]) for cell in cells)
        ]
        for cell in marked:
            energy = once_each("energy", cell.arguments.get("energy", USUAL["energy"]))
            _in(where, BASELINE, lambda given: find_twin(*given), (name, timesteps, energy))
    return tuple(marked)


def _check_values(where: str, axes: Mapping[str, Sequence[Any]]) -> None:
    """Look up every name, before anything is run: a row of a wrong one would only fail."""
    models = axes.get("model", ())
    checks: dict[str, Callable[[Any], object]] = {"model": find_builder, **_CHECKS}
    if all(name in MODELS for name in models):  # somebody else's builder decides it
        checks |= _OF_OURS
    for key, check in checks.items():
        for value in axes.get(key, ()):
            _in(where, key, check, value)


def _in(where: str, key: str, check: Callable[[Any], object], value: Any) -> None:
    try:
        check(value)
    except SnnprofError as error:
        raise SnnprofError(f"{where}: {key}: {error}") from error


def _check_precision(given: tuple[Sequence[str], str]) -> None:
    energies, precision = given
    at_precision([name for energy in energies for name in convention_names(energy)], precision)


def _check_timesteps(number: int) -> None:
    if number < 1:
        raise SnnprofError(f"timesteps={number}: must be at least 1")


def _check_layout(name: str) -> None:
    if name != AUTO:
        LAYOUTS.find(name)


def _check_weights(name: str) -> None:
    if name not in WEIGHTS:
        raise known("weights", name, WEIGHTS)


def _check_device(name: str) -> None:
    """A name that is known; the device itself may be another machine's."""
    if name != "cuda":
        choose_device(name)


_CHECKS: dict[str, Callable[[Any], object]] = {
    "timesteps": _check_timesteps,
    "mode": find_mode,
    "seed": check_seed,
    "layout": _check_layout,
    "energy": convention_names,
    "device": _check_device,
}
_OF_OURS: dict[str, Callable[[Any], object]] = {
    "neuron": lambda written: neuron_maker(written, 1),
    "weights": _check_weights,
}

"""The numbers of a result as a dict, for W&B, MLflow and the like."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any

from snnprof.render.table import records
from snnprof.results import (
    COUNT_COLUMNS,
    CountResult,
    EnergyResult,
    InferenceProfile,
    Report,
    StepProfile,
)

# What MLflow takes in the name of a metric; a slash parts the names.
_REFUSED = re.compile(r"[^\w.\- ]")
_PATH = re.compile(r"^(\.\.|\.$)")  # what begins so may lead out of a folder
LAYER = "layer"
NEURON = "neuron"

Figures = dict[str, Any]


def as_dict(result: Any, flat: bool) -> Figures:
    """The numbers of a result, as in its CSV; what was not measured is left out.

    Args:
        result: a report, counts, energy or a step profile.
        flat: one level, with names such as ``"layer/conv1/synops"``; else dicts in dicts.
    """
    nested = figures(result)
    return dict(_flat(nested)) if flat else nested


@singledispatch
def figures(result: Any) -> Figures:
    """The numbers of a result, nested by row or by layer."""
    raise TypeError(f"no figures of {type(result).__name__}")


@figures.register
def _(result: Report) -> Figures:
    named = zip(result.rows, records(result), strict=True)
    return {name: _numbers(found) for name, found in _apart((r.name, f) for r, f in named).items()}


@figures.register
def _(result: CountResult) -> Figures:
    totals = {
        **{column: result.per_sample(column) for column in COUNT_COLUMNS},
        "firing_rate": result.firing_rate,
        "input_density": result.input_density,
        "samples": result.samples,
        "timesteps": result.timesteps,
    }
    layers = {row["name"]: _numbers(row) for row in records(result)}
    neurons = {row.name: _numbers({"firing_rate": row.firing_rate}) for row in result.neurons}
    return {**_numbers(totals), LAYER: layers, NEURON: neurons}


@figures.register
def _(result: EnergyResult) -> Figures:
    name = f"{result.key}_j"
    layers = {layer: _numbers({name: joules}) for layer, joules in result.by_layer().items()}
    return {**_numbers({name: result.total_j}), LAYER: layers}


@figures.register(StepProfile)
@figures.register(InferenceProfile)
def _(result: StepProfile | InferenceProfile) -> Figures:
    return _numbers(records(result)[0])


def _numbers(values: Mapping[str, Any]) -> Figures:
    """The finite numbers alone: words, tuples, truth values and what is None are left out."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _flat(nested: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in _apart((metric_name(name), v) for name, v in nested.items()).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", number) for inner, number in _flat(value))
        else:
            yield name, value


def metric_name(name: str) -> str:
    """The name with letters, digits, dashes, points and spaces only, and no path in it."""
    return _PATH.sub("-", _REFUSED.sub("-", name))


def _apart(named: Any) -> Figures:
    """Values by name; a name that comes again is numbered: nothing may be written over."""
    found: Figures = {}
    for name, value in named:
        other, times = name, 1
        while other in found:
            times += 1
            other = f"{name} {times}"
        found[other] = value
    return found

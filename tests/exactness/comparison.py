"""Counts of random networks compared with the oracle's, column by column."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from snnprof import CountResult, SopCounter
from snnprof.counting import scan as scanning

from .networks import Sample
from .networks import sample as network_of
from .oracle import (
    Row,
    Seen,
    expected_neurons,
    expected_non_finite,
    expected_rows,
    hides_time,
    watch,
)

LAYER_COLUMNS = (
    *("name", "op", "input_kind", "weight_kind", "operation", "stem", "calls", "input_density"),
    *("synops", "unrolled_synops", "nnz_synops", "rate_synops", "nominal_macs", "dense_macs"),
    *("nonzeros", "inputs", "input_density_by_step"),
)
NEURON_COLUMNS = (*("name", "firing_rate", "firing_rate_by_step", "outputs", "nonzeros", "calls"),)
RESULT_COLUMNS = ("scan", "samples", "timesteps", "not_counted", "non_finite", "outputs")
COLUMNS = (
    *LAYER_COLUMNS,
    *(f"neurons.{name}" for name in NEURON_COLUMNS),
    "result",
    *(f"result.{name}" for name in RESULT_COLUMNS),
)
SCANS = ("c", "torch")
BY_STEP = ("input_density_by_step", "neurons.firing_rate_by_step")


@dataclass(frozen=True)
class Difference:
    """One number that is not the oracle's."""

    seed: int
    scan: str
    column: str
    layer: str
    counted: Any
    expected: Any

    def __str__(self) -> str:
        return (
            f"--seed {self.seed} --scan {self.scan}: {self.layer} {self.column}: counted "
            f"{self.counted}, expected {self.expected}"
        )


@dataclass
class Tally:
    """What was compared."""

    networks: int = 0
    layers: int = 0
    neurons: int = 0
    untold: int = 0  # rates per time step that the counter left open
    kinds: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another process has compared."""
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, mine + theirs)


@contextmanager
def reading_by(scan: str) -> Iterator[None]:
    """Let the C extension read, or torch."""
    kept = scanning._scan
    if scan == "torch":
        scanning._scan = None
    try:
        yield
    finally:
        scanning._scan = kept


def count(sample: Sample, scan: str) -> tuple[CountResult, list[torch.Tensor]]:
    """The counts, and the outputs of the network while it was counted."""
    with reading_by(scan), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "NaN or infinity")  # half precision overflows
        with SopCounter(sample.network, **sample.options()) as counter:
            outputs = sample.run()
        return counter.result(samples=sum(sample.batches)), outputs


def compare(seed: int, scans: Sequence[str], tally: Tally) -> None:
    """Count the network of this seed in each way, and note what differs from the oracle."""
    sample = network_of(seed)
    seen = watch(sample)
    rows, neurons = expected_rows(sample, seen), expected_neurons(sample, seen)
    tally.networks += 1
    tally.layers += len(rows)
    tally.neurons += len(neurons)
    tally.kinds.update(row["input_kind"] for row in rows)
    tally.weights.update(row["weight_kind"] for row in rows)
    tally.ops.update(row["op"] for row in rows)
    tally.ways[sample.way.name] += 1
    tally.dtypes[str(sample.inputs[0].dtype).removeprefix("torch.")] += 1
    may_be_untold = sample.way.steps != "called" and sample.steps > 1 and hides_time(sample, seen)
    for scan in scans:
        try:
            result, outputs = count(sample, scan)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            tally.differences.append(Difference(seed, scan, "result", "network", reason, "counts"))
            continue
        found = [
            *_of_rows(LAYER_COLUMNS, "", result.rows, rows),
            *_of_rows(NEURON_COLUMNS, "neurons.", result.neurons, neurons),
            *_of_result(sample, seen, scan, result, outputs, expected_non_finite(rows, seen)),
        ]
        for column, layer, counted, expected in found:
            if column in BY_STEP and counted is None and may_be_untold:
                tally.untold += 1
            else:
                tally.differences.append(Difference(seed, scan, column, layer, counted, expected))


Found = tuple[str, str, Any, Any]


def _of_rows(
    columns: tuple[str, ...], prefix: str, counted: tuple[Any, ...], expected: list[Row]
) -> Iterator[Found]:
    names = [row.name for row in counted]
    if names != [row["name"] for row in expected]:
        yield f"{prefix}name", "network", names, [row["name"] for row in expected]
        return
    for found, row in zip(counted, expected, strict=True):
        for column in columns:
            value = getattr(found, column)
            if value != row[column] or type(value) is not type(row[column]):
                yield f"{prefix}{column}", row["name"], value, row[column]


def _of_result(
    sample: Sample,
    seen: Seen,
    scan: str,
    result: CountResult,
    outputs: list[torch.Tensor],
    non_finite: tuple[str, ...],
) -> Iterator[Found]:
    expected = {
        "scan": scan,
        "samples": sum(sample.batches),
        "timesteps": None if sample.way.steps is None else sample.steps,
        "not_counted": (),
        "non_finite": non_finite,
    }
    for column, value in expected.items():
        if getattr(result, column) != value:
            yield f"result.{column}", "network", getattr(result, column), value
    both = zip(outputs, seen.outputs, strict=True)
    same = all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in both)
    if not same:
        yield "result.outputs", "network", "others", "those without a counter"

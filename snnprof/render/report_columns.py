"""The columns of a comparison: their names, what they show, and which way is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.render.dense_comparison import (
    break_even,
    energy_ratio,
    energy_under,
    has_baseline,
)
from snnprof.render.number_format import integer, relative, spread
from snnprof.render.quantities import (
    COUNT,
    FACTOR,
    JOULES,
    MEMORY,
    NUMBER,
    RATIO,
    SECONDS,
    SHARE,
    SIZE,
    WHOLE,
    Quantity,
)
from snnprof.render.table_lines import Rows
from snnprof.results import Cell, Report, ReportRow
from snnprof.results.identity import differing_parts, may_be_of_one_data

HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Column:
    """A column for people.

    Attributes:
        key: its name on the command line.
        heading: without the unit.
        value: of one row; None where it was not measured. Text, a number in base units, or a
            tuple of repetitions.
        quantity: of numbers; None for text.
        better: "higher" or "lower"; None where neither is.
        folded: said once above the table where it is the same in every row.
        pool: makes one figure of all that a line's rows have; None for the mean of figures, and for
            all repetitions together.
        short: heading for a narrow table.
    """

    key: str
    heading: str
    value: Callable[[ReportRow], Any]
    quantity: Quantity | None = None
    better: str | None = None
    folded: bool = False
    pool: Callable[[Sequence[Any]], float] | None = None
    short: str = ""

    def values(self, rows: Rows) -> list[Any]:
        """What the rows have of it, in their order."""
        found = [self.value(row) for row in rows]
        return [value for value in found if value not in (None, "", ())]

    def cells(self, lines: Sequence[Rows]) -> tuple[str, list[str]]:
        """The unit's symbol, and a cell for each line."""
        if self.quantity is None:
            return "", [", ".join(dict.fromkeys(map(str, self.values(rows)))) for rows in lines]
        quantity = self.quantity
        numbers = [self._numbers(rows) for rows in lines]
        factor, symbol = quantity.unit([value for of_line in numbers for value in of_line])
        if self._repeated(lines):
            return symbol, [spread(of_line, factor) for of_line in numbers]
        setting = self.is_setting(lines)
        return symbol, [quantity.cell(of_line, factor, setting) for of_line in numbers]

    def merit(self, rows: Rows) -> float | None:
        """What lines are compared by: the mean, or the middle of the repetitions."""
        numbers = self._numbers(rows) if self.quantity is not None else []
        if not numbers:
            return None
        middle = statistics.median if self._repeated([rows]) else statistics.fmean
        found = middle(numbers)
        return found if math.isfinite(found) else None

    def is_setting(self, lines: Sequence[Rows]) -> bool:
        """True where the numbers say what was run, and were not measured.

        So are those of the user's own that no seed changes.
        """
        if self.quantity is not _OWN:
            return self.folded
        return all(len({*self.values(rows)}) <= 1 for rows in lines)

    def _repeated(self, lines: Sequence[Rows]) -> bool:
        if self.pool is not None:
            return False
        return any(isinstance(value, tuple) for rows in lines for value in self.values(rows))

    def _numbers(self, rows: Rows) -> list[float]:
        values = self.values(rows)
        if self.pool is not None:
            return [self.pool(values)] if values else []
        if any(isinstance(value, tuple) for value in values):
            return [number for value in values for number in value]
        return values


def columns_of(report: Report) -> tuple[Column, ...]:
    """Every column that the report can show, in their order."""
    where = _heading(report)
    at = f", {where}" if where else ""
    return (
        *_IDENTITY,
        *_FIGURES,
        *_energies(report),
        *_beside_dense(report),
        Column("nops", "NOPs", lambda row: row.neuron_ops, COUNT, LOWER, folded=True),
        Column(
            "step_time", f"step time{at}", lambda row: row.step_s, SECONDS, LOWER,
            short="step time",
        ),
        Column("time_ratio", "time ratio", _relative(report, "step_median_s"), RATIO),
        Column(
            "peak_memory", f"peak memory{at}", lambda row: row.peak_bytes, MEMORY, LOWER,
            pool=max, short="peak memory",
        ),
        Column("memory_ratio", "memory ratio", _relative(report, "peak_bytes"), RATIO),
        Column(
            "sltt_memory", "memory as SLTT's authors print it",
            lambda row: row.profile and row.profile.sltt_authors_bytes, MEMORY, LOWER, pool=max,
            short="memory (SLTT)",
        ),
        Column(
            "hdlif_memory", "memory as HD-LIF's authors print it",
            lambda row: row.profile and row.profile.hdlif_authors_bytes, MEMORY, LOWER,
            pool=max, short="memory (HD-LIF)",
        ),
        Column(
            "latency", f"latency{at}", lambda row: row.inference and row.inference.latency_s,
            SECONDS, LOWER, short="latency",
        ),
        Column(
            "inference", "inference (samples/s)", _seconds_per_sample, NUMBER, HIGHER,
            pool=_samples_per_s, short="samples/s",
        ),
        Column(
            "measured_energy", "measured energy, training", measured_j, JOULES, LOWER,
            short="measured energy",
        ),
        *_training_energies(report),
        *_CONDITIONS,
        Column("optimizer", "optimiser", _differing_optimizer(report), folded=True),
        *(_own_column(name) for name in own_columns(report)),
        Column("failure", "failed", lambda row: "see below" if row.failure else None),
    )  # fmt: skip


def _seconds_per_sample(row: ReportRow) -> tuple[float, ...] | None:
    """Seconds per sample of every timed call; None where no time has passed."""
    timed = row.inference
    if timed is None or not timed.latency_median_s:
        return None
    return tuple(seconds / timed.batch_size for seconds in timed.latency_s)


def _samples_per_s(seconds: Sequence[Sequence[float]]) -> float:
    """Samples per second at the median of all calls: that of the latency beside it."""
    return 1 / statistics.median(second for of_row in seconds for second in of_row)


def _counted(figure: Callable[[Any], Any]) -> Callable[[ReportRow], Any]:
    return lambda row: None if row.counts is None else figure(row.counts)


_IDENTITY = (
    Column("model", "model", lambda row: row.model, folded=True),
    Column("neuron", "neuron", lambda row: row.neuron, folded=True),
    Column("weights", "weights", lambda row: row.weights, folded=True),
    Column("mode", "mode", lambda row: row.mode, folded=True),
    Column("timesteps", "T", lambda row: row.timesteps, WHOLE, folded=True),
    Column("seed", "seed", lambda row: None if row.seed is None else str(row.seed), folded=True),
    Column("data", "data", lambda row: row.data, folded=True),
    Column("image_size", "image size", lambda row: row.image_size, WHOLE, folded=True),
)
_FIGURES = (
    Column("parameters", "parameters", lambda row: row.parameters, WHOLE, LOWER, folded=True),
    Column("size", "size", lambda row: row.size_bytes, SIZE, LOWER, folded=True),
    Column(
        "paper_size",
        "size in the HD-LIF paper's accounting",
        lambda row: row.paper_size_bytes,
        SIZE,
        LOWER,
        folded=True,
        short="size (paper)",
    ),
    Column("accuracy", "accuracy", lambda row: row.accuracy, SHARE, HIGHER),
    Column("firing_rate", "firing rate", _counted(lambda counts: counts.firing_rate), SHARE),
    Column("synops", "SOPs", _counted(lambda counts: counts.per_sample("synops")), COUNT, LOWER),
)
_CONDITIONS = (
    Column("layout", "layout", lambda row: row.layout, folded=True),
    Column("loss", "loss", lambda row: row.loss_name, folded=True),
    Column("batch", "batch", lambda row: row.samples_per_step, WHOLE, folded=True),
    Column("epochs", "epochs", lambda row: row.epochs, WHOLE, folded=True),
    Column("device", "device", lambda row: row.device, folded=True),
    Column("execution", "training step", lambda row: row.execution, folded=True),
    Column("checkpoint", "checkpoint", lambda row: row.checkpoint, folded=True),
)
# Columns that are shown only where rows differ in them: the notes say what they are else.
_WHERE_DIFFERENT = (
    *("seed", "data", "image_size", "layout", "loss", "batch", "optimizer", "epochs", "device"),
    "checkpoint",
)


def _differing_optimizer(report: Report) -> Callable[[ReportRow], str | None]:
    """What rows were trained by; where they differ, no more than that: the notes have it whole."""
    given = [*dict.fromkeys(row.optimizer for row in report.rows if row.optimizer is not None)]
    shown = dict(zip(given, differing_parts(given), strict=True)) if len(given) > 1 else {}
    return lambda row: shown.get(row.optimizer or "", row.optimizer)


def _energies(report: Report) -> Iterator[Column]:
    tables = dict.fromkeys(energy.table for row in report.rows for energy in row.energies)
    for table in tables:
        yield Column(
            f"energy_{table}",
            f"energy, {table}",
            partial(_energy_j, table),
            JOULES,
            LOWER,
            short="energy" if len(tables) == 1 else "",
        )


def _training_energies(report: Report) -> Iterator[Column]:
    """Of training on a sample: no part of ``energy``, and no ratio is taken of it."""
    found = {energy.key: energy for row in report.rows for energy in row.training_energies}
    for key, energy in found.items():
        yield Column(
            key,
            energy.heading,
            partial(_training_j, key),
            JOULES,
            LOWER,
            short="training energy" if len(found) == 1 else "",
        )


def _training_j(key: str, row: ReportRow) -> float | None:
    joules = (energy.total_j for energy in row.training_energies if energy.key == key)
    return next(joules, None)


def _energy_j(table: str, row: ReportRow) -> float | None:
    found = energy_under(row, table)
    return None if found is None else found.total_j


def _beside_dense(report: Report) -> Iterator[Column]:
    """The ratio of every convention to the dense row, and the rates at which they are equal."""
    if not has_baseline(report):
        return
    tables = dict.fromkeys(
        e.table for row in report.rows if row.baseline_of is None for e in row.energies
    )
    alone = len(tables) == 1
    for table in tables:
        yield Column(
            f"dense_ratio_{table}",
            f"energy, {table}, ratio to dense",
            partial(energy_ratio, report=report, table=table),
            FACTOR,
            LOWER,
            short="ratio to dense" if alone else "",
        )
        yield Column(
            f"break_even_{table}", f"break-even firing rate, {table}",
            partial(break_even, report=report, table=table), SHARE,
            short="break-even rate" if alone else "",
        )  # fmt: skip


def _own_column(name: str) -> Column:
    def value(row: ReportRow) -> Cell:
        return row.more.get(name)

    return Column(name, name, value, _OWN)


class _Own(Quantity):
    """A user's own column: whole numbers and words as they are."""

    def cell(self, values: Sequence[Any], factor: float = 1.0, setting: bool = False) -> str:
        if any(isinstance(value, str) for value in values):
            return ", ".join(dict.fromkeys(map(str, values)))
        alone = len(values) == 1 or (setting and len({*values}) == 1)
        if alone and isinstance(values[0], int):
            return integer(values[0])
        return super().cell(values, factor, setting)


_OWN = _Own()


def own_columns(report: Report) -> Sequence[str]:
    """Names of the columns that are the user's own."""
    return [*dict.fromkeys(name for row in report.rows for name in row.more)]


def measured_j(row: ReportRow) -> float | None:
    """Joules per sample of a training step, by the board's counter."""
    if row.measured is None or row.batch_size is None:
        return None
    return row.measured.net_j / row.batch_size


def _relative(report: Report, figure: str) -> Callable[[ReportRow], float | None]:
    return lambda row: to_first(row, report, figure)


def to_first(row: ReportRow, report: Report, figure: str) -> float | None:
    """A figure of a row, relative to that of the first row of the same conditions that has it.

    Conditions are T, batch size, device, environment, and the data, as far as they are stated.
    Of several seeds each is held against its own, which ran beside it.
    None where other rows have it, but none that can be compared: 1.00x would look like them.
    """
    measured = [other for other in report.rows if getattr(other, figure) is not None]
    alike = [
        other
        for other in measured
        if other.conditions == row.conditions and may_be_of_one_data(other, row)
    ]
    if not alike or (len(alike) == 1 and len(measured) > 1):
        return None
    its_own = [other for other in alike if row.seed is not None and other.seed == row.seed]
    first, *_ = its_own or alike
    return relative(getattr(row, figure), getattr(first, figure))


def _heading(report: Report) -> str:
    """The device, in the headings of time and memory; empty where there are several."""
    kinds = {row.device for row in report.rows if row.device is not None}
    if len(kinds) > 1:
        return ""
    (kind,) = kinds or {report.environment.get("device", "").lower()[:4]}
    return "GPU" if kind.startswith("cuda") else "CPU"


_GROUPS = ("energy", "training_energy")  # a column of every convention


def chosen(report: Report, keys: Sequence[str] | None) -> list[Column]:
    """The columns of these names, in that order; None for those that are shown if nobody asks.

    ``energy`` is every convention's, ``training_energy`` likewise.

    Raises:
        SnnprofError: a name that is no column, or one that no row has a figure for.
    """
    columns = columns_of(report)
    if keys is None:
        return [column for column in columns if _is_usual(column, report)]
    found: list[Column] = []
    for key in keys:
        every = f"{key}_" if key in _GROUPS else None
        named = [c for c in columns if c.key == key or (every and c.key.startswith(every))]
        if not named:
            known = ", ".join(column.key for column in columns)
            raise SnnprofError(f"unknown column {key!r}; known: {known}, {', '.join(_GROUPS)}")
        if not any(column.values(report.rows) for column in named):
            raise SnnprofError(f"column {key!r}: no row has it, it was not measured: leave it out")
        found += named
    return found


def _is_usual(column: Column, report: Report) -> bool:
    if column.key in _WHERE_DIFFERENT:
        return len({column.value(row) for row in report.rows}) > 1
    return column.quantity is _OWN or bool(column.values(report.rows))

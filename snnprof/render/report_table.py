"""Rows of a comparison, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from snnprof.core.errors import known
from snnprof.render.dense_comparison import break_even, energy_ratio, has_baseline
from snnprof.render.report_columns import (
    HIGHER,
    Column,
    chosen,
    columns_of,
    measured_j,
    own_columns,
    to_first,
)
from snnprof.render.report_notes import explanations, report_notes
from snnprof.render.table import View, records, view
from snnprof.render.table_lines import EACH, MEAN, Rows, line_names, table_lines
from snnprof.results import InferenceProfile, Report, ReportRow, StepProfile, quartiles

_UNIT = re.compile(r" \([^()]*\)$")
_ON_CPU = ", CPU"


@dataclass(frozen=True)
class Presented:
    """A report, and how its table is to look.

    Attributes:
        report: all of it; a .json and a picture are of the report alone.
        columns: keys of :func:`columns_of`, in their order; None for the usual ones.
        rows: "mean" for a line per row with mean and deviation over its seeds, "each" for a line
            per seed.

    Raises:
        SnnprofError: an unknown column, one that was not measured, or another ``rows``.
    """

    report: Report
    columns: tuple[str, ...] | None = None
    rows: str = MEAN

    def __post_init__(self) -> None:
        if self.rows not in (EACH, MEAN):
            raise known("way to show rows", self.rows, (EACH, MEAN))
        chosen(self.report, self.columns)


@records.register
def _(result: Report) -> list[dict[str, Any]]:
    own = dict.fromkeys(own_columns(result))
    return [_row_record(row, result) | own | row.more for row in result.rows]


def our_columns() -> frozenset[str]:
    """Names of our columns, in tables and for programs; those of energies are not among them.

    Headings are without units (:func:`without_unit`), for every device.
    """
    empty = Report((ReportRow(""),))
    named: set[str] = set()
    for column in columns_of(empty):
        named |= {column.key, column.heading, column.short}
        if column.heading.endswith(_ON_CPU):
            plain = column.heading.removesuffix(_ON_CPU)
            named |= {plain, f"{plain}, GPU"}
    return frozenset(named | _row_record(empty.rows[0], empty).keys())


def without_unit(heading: str) -> str:
    """``"SOPs"`` of ``"SOPs (M)"``."""
    return _UNIT.sub("", heading)


def _row_record(row: ReportRow, report: Report) -> dict[str, Any]:
    counts, profile = row.counts, row.profile
    first, middle, third = quartiles(row.step_s) or (None, None, None)
    return {
        "model": row.model,
        "neuron": row.neuron,
        "weights": row.weights,
        "mode": row.mode,
        "timesteps": row.timesteps,
        "parameters": row.parameters,
        "size_bytes": row.size_bytes,
        "paper_size_bytes": row.paper_size_bytes,
        "accuracy": row.accuracy,
        "firing_rate": None if counts is None else counts.firing_rate,
        "input_density": None if counts is None else counts.input_density,
        "synops": None if counts is None else counts.per_sample("synops"),
        **{f"energy_{energy.table}_j": energy.total_j for energy in row.energies},
        **_beside_dense(row, report),
        "neuron_ops": row.neuron_ops,
        "step_median_s": middle,
        "step_q1_s": first,
        "step_q3_s": third,
        "step_ratio": to_first(row, report, "step_median_s"),
        **_profile_record(profile),
        "batch_size": row.samples_per_step,
        "peak_ratio": to_first(row, report, "peak_bytes"),
        **_inference_record(row.inference),
        "measured_j": measured_j(row),
        "epochs": row.epochs,
        "seed": row.seed,
        "data": row.data,
        "image_size": row.image_size,
        "optimizer": row.optimizer,
        "layout": row.layout,
        "loss": row.loss_name,
        "loading_median_s": row.loading_s,
        "execution": row.execution,
        "checkpoint": row.checkpoint,
        "failure": row.failure,
        "device": _device(row, report),
        **{f"{energy.key}_j": energy.total_j for energy in row.training_energies},
    }


def _beside_dense(row: ReportRow, report: Report) -> dict[str, Any]:
    if not has_baseline(report):
        return {}
    tables = [energy.table for energy in row.energies]
    return {
        "baseline_of": row.baseline_of,
        **{f"energy_{table}_ratio_to_dense": energy_ratio(row, report, table) for table in tables},
        **{f"break_even_rate_{table}": break_even(row, report, table) for table in tables},
    }


def _inference_record(profile: InferenceProfile | None) -> dict[str, Any]:
    first, middle, third = quartiles(profile.latency_s if profile else ()) or (None, None, None)
    return {
        "latency_median_s": middle,
        "latency_q1_s": first,
        "latency_q3_s": third,
        "inference_samples_per_s": profile and profile.samples_per_s,
        "inference_peak_bytes": profile and profile.peak_bytes,
    }


def _device(row: ReportRow, report: Report) -> str | None:
    """The device in full where the environment is of its kind, else the kind alone."""
    where = (row.environment or report.environment).get("device")
    of_kind = where is not None and where.lower().startswith(row.device or "")
    return where if of_kind else row.device


def _profile_record(profile: StepProfile | None) -> dict[str, Any]:
    medians = ("forward", "backward", "optimizer")
    figures = (
        "batch_size",
        "samples_per_s",
        "peak_bytes",
        "reserved_bytes",
        "sltt_authors_bytes",
        "hdlif_authors_bytes",
        "static_bytes",
        "activation_bytes",
        "backward_passes",
        "optimizer_steps",
    )
    if profile is None:
        return dict.fromkeys((*(f"{phase}_median_s" for phase in medians), *figures))
    seconds = {phase: quartiles(getattr(profile, f"{phase}_s")) for phase in medians}
    return {
        **{f"{phase}_median_s": found and found[1] for phase, found in seconds.items()},
        **{name: getattr(profile, name) for name in figures},
    }


@view.register
def _(result: Report) -> View:
    return view(Presented(result))


@view.register
def _(result: Presented) -> View:
    report = result.report
    lines = table_lines(report.rows, result.rows)
    columns = chosen(report, result.columns)
    folded = [] if result.columns else [c for c in columns if _is_folded(c, lines)]
    shown = [column for column in columns if column not in folded]
    symbols, cells = [], []
    for column in shown:
        symbol, of_column = column.cells(lines)
        symbols.append(symbol)
        cells.append(of_column)
    headings = tuple(
        f"{column.heading} ({symbol})" if symbol else column.heading
        for column, symbol in zip(shown, symbols, strict=True)
    )
    what = "Training modes" if any(row.mode for row in report.rows) else "Networks"
    return View(
        title=f"{what} side by side (SOPs, NOPs and energy per sample)",
        columns=headings,
        rows=tuple(zip(*cells, strict=True)),
        notes=(
            *_on_lines(lines),
            *_on_missing_seeds(shown, lines),
            *_on_columns(result),
            *report_notes(report),
        ),
        explained=tuple(explanations(report)),
        caption=_caption(folded, lines),
        units=tuple(symbols),
        names=tuple(column.short or column.heading for column in shown),
        best=frozenset(_best(shown, lines)),
        spare=() if result.columns else tuple(headings[place] for place in _spared(shown)),
    )


def _is_folded(column: Column, lines: Sequence[Rows]) -> bool:
    """True for what is alike in every row of several, and need not be said in each."""
    if not column.folded or len(lines) < 2:
        return False
    complete = all(len(column.values(line)) == len(line) for line in lines)
    return complete and len({*column.cells(lines)[1]}) == 1


def _caption(folded: Sequence[Column], lines: Sequence[Rows]) -> str:
    """What the columns that are left out say of every row."""
    parts = []
    for column in folded:
        rows = lines[0]
        symbol, (first,) = column.cells([rows if len({*column.values(rows)}) > 1 else rows[:1]])
        parts.append(f"{column.heading} {first}{f' {symbol}' if symbol else ''}")
    return f"Every row: {', '.join(parts)}." if parts else ""


def _on_lines(lines: Sequence[Rows]) -> Iterator[str]:
    several = [line for line in lines if len(line) > 1]
    if several:
        seeds = [[str(row.seed) for row in line] for line in several]
        listed = dict.fromkeys(f"seeds {', '.join(of)} (n = {len(of)})" for of in seeds)
        yield (
            f"Mean ± standard deviation over {' or '.join(listed)}, that of a sample: squares over "
            "n - 1; step times are the median and quartiles of all their steps, peak memory is the "
            "largest."
        )


def _on_missing_seeds(columns: Sequence[Column], lines: Sequence[Rows]) -> Iterator[str]:
    """Cells of fewer seeds than their line has, as where one failed."""
    parts: dict[str, list[str]] = {}
    for line, name in zip(lines, line_names(lines), strict=True):
        for column in columns:
            n = len(column.values(line)) if column.quantity is not None else 0
            if 0 < n < len(line):
                parts.setdefault(f"{n} of {len(line)} of {name}", []).append(
                    column.short or column.heading
                )
    if parts:
        said = (f"{seeds}: {', '.join(names)}" for seeds, names in parts.items())
        yield f"Not of all seeds: {'; '.join(said)}."


_MEASURED = ("accuracy", "firing_rate", "synops", "step_time", "peak_memory")


def _on_columns(result: Presented) -> Iterator[str]:
    """What a reader looks for and does not find."""
    if result.columns is None:
        columns = columns_of(result.report)
        missing = [
            column.short or column.heading
            for column in columns
            if column.key in _MEASURED and not column.values(result.report.rows)
        ]
        if missing:
            yield f"Not measured: {', '.join(missing)}."


# What a narrow screen, or page, can do without, the first to go first; of a key that ends with _,
# every column that begins so. The last are looked for in the file.
_SPARED = (
    "execution",
    "paper_size",
    "memory_ratio",
    "time_ratio",
    "hdlif_memory",
    "sltt_memory",
    "parameters",
    "nops",
    "break_even_",
    "size",
    "layout",
    "loss",
    "inference",
    "firing_rate",
    "energy_dense",
    "step_time",
)


def _spared(columns: Sequence[Column]) -> Iterator[int]:
    for key in _SPARED:
        for place, column in enumerate(columns):
            if column.key == key or (key.endswith("_") and column.key.startswith(key)):
                yield place


def _best(columns: Sequence[Column], lines: Sequence[Rows]) -> Iterator[tuple[int, int]]:
    """The best cell of each column, where lines differ in it; a dense row does not compete."""
    competing = {
        n: line
        for n, line in enumerate(lines)
        if not any(row.baseline_of is not None for row in line)
    }
    for place, column in enumerate(columns):
        merits = {n: column.merit(line) for n, line in competing.items()} if column.better else {}
        known = {number: merit for number, merit in merits.items() if merit is not None}
        if len(set(known.values())) > 1:
            pick = max if column.better == HIGHER else min
            best = pick(known.values())
            yield from ((number, place) for number, merit in known.items() if merit == best)

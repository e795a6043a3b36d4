"""Rows of a comparison, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from snnprof.render.count_table import count_notes
from snnprof.render.energy_table import energy_notes
from snnprof.render.number_format import (
    integer,
    number,
    percent,
    ratio,
    relative,
    scaled,
    spread,
)
from snnprof.render.table import MEGA, MIB, MILLI, View, records, view
from snnprof.results import (
    Cell,
    Growth,
    InferenceProfile,
    Report,
    ReportRow,
    StepProfile,
    quartiles,
)
from snnprof.results.scaling import FLAT

_SHORT = 40  # characters of a failure that a cell takes


@records.register
def _(result: Report) -> list[dict[str, Any]]:
    own = dict.fromkeys(own_columns(result))
    return [_row_record(row, result) | own | row.more for row in result.rows]


def own_columns(report: Report) -> Sequence[str]:
    """Names of the columns that are the user's own."""
    return _unique(name for row in report.rows for name in row.more)


def our_columns() -> frozenset[str]:
    """Names of our columns, in tables and for programs; those of energies are not among them."""
    row = ReportRow("")
    execution = ReportRow("", execution="a", not_measured="a", batch_size=1)
    mixed = Report((row, execution))
    cells = [_row_cells(row, mixed, device) for device in ("CPU", "GPU", "")]
    names = {name for found in cells for name in found} | {"batch", "device"}
    return frozenset(names | _row_record(row, mixed).keys())


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
        "neuron_ops": row.neuron_ops,
        "step_median_s": middle,
        "step_q1_s": first,
        "step_q3_s": third,
        "step_ratio": _ratio(row, report, "step_median_s"),
        **_profile_record(profile),
        "peak_ratio": _ratio(row, report, "peak_bytes"),
        **_inference_record(row.inference),
        "measured_j": _measured_j(row),
        "epochs": row.epochs,
        "layout": row.layout,
        "loss": row.loss_name,
        "loading_median_s": row.loading_s,
        "execution": row.execution,
        "failure": row.failure,
        "device": _device(row, report),
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


def _measured_j(row: ReportRow) -> float | None:
    """Joules per sample of a training step, by the board's counter."""
    if row.measured is None or row.batch_size is None:
        return None
    return row.measured.net_j / row.batch_size


def _ratio(row: ReportRow, report: Report, figure: str) -> float | None:
    """A figure of a row, relative to that of the first row of the same conditions that has it.

    None where other rows have it, but none that can be compared: 1.00x would look like them.
    """
    measured = [other for other in report.rows if getattr(other, figure) is not None]
    alike = [getattr(other, figure) for other in measured if other.conditions == row.conditions]
    if not alike or (len(alike) == 1 and len(measured) > 1):
        return None
    return relative(getattr(row, figure), alike[0])


@view.register
def _(result: Report) -> View:
    device = _heading(result)
    own = own_columns(result)
    rows = [_row_cells(row, result, device) | _own_cells(row, own) for row in result.rows]
    columns = tuple(dict.fromkeys(heading for row in rows for heading in row))
    cells = tuple(tuple(row.get(heading, "") for heading in columns) for row in rows)
    what = "Training modes" if any(row.mode for row in result.rows) else "Networks"
    title = f"{what} side by side (SOPs, NOPs and energy per sample)"
    return View(title, columns, cells, tuple(report_notes(result)))


def _heading(report: Report) -> str:
    """The device, in the headings of time and memory; empty where there are several."""
    kinds = {row.device for row in report.rows if row.device is not None}
    if len(kinds) > 1:
        return ""
    (kind,) = kinds or {report.environment.get("device", "").lower()[:4]}
    return "GPU" if kind.startswith("cuda") else "CPU"


def _row_cells(row: ReportRow, report: Report, device: str) -> dict[str, str]:
    """Cells by heading; what no row has to say gets no column."""
    counts = row.counts
    tables = _unique(energy.table for other in report.rows for energy in other.energies)
    energies = {energy.table: energy.total_j for energy in row.energies}
    where = f", {device}" if device else ""
    cells = {
        "model": row.model,
        "neuron": row.neuron or "",
        "weights": row.weights or "",
        "mode": row.mode or "",
        "T": "" if row.timesteps is None else str(row.timesteps),
        "parameters": integer(row.parameters),
        "size (MB)": scaled(row.size_bytes, MEGA),
        "size, paper (MB)": scaled(row.paper_size_bytes, MEGA),
        "accuracy (%)": percent(row.accuracy),
        "firing rate (%)": percent(None if counts is None else counts.firing_rate),
        "SOPs (M)": scaled(None if counts is None else counts.per_sample("synops"), MEGA),
        **{f"energy {table} (mJ)": scaled(energies.get(table), MILLI) for table in tables},
        "NOPs (M)": scaled(row.neuron_ops, MEGA),
        f"step time{where} (ms)": _time_or_failure(row),
        "time ratio": ratio(_ratio(row, report, "step_median_s")),
        f"peak memory{where} (MiB)": scaled(row.peak_bytes, MIB),
        "memory ratio": ratio(_ratio(row, report, "peak_bytes")),
    }
    if any(other.inference for other in report.rows):
        timed = row.inference
        cells[f"latency{where} (ms)"] = spread(timed.latency_s if timed else (), MILLI)
        cells["inference (samples/s)"] = number(None if timed is None else timed.samples_per_s)
    if any(other.layout not in (None, "time-first") for other in report.rows):
        cells["layout"] = row.layout or ""
    profiled = [other for other in report.rows if other.profile is not None]
    if len({other.samples_per_step for other in profiled}) > 1:
        cells["batch"] = integer(row.samples_per_step)
    if len({other.device for other in profiled}) > 1:
        cells["device"] = row.device or ""
    if any(other.execution for other in report.rows):
        cells["training step"] = row.execution
    if any(other.measured or other.not_measured for other in report.rows):
        cells["measured energy, training (mJ)"] = scaled(_measured_j(row), MILLI)
    return cells


def _own_cells(row: ReportRow, names: Sequence[str]) -> dict[str, str]:
    return {name: _own_cell(row.more.get(name)) for name in names}


def _own_cell(value: Cell) -> str:
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else integer(value)


def _time_or_failure(row: ReportRow) -> str:
    """The step time; where the row failed without one, why, if that is short: a note has all."""
    if row.failure is None or row.step_s:
        return spread(row.step_s, MILLI)
    return row.failure if len(row.failure) <= _SHORT else "failed (see below)"


def growth_notes(growth: Sequence[Growth]) -> Iterator[str]:
    """Sentences on growth over T: flat, or so much more per time step."""
    alone = len({g.neuron for g in growth}) == 1
    memory = [_grown(g, alone, MIB, "MiB") for g in growth if g.quantity == "peak_bytes"]
    if memory:
        yield f"Peak memory over T: {'; '.join(memory)}."
    times = [_grown(g, alone, MILLI, "ms") for g in growth if g.quantity == "step_s"]
    if times:
        yield f"Step time over T: {'; '.join(times)}."


def _grown(found: Growth, alone: bool, unit: float, name: str) -> str:
    named = (found.model, None if alone else found.neuron, found.mode)
    who = " ".join(part for part in named if part) or "all rows"
    first, last = found.timesteps[0], found.timesteps[-1]
    change = f"{ratio(found.ratio)} from T={first} to T={last}"
    if found.spread <= FLAT:
        return f"{who}: flat, {change}"
    fit = "" if found.r_squared is None else f", R^2 {found.r_squared:.4f}"
    return (
        f"{who}: {found.slope / unit:+.4g} {name} per step, {found.intercept / unit:.4g} {name} at "
        f"T=0{fit}, {change}"
    )


def report_notes(report: Report) -> Iterator[str]:
    """Everything that has to be said under the comparison table."""
    yield from growth_notes(report.growth)
    yield from report.notes
    if any(row.peak_bytes is not None for row in report.rows):
        yield (
            "Peak memory: allocator bytes of one training step, parameters, buffers, optimiser "
            "state and inputs included. Ratios are to the first row of the same T."
        )
    yield from _conditions(report)
    yield from _profile_notes(report)
    yield (
        "Size: weights and biases, packed (1 bit or a fifth of a byte per quantised weight, and "
        "scales); beside it as the HD-LIF paper accounts: 1/4 byte per 1-bit, 3/8 byte per "
        "1.5-bit weight. Normalisation and neuron parameters excluded."
    )
    yield (
        "NOPs: neuron operations, 3 per neuron and time step (charge, fire, reset), 1 for a "
        "stateless neuron."
    )
    yield from _unique(
        note for row in report.rows for energy in row.energies for note in energy_notes(energy)
    )
    yield from _unique(
        note for row in report.rows if row.counts is not None for note in count_notes(row.counts)
    )
    if report.environment:
        yield "; ".join(f"{key}: {value}" for key, value in report.environment.items()) + "."


def _conditions(report: Report) -> Iterator[str]:
    """Rows that no ratio compares, and rows of which it is not known whether they are alike."""
    groups: dict[tuple[object, ...], list[str]] = {}
    profiled = [row for row in report.rows if row.profile is not None]
    for row in profiled:
        groups.setdefault((row.samples_per_step, row.device), []).append(row.name)
    if len(groups) > 1:
        listed = "; ".join(
            f"batch {'not stated' if batch is None else batch} on {device}: {', '.join(names)}"
            for (batch, device), names in groups.items()
        )
        yield f"Ratios compare rows of the same batch size and device only. {listed}."
    for what, figure in (("T", "timesteps"), ("Batch size", "samples_per_step")):
        unknown = [row.name for row in profiled if getattr(row, figure) is None]
        if len(unknown) > 1:
            names = ", ".join(unknown)
            yield f"{what} is not stated of {names}: their ratios take it to be the same."


def _profile_notes(report: Report) -> Iterator[str]:
    """Steps that were seen from outside, and what was not seen of them."""
    profiles = [(row.name, row.profile) for row in report.rows if row.profile is not None]
    outside = [name for name, profile in profiles if profile.mode is None]
    if outside:
        others = "" if len(outside) == len(profiles) else "; that of the other rows counts all"
        yield (
            f"Steps seen from outside: {', '.join(outside)}. Their peak memory counts what stood "
            f"before the step only where the step touches it{others}."
        )
    for name, profile in profiles:
        yield from (f"{name}: {note}" for note in profile.notes)


def _unique(values: Iterator[str]) -> Sequence[str]:
    return list(dict.fromkeys(values))

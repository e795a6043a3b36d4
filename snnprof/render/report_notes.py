"""Sentences under a comparison: growth, conditions, what the columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snnprof.render.count_table import count_notes
from snnprof.render.dense_comparison import baseline_notes
from snnprof.render.energy_table import energy_notes
from snnprof.render.number_format import ratio
from snnprof.render.table import MIB, MILLI
from snnprof.results import Growth, Report, ReportRow
from snnprof.results.identity import unique_names
from snnprof.results.scaling import FLAT
from snnprof.training.losses import loss_in_words


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
    named = (
        found.model, None if alone else found.neuron, found.weights, found.mode, found.conditions
    )  # fmt: skip
    who = " ".join(part for part in named if part) or "all rows"
    first, last = found.timesteps[0], found.timesteps[-1]
    change = f"{ratio(found.ratio)} from T={first} to T={last}"
    if found.spread <= FLAT:
        return f"{who}: flat, {change}"
    if found.r_squared is None:  # any line meets two points
        return f"{who}: {change}"
    fit = f", R^2 {found.r_squared:.4f}"
    return (
        f"{who}: {found.slope / unit:+.4g} {name} per step, {found.intercept / unit:.4g} {name} at "
        f"T=0{fit}, {change}"
    )


def report_notes(report: Report) -> Iterator[str]:
    """Everything that has to be said under the comparison table."""
    yield from growth_notes(report.growth)
    yield from report.notes
    yield from baseline_notes(report)
    yield from _losses(report)
    yield from _conditions(report)
    yield from _profile_notes(report)
    yield from _unique(
        note for row in report.rows for energy in row.prices for note in energy_notes(energy)
    )
    yield from _unique(
        note
        for row in report.rows
        if row.counts is not None
        for note in count_notes(row.counts, dense=row.baseline_of is not None)
    )
    if report.environment:
        yield "; ".join(f"{key}: {value}" for key, value in report.environment.items()) + "."


def explanations(report: Report) -> Iterator[str]:
    """What the columns mean."""
    if any(row.peak_bytes is not None for row in report.rows):
        yield (
            "Peak memory: allocator bytes of one training step, parameters, buffers, optimiser "
            "state and inputs included. Ratios are to the first row of the same T."
        )
    if any(row.size_bytes is not None for row in report.rows):
        yield (
            "Size: weights and biases, packed (1 bit or a fifth of a byte per quantised weight, "
            "and scales); beside it as the HD-LIF paper accounts: 1/4 byte per 1-bit, 3/8 byte per "
            "1.5-bit weight. Normalisation and neuron parameters excluded."
        )
    if any(row.neuron_ops is not None for row in report.rows):
        yield (
            "NOPs: neuron operations, 3 per neuron and time step (charge, fire, reset), 1 for a "
            "stateless neuron."
        )


def _losses(report: Report) -> Iterator[str]:
    """The loss of each mode: gradients and times of different losses are not the same thing."""
    trained = [
        (row, name, row.loss_name)
        for row, name in zip(report.rows, unique_names(report.rows), strict=True)
        if row.loss_name is not None and (row.epochs or row.profile is not None)
    ]
    losses = {
        row.mode: {loss for other, _, loss in trained if other.mode == row.mode}
        for row, _, _ in trained
    }
    modes: dict[str, list[str]] = {}
    for row, name, loss in trained:
        alone = row.mode if len(losses[row.mode]) == 1 else None
        modes.setdefault(loss, []).append(alone or name)
    parts = [f"{', '.join(_unique(iter(of)))}: {loss_in_words(name)}" for name, of in modes.items()]
    if parts:
        yield f"Loss: {'; '.join(parts)}."


def _conditions(report: Report) -> Iterator[str]:
    """Rows that no ratio compares, and rows of which it is not known whether they are alike."""
    groups: dict[tuple[object, ...], list[str]] = {}
    profiled = [row for row in report.rows if row.profile is not None]
    several_data = len({_data_of(row) for row in profiled if row.data is not None}) > 1
    for row in profiled:
        data = _data_of(row) if several_data else None
        groups.setdefault((row.samples_per_step, row.device, data), []).append(row.name)
    if len(groups) > 1:
        listed = "; ".join(
            f"batch {'not stated' if batch is None else batch} on {device}"
            f"{f', {data}' if data else ''}: {', '.join(_unique(iter(names)))}"
            for (batch, device, data), names in groups.items()
        )
        alike = "batch size, device and data" if several_data else "batch size and device"
        yield f"Ratios compare rows of the same {alike} only. {listed}."
    for what, figure in (
        ("T", "timesteps"),
        ("Batch size", "samples_per_step"),
        *([("Data", "data")] if any(row.data is not None for row in profiled) else []),
    ):
        unknown = [row.name for row in profiled if getattr(row, figure) is None]
        if len(unknown) > 1 or (unknown and figure == "data"):
            names = ", ".join(unknown)
            yield f"{what} is not stated of {names}: their ratios take it to be the same."


def _data_of(row: ReportRow) -> str:
    size = "" if row.image_size is None else f" of {row.image_size} pixels"
    return f"data {row.data or 'not stated'}{size}"


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

"""The table of a run, of rows that were measured anywhere: one's own training, another machine."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snnprof.core.environment import choose_device, describe
from snnprof.core.errors import SnnprofError
from snnprof.counting.module_outputs import ModuleOutputs
from snnprof.energy.conventions import CONVENTIONS, of_inference, of_training
from snnprof.energy.dense_baseline import price_dense
from snnprof.energy.pricing import price
from snnprof.quantization.size import size_bytes
from snnprof.render.report_table import our_columns, without_unit
from snnprof.results import (
    Cell,
    CountResult,
    EnergyResult,
    InferenceProfile,
    Report,
    ReportRow,
    StepProfile,
)
from snnprof.results.identity import likeness
from snnprof.results.scaling import growth
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron_equations import neuron_ops

_ENERGY = ("operands",)
# Where to get what a row takes.
_SOURCES = {
    "model": "give the module itself; the row's name comes first",
    "counts": "counter.result() of a snnprof.SopCounter gives one",
    "step": "snnprof.profile, or snnprof.profile_step, gives one",
    "inference": "snnprof.profile_inference gives one",
}


def row(
    name: str,
    *,
    model: nn.Module | None = None,
    counts: CountResult | None = None,
    step: StepProfile | None = None,
    inference: InferenceProfile | None = None,
    accuracy: float | None = None,
    neuron: str | None = None,
    mode: str | None = None,
    weights: str | None = None,
    timesteps: int | None = None,
    nops: int | None = None,
    seed: int | None = None,
    data: str | None = None,
    image_size: int | None = None,
    energy: str | Sequence[str] = _ENERGY,
    baseline_of: str | None = None,
    **more: Cell,
) -> ReportRow:
    """A row for :func:`report`, of whatever was measured. What is not given is an empty cell.

    Args:
        name: of the row, in the column ``model``.
        model: parameters, sizes and the NOPs of its last run are read from it.
        counts: synaptic operations; they are priced as well.
        step: time and memory of a training step.
        inference: latency of a batch, of :func:`snnprof.profile_inference`.
        accuracy: share of samples classified correctly, 0 to 1.
        neuron, weights: in words.
        mode: the training mode; None for that of ``step``.
        timesteps: T; None for that of ``counts``, ``step`` or ``model``.
        nops: neuron operations per sample, as of :class:`~snnprof.NeuronOperations`; None for what
            the model's neurons say of their last run (those of other libraries say nothing).
        seed: rows that differ in it alone are one line, with mean and deviation.
        data: what it was trained and counted on, in words.
        image_size: of the data, in pixels.
        energy: a convention or several to price under, a column each; one of training needs
            counts of a training step, with their gradients.
        baseline_of: the name of the rows that this one, of a dense network, is held against: it is
            priced under ``dense`` too, and theirs are given relative to it.
        **more: columns of one's own, numbers or words, shown after ours.

    Raises:
        SnnprofError: a wrong type or value, parts that were measured with different T, a column
            that has the name of one of ours.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise SnnprofError(f"row name {name!r}: give a name of one line")
    kinds: dict[str, type[Any]] = {
        "model": nn.Module,
        "counts": CountResult,
        "step": StepProfile,
        "inference": InferenceProfile,
    }
    parts = {"model": model, "counts": counts, "step": step, "inference": inference}
    for part, given in parts.items():
        if given is not None and not isinstance(given, kinds[part]):
            raise SnnprofError(
                f"row {name!r}: {part} is a {type(given).__name__}, not a {kinds[part].__name__}: "
                f"{_SOURCES[part]}"
            )
    conventions = (energy,) if isinstance(energy, str) else tuple(energy)
    if counts is None and conventions != _ENERGY:
        raise SnnprofError(f"row {name!r}: energy is given, but no counts to price: give counts")
    return ReportRow(
        model=name,
        neuron=_words(name, "neuron", neuron),
        weights=_words(name, "weights", weights),
        mode=_words(name, "mode", mode) or (None if step is None else step.mode),
        timesteps=_timesteps(name, timesteps, model, counts, step),
        accuracy=_share(name, accuracy),
        counts=counts,
        energies=() if counts is None else _priced(counts, conventions, baseline_of),
        **_of_training(counts, conventions),
        profile=step,
        loss_name=None if step is None else step.loss,
        inference=inference,
        batch_size=None if step is None else step.batch_size,
        epochs=None,
        seed=_whole(name, "seed", seed),
        data=_words(name, "data", data),
        image_size=_whole(name, "image_size", image_size, " of pixels"),
        baseline_of=_words(name, "baseline_of", baseline_of),
        more=_own_cells(name, more),
        modules=() if model is None else tuple(ModuleOutputs(model).rows(None, None, None)),
        **({} if model is None else model_figures(model)) | _operations(name, nops),
    )


def _priced(
    counts: CountResult, conventions: Sequence[str], baseline_of: str | None
) -> tuple[EnergyResult, ...]:
    names = of_inference(conventions)
    if baseline_of is not None:
        return price_dense(counts, names)
    return tuple(price(counts, one) for one in names)


def _of_training(counts: CountResult | None, conventions: Sequence[str]) -> dict[str, Any]:
    """The fields of a row whose counts are of a training step too, if that is to be priced."""
    names = of_training(conventions)
    if counts is None or not names:
        return {}
    return {
        "training_counts": counts,
        "training_energies": tuple(price(counts, one) for one in names),
    }


def _operations(name: str, nops: int | None) -> dict[str, Any]:
    found = _whole(name, "nops", nops, " per sample")
    return {} if found is None else {"neuron_ops": found}


def _whole(name: str, what: str, value: int | None, per: str = "") -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise SnnprofError(f"row {name!r}: {what}={value!r}: give a whole number{per}")
    return int(value)


def model_figures(model: nn.Module) -> dict[str, Any]:
    """Fields of a row that can be read from a model: parameters, sizes, NOPs of its last run."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "size_bytes": size_bytes(model),
        "paper_size_bytes": size_bytes(model, "paper"),
        "neuron_ops": neuron_ops(model),
    }


def report(rows: Sequence[ReportRow], *, notes: Sequence[str] = ()) -> Report:
    """Rows side by side, in the table, the pictures and the files of :func:`snnprof.run`.

    Args:
        rows: of :func:`row`, or of the report of a run.
        notes: sentences to print under the table, before ours.

    Raises:
        SnnprofError: no rows, something that is no row, two rows that are one by all they say.
    """
    if isinstance(rows, Report | ReportRow) or not isinstance(rows, Sequence):
        raise SnnprofError(f"rows is a {type(rows).__name__}: give a list, [snnprof.row(...), ...]")
    if not rows:
        raise SnnprofError("no rows: a report needs one at the least, [snnprof.row(...), ...]")
    for place, one in enumerate(rows):
        if not isinstance(one, ReportRow):
            way = "give its rows, *report.rows" if isinstance(one, Report) else "use snnprof.row"
            raise SnnprofError(f"rows[{place}] is a {type(one).__name__}, not a ReportRow: {way}")
    _check_told_apart(rows)
    if isinstance(notes, str):
        notes = (notes,)
    ordered = tuple(rows)
    return Report(
        rows=ordered,
        environment=_environment(ordered),
        notes=(*notes, *_notes(ordered)),
        growth=tuple(growth(ordered)),
    )


def _check_told_apart(rows: Sequence[ReportRow]) -> None:
    """Raise SnnprofError for rows that nothing but their figures tells apart."""
    found, times = Counter(map(likeness, rows)).most_common(1)[0]
    if times > 1:
        name = next(one.name for one in rows if likeness(one) == found)
        raise SnnprofError(
            f"{times} rows are called {name!r}: give each a name of its own, the first argument of "
            "snnprof.row, or a seed; of a finished row, dataclasses.replace(row, "
            "model='another name')"
        )


def _environment(rows: Sequence[ReportRow]) -> dict[str, str]:
    """This machine; its device only where it is of the kind that all steps ran on."""
    kinds = {one.device for one in rows if one.device is not None}
    here = describe(choose_device("auto" if "cuda" in kinds else "cpu"))
    if kinds != {here["device"].partition(",")[0].lower()}:
        del here["device"]
    return here


def _notes(rows: Sequence[ReportRow]) -> Iterator[str]:
    yield (
        "The rows were put together by snnprof.report, on the machine and with the versions below; "
        "how each was trained and measured is not known to it."
    )
    own = list(dict.fromkeys(name for one in rows for name in one.more))
    if any(one.accuracy is not None for one in rows):
        own.insert(0, "accuracy")
    if own:
        yield f"Taken as given: {', '.join(own)}."
    steps = [f"{len(one.step_s)} ({one.name})" for one in rows if one.step_s]
    if steps:
        yield (
            "Step time: whole training step, median (first-third quartile) of timed steps: "
            f"{', '.join(steps)}."
        )
    for failed in (one for one in rows if one.failure):
        yield f"{failed.name}: {failed.failure}; what is empty in its row was not measured."


def _words(name: str, what: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise SnnprofError(f"row {name!r}: {what}={value!r}: say it in words, of one line")


def _timesteps(
    name: str,
    given: int | None,
    model: nn.Module | None,
    counts: CountResult | None,
    step: StepProfile | None,
) -> int | None:
    """T, by whoever knows it.

    Raises:
        SnnprofError: they disagree, or it is no whole number.
    """
    if given is not None and (type(given) is not int or given < 1):
        raise SnnprofError(f"row {name!r}: timesteps={given!r}: must be a whole number, at least 1")
    by = {
        "timesteps": given,
        "counts": None if counts is None else counts.timesteps,
        "step": None if step is None else step.timesteps,
        "model": model.timesteps if isinstance(model, SpikingNetwork) else None,
    }
    known = {source: t for source, t in by.items() if t is not None}
    if len(set(known.values())) > 1:
        said = ", ".join(f"{t} by {source}" for source, t in known.items())
        raise SnnprofError(
            f"row {name!r}: T is {said}: one row is of one T; make a row for each, or measure again"
        )
    return next(iter(known.values()), None)


def _share(name: str, accuracy: object) -> float | None:
    if accuracy is None:
        return None
    value = _plain(accuracy)
    if isinstance(value, str | None) or isinstance(accuracy, bool) or not 0 <= value <= 1:
        way = ""
        if isinstance(value, int | float) and 1 < value <= 100:
            way = f", {value / 100:g}"
        raise SnnprofError(f"row {name!r}: accuracy={accuracy!r}: say a share, from 0 to 1{way}")
    return float(value)


def _own_cells(name: str, more: Mapping[str, object]) -> dict[str, Cell]:
    ours = our_columns() | {field.name for field in dataclasses.fields(ReportRow)}
    ours |= {column for table in CONVENTIONS for column in _of_energy(table)}
    cells: dict[str, Cell] = {}
    for column, value in more.items():
        if column in ours or without_unit(column) in ours:
            raise SnnprofError(
                f"row {name!r}: column {column!r} is one of ours: give your column another name"
            )
        if not column.strip() or not column.isprintable():
            raise SnnprofError(f"row {name!r}: column {column!r}: give it a name of one line")
        plain = None if value is None else _plain(value)
        if value is not None and plain is None:
            raise SnnprofError(
                f"row {name!r}: {column}={value!r}: a cell holds a finite number or words of one "
                "line; leave out what was not measured"
            )
        cells[column] = plain
    return cells


def _of_energy(table: str) -> tuple[str, ...]:
    return (
        *(f"energy_{table}_j", f"energy_{table}", f"energy, {table}", f"energy {table}"),
        *(f"training_energy_{table}_j", f"training energy, {table}"),
    )


def _plain(value: object) -> str | int | float | None:
    """A word, or a finite number as Python's own; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, str):
        return value if value.isprintable() else None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return None

"""Sentences under a comparison: what was run, assumed, left out or not measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from snnprof.experiment.metrics import ACCURACY
from snnprof.experiment.settings import Settings
from snnprof.experiment.shared_run import notes_on_processes
from snnprof.experiment.training_run import WARMUP_STEPS
from snnprof.profiling.profile import WARMUP
from snnprof.results import ReportRow, quartiles
from snnprof.results.scaling import is_steady


def notes_on(rows: Sequence[ReportRow], settings: Settings) -> Iterator[str]:
    """The sentences, in order."""
    yield f"Data: {settings.data.description}."
    yield from notes_on_processes(settings)
    counted = next((row.counts.samples for row in rows if row.counts is not None), None)
    if counted is not None and settings.data.batch_size is not None:  # of the user's own
        yield f"Counted on {counted} test samples."
    yield from _layouts(rows)
    yield from _training(rows, settings)
    classes = settings.data.shape.get("num_classes")
    if classes is not None and settings.metric is not None and settings.metric.name == ACCURACY:
        yield from _guessing(rows, classes)
    if rows[0].execution:
        yield f"Training steps: {rows[0].execution}. Counts and accuracy: full precision."
    yield from _time(rows, settings)
    yield from _unsteady(rows)
    if any(row.inference for row in rows):
        yield (
            f"Latency: one batch of {settings.batch_size}, all its time steps, in evaluation mode "
            "without gradients, one row after another."
        )
    for failed in (row for row in rows if row.failure):
        yield f"{failed.name}: {failed.failure}; what is empty in its row was not measured."
    for reason in dict.fromkeys(row.not_measured for row in rows if row.not_measured):
        yield f"Measured energy: {reason}."
    if any(row.measured for row in rows):
        yield (
            "Measured energy: joules of a training step by the board's own counter, idle power "
            "subtracted, per sample; the analytic figures are of inference."
        )
    if settings.save is not None:
        yield (
            f"Trained weights, with settings and figures: {settings.save}/*.safetensors; snnprof "
            "run --checkpoint FILE --epochs 0 counts them again."
        )
    if settings.trace is not None:
        yield (
            f"Traces: drop a .json.gz of {settings.trace} on ui.perfetto.dev, or "
            f"tensorboard --logdir {settings.trace}."
        )


def _layouts(rows: Sequence[ReportRow]) -> Iterator[str]:
    """How networks of the user's own take their time steps."""
    found = {row.layout: row for row in rows if ":" in row.model or row.layout != "time-first"}
    for layout in found:
        if layout is not None:
            yield f"Layout: {layout} ({_LAYOUTS[layout]})."


_LAYOUTS = {
    "step": "[B, ...], one call per time step",
    "time-first": "[T, B, ...]",
    "batch-first": "[B, T, ...]",
    "inside": "[B, ...], T runs in its forward",
}


def _training(rows: Sequence[ReportRow], settings: Settings) -> Iterator[str]:
    recipe, first = settings.recipe, rows[0]
    if first.checkpoint is not None:
        yield f"Weights loaded from {first.checkpoint}."
    if recipe.epochs:
        yield (
            f"Training: epochs {recipe.epochs}, batch {recipe.batch_size}, {recipe.words}, seed "
            f"{settings.seed}; one run per row, incomplete batches dropped."
        )
        yield from _loading(rows)
    elif first.checkpoint is None and ":" not in first.model:
        yield (
            "The weights are untrained (0 epochs): no accuracy is given, and batch norms that "
            "have seen no data may leave layers silent."
        )
    if settings.metric is not None and settings.metric.note:
        yield f"{settings.metric.note}."


def _loading(rows: Sequence[ReportRow]) -> Iterator[str]:
    seconds = next((row.loading_s for row in rows if row.loading_s is not None), None)
    if seconds is not None:
        yield (
            f"Loading a batch took {1000 * seconds:.3g} ms (median), for all rows together; no "
            "step time holds it."
        )


def _guessing(rows: Sequence[ReportRow], classes: int) -> Iterator[str]:
    """Rows whose accuracy is within three standard errors of a guess."""
    chance = 1 / classes
    for row in rows:
        samples = 0 if row.counts is None else row.counts.samples
        if row.accuracy is None or not samples:
            continue
        likely = chance + 3 * math.sqrt(chance * (1 - chance) / samples)
        if row.accuracy <= likely < 1:  # else there are too few images to tell
            yield (
                f"{row.name}: {row.accuracy:.1%} of {samples} samples is within three standard "
                f"errors of guessing ({chance:.1%}): its counts may be of a network that has "
                "learnt nothing; try another --learning-rate or more --epochs."
            )


def _time(rows: Sequence[ReportRow], settings: Settings) -> Iterator[str]:
    well = [row for row in rows if not row.failure]
    if not well:
        return
    in_turn, alone = (", rows in turn", ", one row at a time") if len(rows) > 1 else ("", "")
    if settings.repeats is not None:
        yield (
            f"Step time: whole training step of batch {settings.batch_size}, median "
            f"(first-third quartile) of {settings.repeats} after {WARMUP} untimed "
            f"ones{in_turn}; peak memory in a pass of its own{alone}."
        )
        return
    timed = min(len(row.step_s) for row in well)
    if timed:
        yield (
            f"Step time: whole training step, median (first-third quartile) of {timed} after "
            f"{WARMUP_STEPS + 1} untimed ones{in_turn}."
        )
        return
    why = "the training was too short" if settings.recipe.epochs else "0 epochs, and no repeats"
    passes = "--repeats N takes it in a pass of its own"
    yield f"Step time: not measured ({why}; {passes})."
    if any(row.peak_bytes is None for row in well):
        yield f"Peak memory: not measured ({why})."


def _unsteady(rows: Sequence[ReportRow]) -> Iterator[str]:
    """Rows whose quartiles are so far apart that the median says little."""
    apart: dict[str, float] = {}
    for row in rows:
        found = quartiles(row.step_s)
        if found is not None and not is_steady(row.step_s):
            first, _, third = found
            apart[row.name] = third / first if first else math.inf
    unsteady = [*apart]
    if unsteady:
        yield (
            f"Step times of {', '.join(unsteady)} say little, the third quartile being up to "
            f"{max(apart.values()):.1f} times the first: the machine was busy, or has too few "
            "cores for the threads (OMP_NUM_THREADS)."
        )

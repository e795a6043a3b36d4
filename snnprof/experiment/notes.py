"""What has to be said under a comparison: what was run, assumed, left out or not measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from snnprof.energy.measured_joules import Measurement
from snnprof.experiment.data_sets import Dataset
from snnprof.experiment.stages import Setting
from snnprof.experiment.trainer import WARMUP_STEPS
from snnprof.profiling.profile import WARMUP
from snnprof.results import ReportRow, quartiles

_UNSTEADY = 1.5  # third quartile / first quartile; idle machines give 1.05
_FEW = 4  # timed steps: of fewer, quartiles say nothing


def remarks(
    results: Sequence[ReportRow], setting: Setting, joules: Mapping[str, Measurement]
) -> Iterator[str]:
    """The sentences, in order."""
    yield f"Data: {setting.data.description}."
    yield from _training(results, setting)
    yield from _guessing(results, setting.data)
    if setting.execution != type(setting.execution)():
        yield f"Training steps: {setting.execution}. Counts and accuracy: full precision."
    yield from _time(results, setting)
    yield from _unsteady(results)
    for failed in (result for result in results if result.failure):
        yield f"{failed.name}: {failed.failure}; what is empty in its row was not measured."
    for reason in dict.fromkeys(found.reason for found in joules.values() if found.reason):
        yield f"Measured energy: {reason}."
    if any(found.energy for found in joules.values()):
        yield (
            "Measured energy: joules of a training step by the board's own counter, idle power "
            "subtracted, per sample; the analytic figures are of inference."
        )
    if setting.measuring.trace is not None:
        yield f"Traces: tensorboard --logdir {setting.measuring.trace}."


def _training(results: Sequence[ReportRow], setting: Setting) -> Iterator[str]:
    recipe, first = setting.recipe, results[0]
    if first.checkpoint is not None:
        yield f"Weights loaded from {first.checkpoint}."
    if recipe.epochs:
        yield (
            f"Training: epochs {recipe.epochs}, batch {recipe.batch_size}, SGD (learning rate "
            f"{recipe.learning_rate:g}, Nesterov momentum {recipe.momentum:g}, weight decay "
            f"{recipe.weight_decay:g}), cosine annealing, seed {setting.seed}; one run per row, "
            "incomplete batches dropped."
        )
    elif first.checkpoint is None and ":" not in first.model:
        yield (
            "The weights are untrained (0 epochs): no accuracy is given, and batch norms that "
            "have seen no data may leave layers silent."
        )


def _guessing(results: Sequence[ReportRow], data: Dataset) -> Iterator[str]:
    """Rows whose accuracy is within three standard errors of a guess."""
    chance = 1 / data.num_classes
    error = math.sqrt(chance * (1 - chance) / len(data.test_labels))
    likely = chance + 3 * error
    if likely >= 1:  # too few images to tell
        return
    for result in results:
        if result.accuracy is not None and result.accuracy <= likely:
            yield (
                f"{result.name}: {result.accuracy:.1%} is no better than guessing "
                f"({chance:.1%}), so its counts are of a network that has learnt nothing: try "
                "another --learning-rate or more --epochs."
            )


def _time(results: Sequence[ReportRow], setting: Setting) -> Iterator[str]:
    well = [result for result in results if not result.failure]
    if not well:
        return
    in_turn, alone = (", rows in turn", ", one row at a time") if len(results) > 1 else ("", "")
    if setting.measuring.repeats is not None:
        yield (
            f"Step time: whole training step of batch {setting.batch_size}, median "
            f"(first-third quartile) of {setting.measuring.repeats} after {WARMUP} untimed "
            f"ones{in_turn}; peak memory in a pass of its own{alone}."
        )
        return
    timed = min(len(result.step_s) for result in well)
    if timed:
        yield (
            f"Step time: whole training step, median (first-third quartile) of {timed} after "
            f"{WARMUP_STEPS + 1} untimed ones{in_turn}."
        )
        return
    why = "the training was too short" if setting.recipe.epochs else "0 epochs, and no repeats"
    yield f"Step time: not measured ({why})."
    if any(result.peak_bytes is None for result in well):
        yield f"Peak memory: not measured ({why})."


def _unsteady(results: Sequence[ReportRow]) -> Iterator[str]:
    """Rows whose quartiles are so far apart that the median says little."""
    apart: dict[str, float] = {}
    for result in results:
        found = quartiles(result.step_s)
        if found is not None and len(result.step_s) >= _FEW:
            first, _, third = found
            apart[result.name] = third / first
    unsteady = [name for name, ratio in apart.items() if ratio > _UNSTEADY]
    if unsteady:
        yield (
            f"Step times of {', '.join(unsteady)} say little, the third quartile being up to "
            f"{max(apart.values()):.1f} times the first: the machine was busy, or has too few "
            "cores for the threads (OMP_NUM_THREADS)."
        )

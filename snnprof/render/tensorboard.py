"""Scalars for TensorBoard."""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
from collections.abc import Iterator, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError, reason_of
from snnprof.render.coherence_table import summary
from snnprof.results import CoherenceResult, CoherenceSweep, Report, ReportRow
from snnprof.results.training import EpochRecord, TrainingHistory

SUFFIX = ".snnprof"  # behind the name of an events file: it is ours to replace
Values = Mapping[str, float | None]
Points = list[tuple[int, Values]]


def write_scalars(
    source: Report | CoherenceSweep | TrainingHistory | Values, folder: Path, *, step: int = 0
) -> None:
    """Write figures for TensorBoard's scalars page; what was not measured is left out.

    A report makes one run per model, neuron, weights and mode, in a folder of that name in
    ``folder``, with T as the step: a sweep over T is a curve, and two modes lie on one plot. Data
    and seeds make runs of their own where they differ.
    Coherence makes one run with T as the step; where a training was followed, one run per T with
    the epoch as the step. A training's epochs make one run, in ``folder`` itself. Scalars that
    this function wrote there before are replaced.

    Args:
        source: a report, coherence, a training's history, or values by tag (which go to
            ``folder`` itself, at ``step``).
        folder: what ``tensorboard --logdir`` is given, or a folder in it; its parent exists.
        step: where the values lie on the horizontal axis.

    Raises:
        SnnprofError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(exist_ok=True)
        runs = {"": [(step, source)]} if isinstance(source, Mapping) else _runs(source)
        for name, points in runs.items():
            (folder / name).mkdir(exist_ok=True)
            _write(points, folder / name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SnnprofError(f"scalars folder {str(folder)!r}: {reason_of(error)}") from error


def scalars(row: ReportRow) -> dict[str, float | None]:
    """The figures of one row by tag, units in the tag, per sample where it says so."""
    counts = row.counts
    rate, synops = (
        (None, None) if counts is None else (counts.firing_rate, counts.per_sample("synops"))
    )
    return {
        "cost/SOPs per sample": synops,
        **{f"energy/{e.table}, J per sample": e.total_j for e in row.energies},
        **{f"training/energy, {e.table}, J per sample": e.total_j for e in row.training_energies},
        "cost/neuron operations per sample": row.neuron_ops,
        "cost/firing rate": rate,
        "training/step time, s (median)": statistics.median(row.step_s) if row.step_s else None,
        "training/peak memory, bytes": row.peak_bytes,
        "training/accuracy": row.accuracy,
        "training/loss": row.loss,
        **{f"own/{name}": x for name, x in row.more.items() if isinstance(x, int | float)},
    }


def run_name(row: ReportRow) -> str:
    """``"vgg5 lif fp32 stbp"``: the run's name in TensorBoard, and a folder's; T is its step."""
    return _as_folder(row.name.removesuffix(f" T{row.timesteps}"))


def _as_folder(name: str) -> str:
    name = name.replace("/", "-")
    return name.replace(".", "-") if name in (".", "..") else name


def coherence_scalars(result: CoherenceResult) -> dict[str, float | None]:
    """The figures of one measurement by tag: over the layers, and of each layer."""
    line = summary(result)
    return {
        "coherence/cosine of membranes, median": line.cosine_membrane,
        "coherence/cosine of membranes, least": line.least_membrane,
        "coherence/cosine of weights, median": line.cosine_weight,
        "coherence/fired share, median": line.fired,
        "coherence/identity residual, largest": line.identity_residual,
        "training/loss": result.training_loss,
        **{f"cosine of membranes/{row.name}": row.cosine_membrane for row in result.rows},
        **{f"cosine of weights/{row.name}": row.cosine_weight for row in result.rows},
        **{f"fired share/{row.name}": row.fired for row in result.rows},
    }


def epoch_scalars(record: EpochRecord) -> dict[str, float | None]:
    """The figures of one epoch by tag."""
    return {
        "training/loss": record.train_loss,
        "training/learning rate": record.learning_rate,
        "training/images per s": record.images_per_s,
        "test/accuracy": record.test_accuracy,
        "cost/firing rate": record.firing_rate,
        "cost/SOPs per sample": record.synops,
    }


def coherence_run(sweep: CoherenceSweep, timesteps: int) -> str:
    """``"coherence vgg5 hdlif fp32 stbp T=4"``: T only where a training was followed."""
    named = (sweep.model, sweep.neuron, sweep.weights, sweep.mode)
    words = ["coherence", *(word for word in named if word is not None)]
    return " ".join([*words, f"T={timesteps}"] if sweep.followed else words).replace("/", "-")


def check_folder(path: str | Path) -> Path:
    """The path, if scalars can be written into such a folder.

    Raises:
        SnnprofError: a file, a parent that does not exist, or no permission.
    """
    folder = Path(path)
    if not str(path):
        raise SnnprofError("scalars folder '': name a folder")
    if folder.exists() and not folder.is_dir():
        raise SnnprofError(f"scalars folder {str(path)!r} is a file: name a folder")
    if not folder.parent.is_dir():
        raise SnnprofError(
            f"scalars folder {str(path)!r}: there is no directory {str(folder.parent)!r}"
        )
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise SnnprofError(f"scalars folder {str(path)!r}: no permission to write there")
    return folder


@singledispatch
def _runs(source: Any) -> dict[str, Points]:
    raise TypeError(f"no scalars for {type(source).__name__}")


@_runs.register
def _(sweep: CoherenceSweep) -> dict[str, Points]:
    runs: dict[str, Points] = {}
    for result in sweep.results:
        step = (result.epoch or 0) if sweep.followed else result.timesteps
        points = runs.setdefault(coherence_run(sweep, result.timesteps), [])
        points.append((step, coherence_scalars(result)))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in runs.items()}


@_runs.register
def _(report: Report) -> dict[str, Points]:
    runs: dict[str, Points] = {}
    for row in sorted(report.rows, key=lambda row: row.timesteps or 0):
        alike = [other for other in report.rows if run_name(other) == run_name(row)]
        differing = [
            f"{field} {getattr(row, field)}"
            for field in ("data", "seed")
            if len({getattr(other, field) for other in alike}) > 1
        ]
        points = runs.setdefault(_as_folder(" ".join((run_name(row), *differing))), [])
        points.append((row.timesteps or 0, scalars(row)))
    return runs


@_runs.register
def _(history: TrainingHistory) -> dict[str, Points]:
    return {"": [(record.epoch, epoch_scalars(record)) for record in history.epochs]}


def _write(points: Points, folder: Path) -> None:
    """Write an events file under a temporary name, and put it in the place of the old ones."""
    from torch.utils.tensorboard import SummaryWriter

    stage = folder / f".{secrets.token_hex(4)}"
    try:
        stage.mkdir()
        with SummaryWriter(str(stage), filename_suffix=SUFFIX) as writer:
            for step, tag, value in _present(points):
                # Float32, which rounds to 7 digits: TensorBoard's own loader drops doubles.
                writer.add_scalar(tag, value, step, new_style=True)
        old = [*folder.glob(f"events.out.tfevents.*{SUFFIX}")]
        for file in stage.iterdir():
            file.rename(folder / file.name)
        for file in old:
            file.unlink()
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _present(points: Points) -> Iterator[tuple[int, str, float]]:
    for step, values in points:
        for tag, value in values.items():
            if value is not None:
                yield step, tag, value

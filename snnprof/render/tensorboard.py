"""Scalars for TensorBoard."""

from __future__ import annotations

import secrets
import shutil
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from snnprof.errors import SnnprofError
from snnprof.results import ArmResult, Report

SUFFIX = ".snnprof"  # behind the name of an events file: it is ours to replace
Values = Mapping[str, float | None]
Points = list[tuple[int, Values]]


def write_scalars(source: Report | Values, folder: Path, *, step: int = 0) -> None:
    """Write figures for TensorBoard's scalars page; what was not measured is left out.

    A report makes one run per model, neuron, weights and mode, in a folder of that name in
    ``folder``, with T as the step: a sweep over T is a curve, and two modes lie on one plot.
    Scalars that this function wrote there before are replaced.

    Args:
        source: a report, or values by tag (which go to ``folder`` itself, at ``step``).
        folder: what ``tensorboard --logdir`` is given, or a folder in it; its parent exists.
        step: where the values lie on the horizontal axis.

    Raises:
        SnnprofError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(exist_ok=True)
        if isinstance(source, Report):
            for name, points in _runs(source).items():
                (folder / name).mkdir(exist_ok=True)
                _write(points, folder / name)
        else:
            _write([(step, source)], folder)
    except OSError as error:
        reason = error.strerror or error
        raise SnnprofError(f"scalars folder {str(folder)!r}: {reason}") from error


def scalars(arm: ArmResult) -> dict[str, float | None]:
    """The figures of one arm by tag, units in the tag, per sample where it says so."""
    counts = arm.counts
    rate, synops = (
        (None, None) if counts is None else (counts.firing_rate, counts.per_sample("synops"))
    )
    return {
        "cost/SOPs per sample": synops,
        **{f"energy/{e.table}, J per sample": e.total_j for e in arm.energies},
        "cost/neuron operations per sample": arm.neuron_ops,
        "cost/firing rate": rate,
        "training/step time, s (median)": statistics.median(arm.step_s) if arm.step_s else None,
        "training/peak memory, bytes": arm.peak_bytes,
        "training/accuracy": arm.accuracy,
        "training/loss": arm.loss,
    }


def run_name(arm: ArmResult) -> str:
    """``"vgg5 lif fp32 stbp"``: the run's name in TensorBoard; T is its step."""
    return arm.name.removesuffix(f" T{arm.timesteps}").replace("/", "-")


def _runs(report: Report) -> dict[str, Points]:
    runs: dict[str, Points] = {}
    for arm in sorted(report.arms, key=lambda arm: arm.timesteps):
        runs.setdefault(run_name(arm), []).append((arm.timesteps, scalars(arm)))
    return runs


def _write(points: Points, folder: Path) -> None:
    """Write an events file under a temporary name, and put it in the place of the old ones."""
    from torch.utils.tensorboard import SummaryWriter

    stage = folder / f".{secrets.token_hex(4)}"
    stage.mkdir()
    try:
        with SummaryWriter(str(stage), filename_suffix=SUFFIX) as writer:
            for step, tag, value in _present(points):
                # Float64: a float32 holds no count above 2^24 exactly.
                writer.add_scalar(tag, value, step, new_style=True, double_precision=True)
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

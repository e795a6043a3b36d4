"""``--save``: the trained weights of every row in a file of its own, with what they are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from snnprof.core.atomic_files import check_writable, write_whole
from snnprof.core.environment import describe
from snnprof.core.errors import SnnprofError
from snnprof.experiment.checkpoint import CONFIGURATION
from snnprof.experiment.plan import network_variants
from snnprof.experiment.safetensors_file import to_bytes
from snnprof.experiment.settings import Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.results import ReportRow

_NOT_IN_NAMES = re.compile(r"[^\w.+=-]+")


def weight_file(folder: Path, run: TrainingRun, seed: int) -> Path:
    """The file of a row: ``vgg5-lif-fp32-stbp-T4-seed0.safetensors``."""
    return folder / f"{_NOT_IN_NAMES.sub('-', run.name)}-seed{seed}.safetensors"


def check_weight_folder(runs: Sequence[TrainingRun], settings: Settings) -> None:
    """Raise where weights could not be saved, before any training.

    Raises:
        SnnprofError: no such directory to make the folder in, a file, no permission, too long a
            name, two rows of one name, or files of another run.
    """
    folder = settings.save
    if folder is None:
        return
    shown = repr(str(folder))
    if folder.exists() and not folder.is_dir():
        raise SnnprofError(f"save folder {shown} is a file: name a directory")
    holder = folder if folder.is_dir() else folder.parent
    if not holder.is_dir():
        raise SnnprofError(f"save folder {shown}: there is no directory {str(holder)!r}")
    if not os.access(holder, os.W_OK):
        raise SnnprofError(f"save folder {shown}: no permission to write there")
    files: set[Path] = set()
    for run in runs:
        file = weight_file(folder, run, settings.seed)
        if file in files:
            raise SnnprofError(f"save: two rows would be saved as {file.name!r}: run them apart")
        files.add(file)
        if file.exists():
            raise SnnprofError(
                f"save: {str(file)!r} is of another run and is not overwritten: name another "
                "folder, or delete it"
            )
        check_writable(holder / file.name)


def save_weights(runs: Sequence[TrainingRun], settings: Settings, given: Mapping[str, Any]) -> None:
    """Save the weights of every row that is well, with its figures as far as there are any.

    Called after the training, so that a row that fails later has its weights, and again with
    the figures.

    Args:
        runs: the rows.
        settings: of all of them.
        given: the arguments of :func:`snnprof.run`.
    """
    if settings.save is None:
        return
    for run in runs:
        if run.meter is not None:
            weights = run.meter.runner.weights()  # to which every process may bring a part
            if not settings.processes.first:
                continue
            try:
                _save(run, weights, settings.save, settings, given)
            except (SnnprofError, OSError) as error:
                run.fail(f"weights not saved: {error}")


def _save(
    run: TrainingRun,
    weights: Mapping[str, Any],
    folder: Path,
    settings: Settings,
    given: Mapping[str, Any],
) -> None:
    file = weight_file(folder, run, settings.seed)
    folder.mkdir(exist_ok=True)
    if file.exists() and run.saved is None:
        raise SnnprofError(f"another run has written {str(file)!r} meanwhile")
    configuration = json.dumps(saved_with_weights(run.row, settings, given))
    write_whole(file, weights_as_bytes(weights, configuration))
    run.saved = file


def saved_with_weights(
    row: ReportRow, settings: Settings, given: Mapping[str, Any]
) -> dict[str, object]:
    """The settings that make a row again, versions, and its figures as far as there are any.

    Args:
        row: the row.
        settings: of all of them.
        given: the arguments of :func:`snnprof.run`.
    """
    return {
        "settings": _settings(row, settings, given),
        "versions": describe(settings.device),
        "figures": _figures(row),
    }


def weights_as_bytes(state: Mapping[str, Any], configuration: str) -> bytes:
    """A safetensors file of a state dict, with a configuration in its metadata."""
    metadata = {"format": "pt", CONFIGURATION: configuration}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return to_bytes(tensors, metadata)


def _settings(row: ReportRow, settings: Settings, given: Mapping[str, Any]) -> dict[str, object]:
    """The arguments of :func:`snnprof.run` that make this row again; no more than text can be."""
    of_row = {
        "model": settings.source.name,
        "neuron": row.neuron,
        "weights": row.weights,
        "modes": row.mode,
        "timesteps": row.timesteps,
        "batch_size": settings.recipe.batch_size if given["batch_size"] else None,
        "learning_rate": settings.recipe.learning_rate if settings.recipe.ours else None,
        "variants": network_variants(settings),
    }
    if row.baseline_of is not None:  # what it has in the place of neurons is none of a network's
        twin = given["baseline"] if row.baseline_of == row.model else None
        of_row |= {"model": row.model, "neuron": None, "modes": None, "baseline": twin}
    alike = ("data", "image_size", "layout", "loss", "metric", "epochs", "seed", "checkpoint")
    return {
        name: value
        for name, value in (*of_row.items(), *((name, given[name]) for name in alike))
        if value is not None and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    return isinstance(value, str | int | float)


def _figures(row: ReportRow) -> dict[str, object]:
    """What was measured, raw counts as integers; what was not is left out."""
    return dict(_measured(row))


def _measured(row: ReportRow) -> Iterator[tuple[str, object]]:
    if row.failure is not None:
        yield "failure", row.failure
    for name in ("accuracy", "loss", "parameters", "size_bytes", "neuron_ops"):
        if (value := getattr(row, name)) is not None:
            yield name, value
    if row.counts is not None:
        yield "samples", row.counts.samples
        yield "synops", row.counts.total("synops")
        if row.counts.firing_rate is not None:
            yield "firing_rate", row.counts.firing_rate
        yield "energies_j", {energy.table: energy.total_j for energy in row.energies}
    if row.training_energies:
        yield (
            "training_energies_j",
            {energy.table: energy.total_j for energy in row.training_energies},
        )

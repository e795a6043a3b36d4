"""A model's summary: its modules, with what was counted in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.counting.module_outputs import ModuleOutputs
from snnprof.energy.conventions import check_of_inference
from snnprof.energy.pricing import price
from snnprof.experiment.fvcore_macs import check_macs
from snnprof.experiment.plan import plan_rows
from snnprof.experiment.settings import NO_PROGRESS, check_settings
from snnprof.experiment.stages import module_rows
from snnprof.experiment.trainer import evaluate
from snnprof.profiling.inference import inference
from snnprof.results import ModelSummary, Report, ReportRow
from snnprof.results.summary import counted_rows, summary_of_row
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.layouts import LAYOUTS
from snnprof.training.sequences import as_sequence
from snnprof.training.step_runner import StepRunner

_ENERGY = ("operands",)


def summary(
    source: nn.Module | Report | ReportRow,
    data: Tensor | Iterable[Any] | None = None,
    *,
    layout: str | None = None,
    timesteps: int | None = None,
    energy: str | Sequence[str] = _ENERGY,
    depth: int | None = None,
) -> ModelSummary:
    """The modules of a model, with what is counted in each.

    The model runs in evaluation mode, without gradients, from rest, and is left as it was.

    Args:
        source: any module; or a report or one row of it, which needs no data.
        data: inputs as the model takes them; or batches of them, or of (inputs, labels).
        layout: how the model takes its time steps, as of :class:`~snnprof.SopCounter`. In layout
            "step" it is called T times for every batch.
        timesteps: T, for the layouts "step" and "inside".
        energy: a convention or several to price under.
        depth: modules deeper than this are folded; None for none.

    Raises:
        SnnprofError: no data, or data for a report; a report of several rows; a wrong layout.
    """
    if isinstance(source, Report | ReportRow):
        if data is not None:
            raise SnnprofError("data is for a model: a report has been counted already")
        return summary_of_row(_only_row(source), depth)
    if not isinstance(source, nn.Module):
        raise SnnprofError(
            f"summary of a {type(source).__name__}: give a torch.nn.Module, or a report"
        )
    if data is None:
        raise SnnprofError("summary of a model needs data: give a tensor of inputs, or batches")
    if layout is not None:
        LAYOUTS.find(layout)
    if layout == "step" and not timesteps:
        raise SnnprofError("layout='step' needs timesteps=T: the model is called T times")
    return _summary_of(source, data, layout, timesteps, energy, depth)


def _only_row(source: Report | ReportRow) -> ReportRow:
    if isinstance(source, ReportRow):
        return source
    rows = counted_rows(source)
    if len(rows) != 1:
        raise SnnprofError(
            f"the report has {len(rows)} counted rows: give one, snnprof.summary(report.rows[0])"
        )
    return rows[0]


def _summary_of(
    model: nn.Module,
    data: Tensor | Iterable[Any],
    layout: str | None,
    timesteps: int | None,
    energy: str | Sequence[str],
    depth: int | None,
) -> ModelSummary:
    conventions = (energy,) if isinstance(energy, str) else tuple(energy)
    check_of_inference(conventions, "a summary")
    stepped = adapt(model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    calls = timesteps if layout == "step" and timesteps else 1

    def run(x: Tensor) -> Any:
        stepped.reset()
        outputs = [model(x) for _ in range(calls)]
        return outputs[-1]

    first: Tensor | None = None
    counter = SopCounter(model, layout=layout, timesteps=timesteps)
    with inference(model, device), ExitStack() as at_end:
        at_end.callback(stepped.reset)
        with ModuleOutputs(model) as outputs, counter:
            for batch in [data] if isinstance(data, Tensor) else data:
                x = _inputs(batch).to(device)
                first = x if first is None else first
                run(x)
        if first is None:
            raise SnnprofError("data has no batches: there is nothing to count")
        counts = counter.result()
        known = layout or _own_layout(model, first)
        batch_dim = 1 if known == "time-first" else 0
        one = first.narrow(batch_dim, 0, 1)
        check = check_macs(model, run, one, counts)
    return ModelSummary(
        name=type(model).__name__,
        modules=tuple(outputs.rows(known, first.shape[batch_dim], counts.timesteps)),
        counts=counts,
        energies=tuple(price(counts, one) for one in conventions),
        check=check,
        depth=depth,
    )


def _own_layout(model: nn.Module, x: Tensor) -> str | None:
    """How a network of ours takes x; None of any other."""
    if not isinstance(model, SpikingNetwork):
        return None
    return "time-first" if x.dim() > 1 + len(model.image_shape) else "inside"


def _inputs(batch: object) -> Tensor:
    """The inputs, of (inputs, labels) too."""
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        raise SnnprofError(
            f"a batch is a {type(batch).__name__}: give tensors of inputs, or (inputs, labels)"
        )
    return first


def summary_by_name(
    model: str = "vgg5", *, depth: int | None = None, **arguments: Any
) -> ModelSummary:
    """The summary of a network that is named, on the first test batch of its data, untrained.

    Args:
        model, **arguments: as of :func:`snnprof.run`, each of them once.
        depth: as of :func:`summary`.

    Raises:
        SnnprofError: a wrong name or value, or a network that does not run.
    """
    settings = check_settings(
        model=model,
        modes=("stbp",),
        epochs=0,
        learning_rate=None,
        progress=NO_PROGRESS,
        **arguments,
    )()
    check_of_inference(settings.energy, "a summary")
    settings = replace(settings, metric=None)
    (planned,) = plan_rows(settings)
    setup, timesteps = planned.setup, planned.timesteps
    with torch.random.fork_rng():
        stepped = StepRunner(setup, setup.make(), settings.device).stepped
    (batch,) = islice(settings.data.test(settings.recipe.batch_size), 1)
    with ModuleOutputs(stepped.model) as outputs:
        counts, _ = evaluate(stepped, setup.layout_found, timesteps, [batch], None)
    x, labels = batch
    sequence = as_sequence(x, labels, timesteps, setup.of_batches)[:, :1]
    stepped.model.eval()
    stepped.reset()
    run = partial(_run_from_rest, stepped)
    row = planned.row
    weights = "the checkpoint's" if row.checkpoint else "as the network is made, untrained"
    return ModelSummary(
        name=row.name,
        modules=module_rows(outputs, setup.layout_found, timesteps),
        counts=counts,
        energies=tuple(price(counts, name) for name in settings.energy),
        check=check_macs(stepped.model, run, sequence, counts),
        notes=(
            f"Weights {weights}; counted on the first test batch of {settings.data_name}.",
            *planned.notes,
        ),
        depth=depth,
    )


def _run_from_rest(stepped: Any, sequence: Tensor) -> Tensor:
    stepped.reset()
    out: Tensor = stepped.run_sequence(sequence)
    return out

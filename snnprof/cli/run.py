"""``snnprof run``: parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from snnprof.cli.options import (
    WHOLE_NUMBERS,
    OnceOnly,
    echo_line,
    energy_option,
    joined,
    layout_option,
    listed,
    network_options,
    parse_variant,
    seeds_option,
    show_traceback,
    warnings_once,
    weights_option,
)
from snnprof.cli.outputs import Write, output_files, saving, write_and_show
from snnprof.cli.table_options import TableOptions, table_options
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import joined_processes
from snnprof.energy.conventions import at_precision, convention_names
from snnprof.experiment.checkpoint import saved_configuration
from snnprof.experiment.model_source import find_builder
from snnprof.experiment.run import run
from snnprof.experiment.settings import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    NEURON,
    Progress,
)
from snnprof.models import list_models
from snnprof.profiling.step_memory import OutOfMemory
from snnprof.render.output_files import check_output, save
from snnprof.render.output_formats import FORMATS
from snnprof.results import Layers, Report
from snnprof.spiking.neuron_registry import NEURONS
from snnprof.training.layouts import AUTO
from snnprof.training.losses import LOSSES
from snnprof.training.modes import mode_names
from snnprof.training.step_runner import AMP


@click.command("run", cls=OnceOnly)
@click.option(
    "--model",
    multiple=True,
    default=("vgg5",),
    show_default=True,
    help=f"One of: {listed(list_models())}; or package.module:function, a function of your own. "
    "Repeat it for rows of each.",
)
@click.option(
    "--neuron",
    "neurons",
    multiple=True,
    default=(NEURON,),
    show_default=True,
    help=f"One of: {listed([*NEURONS])}; variants are joined with +, as hdlif+four_bit+parallel "
    "or lif+surrogate=arctan. Repeat it for a row each.",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    help=f"Training mode; repeat it for a row each. One of: {listed(mode_names())}. [default: "
    "stbp, and online where the network can be run in it]",
)
@click.option(
    "--timesteps",
    type=WHOLE_NUMBERS,
    multiple=True,
    default=("4",),
    show_default=True,
    help="T, time steps per sample; several as 1,2,4,8 for a row each.",
)
@network_options
@weights_option(several=True)
@seeds_option()
@click.option("--epochs", default=EPOCHS, show_default=True, help="0 does not train.")
@click.option(
    "--batch-size",
    help="Samples per step; auto for the most that fit in memory (of the training images). "
    f"[default: {BATCH_SIZE}, or what a loader of your own brings]",
)
@click.option(
    "--learning-rate",
    type=float,
    help=f"Of SGD, at the start. [default: {LEARNING_RATE}]",
)
@energy_option()
@click.option(
    "--baseline",
    help="dense for a row of the same network with ReLU in the place of its neurons, T = 1; "
    "quantised for ceil(log2(T+1))-bit activations (with --precision int8); or "
    "package.module:function, a dense network of your own. Energies are given relative to it.",
)
@click.option(
    "--precision",
    help="Prices of 45 nm arithmetic at fp32, fp16, int32 or int8, under every --energy. "
    "[default: each convention's own, fp32]",
)
@click.option(
    "--repeats",
    type=int,
    metavar="N",
    help="Time N steps of every row in a pass of their own, rows in turn, and take the memory "
    "in another, one row at a time. [default: time the training itself]",
)
@layout_option()
@click.option(
    "--loss",
    help=f"One of: {listed([*LOSSES])}; or package.module:function, of outputs and labels. "
    "[default: sum for modes that train on whole sequences, step for the others]",
)
@click.option(
    "--metric",
    help="accuracy, none, or package.module:function, of outputs summed over time and labels. "
    "[default: accuracy where labels are classes]",
)
@click.option(
    "--optimizer",
    metavar="package.module:function",
    help="From parameters to an optimiser. [default: SGD, Nesterov momentum 0.9]",
)
@click.option(
    "--schedule",
    metavar="package.module:function",
    help="From an optimiser and the number of steps to a learning-rate scheduler. [default: cosine "
    "annealing of our SGD, none of an optimiser of your own]",
)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Training steps of an epoch, for a loader without a length.",
)
@click.option(
    "--workers", default=0, show_default=True, help="Processes that load a data set of your own."
)
@click.option("--latency", is_flag=True, help="Time inference too, on one batch.")
@click.option("--amp", help=f"Mixed precision for training steps. One of: {listed([*AMP])}.")
@click.option("--compile", is_flag=True, help="Training steps through torch.compile.")
@click.option("--channels-last", is_flag=True, help="Weights and images in that memory format.")
@click.option(
    "--isolate", is_flag=True, help="Every row in a process of its own, one after another."
)
@click.option(
    "--measure-energy",
    type=float,
    metavar="SECONDS",
    help="Read an NVIDIA GPU's energy counter for so long per row (extra gpu).",
)
@click.option(
    "--trace",
    metavar="DIR",
    help="Also trace a few steps of every row, after the timed ones, for Perfetto "
    "(ui.perfetto.dev) and TensorBoard (tensorboard --logdir DIR).",
)
@click.option(
    "--memory-snapshot",
    metavar="DIR",
    help="Also record CUDA's allocator in a step of every row, and whenever memory runs out, for "
    "docs.pytorch.org/memory_viz.",
)
@click.option(
    "--nvtx", is_flag=True, help="Also run a few steps of every row with NVTX ranges, for nsys."
)
@click.option(
    "--save",
    metavar="DIR",
    help="Keep each row's trained weights in DIR, a .safetensors file per row with its settings "
    "and figures; --checkpoint FILE runs it again.",
)
@click.option(
    "--strict", is_flag=True, help="NaN or infinity in a layer's input makes the row fail."
)
@click.option(
    "--layers",
    metavar="FILE",
    multiple=True,
    help="Also write every layer of every row, per sample, by suffix: layers.csv, .md, .tex; a "
    "picture has bars. Repeat it.",
)
@click.option(
    "--sync-bn",
    is_flag=True,
    help="Batch norms over the samples of all processes, under torchrun (docs/many-devices.md).",
)
@click.option(
    "--fsdp",
    is_flag=True,
    help="Parameters, gradients and optimiser states divided among all processes, likewise.",
)
@table_options
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    help=f"Also write FILE, by its suffix: {', '.join(FORMATS)}. Pictures draw time and memory "
    "over several T, else the layers (extra plots). Repeat it. The table is always printed (-).",
)
def run_command(
    neurons: tuple[str, ...],
    variants: tuple[str, ...],
    outputs: tuple[str, ...],
    layers: tuple[str, ...],
    table: TableOptions,
    **settings: Any,
) -> None:
    """Train a network in each mode, and print one table with a row per neuron, T and mode.

    \b
    Each row: size, accuracy, firing rate, synaptic operations (SOPs) and energy
    per sample on the test images, neuron operations (NOPs), time and peak memory
    of a training step. What was assumed or left out is printed below the table.
    The .json holds each layer's raw counts.

    \b
    Examples:
      snnprof run --model vgg5 --mode stbp --mode online --timesteps 4 -o table.md
      snnprof run --model vgg11 --data random --epochs 0 --energy spikformer
      snnprof run --neuron hdlif --energy operands --energy hd-lif -o run.json
      snnprof run --model resnet18 --neuron lif --neuron hdlif+parallel --weights 1.5bit
      snnprof run --timesteps 1,2,4,8,16 --epochs 0 --repeats 20 -o growth.svg
      snnprof run --model my_project.networks:build --checkpoint trained.pt --epochs 0
    """

    settings |= {name: joined(settings[name]) for name in ("timesteps", "seed")}
    taken = _from_checkpoint(settings)
    neurons, variants = settings.pop("neurons", neurons), settings.pop("variants", variants)
    for model in settings["model"]:
        find_builder(model)  # first: its module may register formats and the like
    files = output_files(outputs)
    of_layers = [check_output(file) for file in layers]
    settings |= dict(parse_variant(text, signature(run).parameters) for text in variants)
    settings["modes"] = settings["modes"] or None
    if (precision := settings.pop("precision")) is not None:
        named = [name for given in settings["energy"] for name in convention_names(given)]
        settings["energy"] = at_precision(named, precision)
    settings["batch_size"] = _batch_size(settings["batch_size"])
    works = settings["epochs"] > 0 or settings["repeats"] is not None
    with joined_processes() as processes:
        report = _run(settings, neurons, works and processes.first)
        if not processes.first:
            return
    if taken is not None:
        report = replace(report, notes=(*report.notes, taken))
    shown = table.present(report)
    writers = [*saving(shown, files), *_beside(report, of_layers, settings["trace"])]
    write_and_show(writers, partial(table.show, shown))
    end(report)


def _run(settings: dict[str, Any], neurons: Sequence[str], shown: bool) -> Report:
    """The report; one line, where nothing was measured."""
    from snnprof.render.terminal import ProgressBar

    with warnings_once(), ProgressBar("measuring", shown=shown) as bar:
        progress = Progress(bar.expect, bar.step_done, failed=show_traceback)
        report = run(neuron=neurons, progress=progress, **settings)
        if all(row.failure and row.profile is None and row.counts is None for row in report.rows):
            raise _nothing_measured(report)  # one line: warnings are of what is in a table
    return report


def _from_checkpoint(settings: dict[str, Any]) -> str | None:
    """Take what was not asked for from a checkpoint that snnprof saved; say what.

    Not its model or data where these are code of somebody's: no file decides what is run.
    """
    path = settings["checkpoint"]
    saved = None if path is None else saved_configuration(path)
    if saved is None:
        return None
    context = click.get_current_context()
    taken = {}
    for name, value in saved["settings"].items():
        parameter = _PARAMETERS.get(name)
        if parameter is None or _was_given(context, parameter):
            continue
        if name in _CODE and ":" in str(value):
            raise SnnprofError(f"checkpoint {path!r} was saved with --{name} {value}: give it too")
        settings[parameter] = _AS_PARAMETER[name](value) if name in _AS_PARAMETER else value
        taken[name] = value
    if "data" not in saved["settings"] and not _was_given(context, "data"):
        raise SnnprofError(f"checkpoint {path!r} was saved with data of its own: give --data too")
    listed = ", ".join(f"{name} {value}" for name, value in taken.items() if value != {})
    return f"Not given, so taken from {path}: {listed}." if taken else None


# Settings of snnprof.run that a saved file may supply, and the parameters of this command.
_PARAMETERS = {
    name: name
    for name in (
        "model",
        "weights",
        "timesteps",
        "data",
        "image_size",
        "layout",
        "loss",
        "metric",
        "batch_size",
        "seed",
    )
} | {"neuron": "neurons", "modes": "modes", "variants": "variants"}
_CODE = ("model", "data", "loss", "metric")  # may be package.module:function
_AS_PARAMETER: dict[str, Callable[[Any], object]] = {
    "model": lambda name: (str(name),),
    "neuron": lambda name: (str(name),),
    "weights": lambda name: (str(name),),
    "modes": lambda name: (str(name),),
    "timesteps": lambda count: (count,),
    "seed": lambda number: (number,),
    "batch_size": str,
    "variants": lambda given: tuple(
        key if value is True else f"{key}={value}" for key, value in given.items()
    ),
}


def _was_given(context: click.Context, parameter: str) -> bool:
    return context.get_parameter_source(parameter) is not ParameterSource.DEFAULT


def _nothing_measured(report: Report) -> Exception:
    """The error of a run that no row came out of."""
    if report.interrupted:
        return click.Abort()
    first, *others = report.rows
    also = ", in every row" if others and all(r.failure == first.failure for r in others) else ""
    advice = ""
    if first.failure and first.failure.startswith(OutOfMemory().reason):
        advice = ": try fewer time steps, smaller images or a smaller --batch-size"
    return click.ClickException(f"{first.name}: {first.failure}{also}{advice}")


def end(report: Report) -> None:
    """The exit status where there is a table: 130 after Ctrl-C, 1 if any row of it failed."""
    failed = [row for row in report.rows if row.failure]
    if report.interrupted:
        click.echo("Interrupted: what was finished is written and printed.", err=True)
        sys.exit(130)
    if failed:
        how_many = f"{len(failed)} of {len(report.rows)} rows failed"
        which = ": " if len(failed) == 1 else "; the first: "
        first = f"{failed[0].name}: {failed[0].failure}"
        echo_line(f"Error: {how_many}{which}{first}", err=True)
        sys.exit(1)


def _beside(report: Report, layers: Sequence[Path], trace: str | None) -> Iterator[Write]:
    """What writes the files that are asked for beside the table's."""
    from snnprof.render.tensorboard import write_scalars

    for file in layers:
        yield partial(save, Layers(report), file)
    if trace is not None:
        yield partial(write_scalars, report, Path(trace))


def _batch_size(text: str | None) -> int | str | None:
    if text is None or text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise SnnprofError(f"--batch-size {text}: must be a whole number, or auto") from None

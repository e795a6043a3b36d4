"""The command line: parse, call, print."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import click
import torch

from snnprof.cli.coherence import coherence_command
from snnprof.cli.options import TERMINAL, WHOLE_NUMBERS, listed, network_options, parse_variant
from snnprof.core.errors import SnnprofError, is_out_of_memory
from snnprof.energy.conventions import CONVENTIONS
from snnprof.experiment.plan import NEURON
from snnprof.experiment.run import AUTO, BATCH_SIZE, EPOCHS, LEARNING_RATE, run
from snnprof.experiment.stages import Progress
from snnprof.models import MODELS, list_models, nominal_macs, usual
from snnprof.profiling.stepper import AMP
from snnprof.render.output_files import check_output, is_picture, save, write_each
from snnprof.render.output_formats import FORMATS
from snnprof.spiking.neurons import NEURONS
from snnprof.training.modes import mode_names


class _OneLineErrors(click.Group):
    """A user's mistake is one line on standard error and exit status 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return None
        except click.ClickException as error:
            message = error.format_message()
        except SnnprofError as error:
            message = str(error)
        except click.Abort:  # a RuntimeError too
            click.echo("Stopped; what is written is whole.", err=True)
            sys.exit(130)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = "out of memory: try fewer time steps, smaller images or smaller batches"
        except OSError as error:
            message = f"{error.filename or 'standard output'}: {error.strerror or error}"
        click.echo(f"Error: {' '.join(message.split())}", err=True)
        sys.exit(2)


@click.group(
    "snnprof", cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="snnprof")
def cli() -> None:
    """Profile spiking neural networks: SOPs, energy, training time and memory.

    \b
    Start with:
      snnprof run --model vgg5 --mode stbp --mode online -o table.md
    """


@cli.command("run")
@click.option(
    "--model",
    default="vgg5",
    show_default=True,
    help=f"One of: {listed(list_models())}; or anybody's builder, package.module:function.",
)
@click.option(
    "--neuron",
    "neurons",
    multiple=True,
    default=(NEURON,),
    show_default=True,
    help=f"One of: {listed([*NEURONS])}; variants behind plus signs, as hdlif+four_bit+parallel "
    "or lif+surrogate=arctan. Repeat it for a row each.",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    default=("stbp", "online"),
    show_default=True,
    help=f"Training mode; repeat it for a row each. One of: {listed(mode_names())}.",
)
@click.option(
    "--timesteps",
    type=WHOLE_NUMBERS,
    default="4",
    show_default=True,
    help="T, time steps per sample; several as 1,2,4,8 for a row each.",
)
@network_options
@click.option("--epochs", default=EPOCHS, show_default=True, help="0 does not train.")
@click.option(
    "--batch-size",
    default=str(BATCH_SIZE),
    show_default=True,
    help="Samples per step; auto for the most that fit in memory (of the training images).",
)
@click.option("--learning-rate", default=LEARNING_RATE, show_default=True, help="Of SGD.")
@click.option(
    "--energy",
    multiple=True,
    default=("operands",),
    show_default=True,
    help=f"Energy convention, one column each; repeat it. One of: {listed([*CONVENTIONS])}.",
)
@click.option(
    "--repeats",
    type=int,
    metavar="N",
    help="Time N steps of every row in a pass of their own, rows in turn, and take the memory "
    "in another, one row at a time. [default: time the training itself]",
)
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
    help="Also trace a few steps of every row, after the timed ones, for TensorBoard "
    "(tensorboard --logdir DIR) and Perfetto.",
)
@click.option("--strict", is_flag=True, help="NaN or infinity in a layer's input is an error.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    help=f"Also write FILE, by its suffix: {', '.join(FORMATS)}. Pictures draw time and memory "
    "over several T (extra plots). Repeat it. The table is always printed (-).",
)
def run_command(
    neurons: tuple[str, ...], variants: tuple[str, ...], outputs: tuple[str, ...], **settings: Any
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
    from snnprof.render.terminal import ProgressBar, show

    files = [check_output(output) for output in outputs if output != TERMINAL]
    if any(is_picture(file) for file in files) and len(set(settings["timesteps"])) < 2:
        raise SnnprofError("a picture of time and memory over T needs several --timesteps")
    settings |= dict(parse_variant(text, signature(run).parameters) for text in variants)
    settings["batch_size"] = _batch_size(settings["batch_size"])
    works = settings["epochs"] > 0 or settings["repeats"] is not None
    bar = ProgressBar("measuring", shown=works)
    with warnings.catch_warnings(record=True) as caught, bar:
        report = run(neuron=neurons, progress=Progress(bar.expect, bar.step_done), **settings)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"Warning: {message}", err=True)
    if all(arm.failure and arm.profile is None and arm.counts is None for arm in report.rows):
        raise SnnprofError(
            f"{report.rows[0].failure}, in every row: try fewer time steps, smaller images or a "
            "smaller --batch-size"
        )
    # Before the table: a reader such as head may close the pipe.
    writers = [partial(save, report, file) for file in files]
    if settings["trace"] is not None:
        from snnprof.render.tensorboard import write_scalars

        writers.append(partial(write_scalars, report, Path(settings["trace"])))
    unsaved = write_each(writers)
    show(report)
    if unsaved:
        raise SnnprofError("; ".join(unsaved))


def _batch_size(text: str) -> int | str:
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise SnnprofError(f"--batch-size {text}: must be a whole number, or auto") from None


@cli.command("models")
@click.argument("name", required=False)
def models_command(name: str | None) -> None:
    """List the networks, or show the parameters of NAME."""
    from snnprof.render.terminal import show_table

    if name is not None:
        from fvcore.nn import parameter_count_table

        click.echo(parameter_count_table(usual(name), max_depth=4))
        return
    rows = []
    for name in list_models():
        info = MODELS[name]
        with torch.device("meta"):
            parameters = sum(p.numel() for p in usual(name).parameters())
        shape = f"{info.in_channels}x{info.image_size}x{info.image_size}"
        macs = f"{nominal_macs(name) / 1e6:,.1f}"
        rows.append((name, f"{parameters:,}", macs, shape, info.source))
    show_table(("model", "parameters", "MACs per step (M)", "usual input", "source"), rows)


@cli.command("energy-tables")
def energy_tables_command() -> None:
    """List the energy conventions: constants, what they leave out, sources."""
    for convention in CONVENTIONS.values():
        mac = "none" if convention.mac_j is None else f"{convention.mac_j * 1e12:g} pJ"
        click.echo(f"{convention.name}: MAC {mac}, AC {convention.ac_j * 1e12:g} pJ")
        click.echo(f"  {convention.description}")
        click.echo(f"  leaves out: {convention.leaves_out}")
        click.echo(f"  source: {convention.source}")


cli.add_command(coherence_command)


def main() -> None:
    """Entry point of the ``snnprof`` command."""
    cli()

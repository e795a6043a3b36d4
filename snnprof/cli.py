"""The command line: parse, call, print."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click
import torch

from snnprof.cli_coherence import coherence_command
from snnprof.energy.pricing import conventions
from snnprof.environment import DEVICES
from snnprof.errors import SnnprofError
from snnprof.experiment import BATCH_SIZE, EPOCHS, LEARNING_RATE, Progress, run
from snnprof.models import MODELS, WEIGHTS, list_models, nominal_macs, usual
from snnprof.render.files import check_output, save
from snnprof.spiking.neurons import NEURONS
from snnprof.training.datasets import DATASETS
from snnprof.training.modes import mode_names

TERMINAL = "-"


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
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            message = "out of memory: try fewer time steps, smaller images or smaller batches"
        except click.Abort:
            click.echo("Stopped; nothing was written.", err=True)
            sys.exit(130)
        click.echo(f"Error: {' '.join(message.split())}", err=True)
        sys.exit(2)


def _is_out_of_memory(error: Exception) -> bool:
    known = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or "can't allocate memory" in str(error)


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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))


@cli.command("run")
@click.option(
    "--model",
    default="vgg5",
    show_default=True,
    help=f"One of: {_listed(list_models())}; or anybody's builder, package.module:function.",
)
@click.option(
    "--neuron",
    "neurons",
    multiple=True,
    default=("lif",),
    show_default=True,
    help=f"One of: {_listed([*NEURONS])}; variants behind plus signs, as hdlif+four_bit+parallel "
    "or lif+surrogate=arctan. Repeat it for a row each.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Variant of every neuron, or option of the network (connect=iand); repeat it.",
)
@click.option("--weights", default="fp32", show_default=True, help=f"One of: {_listed(WEIGHTS)}.")
@click.option(
    "--mode",
    "modes",
    multiple=True,
    default=("stbp", "online"),
    show_default=True,
    help=f"Training mode, one row each; repeat it. One of: {_listed(mode_names())}.",
)
@click.option("--timesteps", default=4, show_default=True, help="T, time steps per sample.")
@click.option(
    "--data", default="digits", show_default=True, help=f"One of: {_listed([*DATASETS])}."
)
@click.option("--image-size", type=int, help="Resize images to N pixels. [default: the data's]")
@click.option(
    "--epochs", default=EPOCHS, show_default=True, help="0 counts the untrained network only."
)
@click.option("--batch-size", default=BATCH_SIZE, show_default=True, help="Samples per step.")
@click.option("--learning-rate", default=LEARNING_RATE, show_default=True, help="Of SGD.")
@click.option(
    "--energy",
    multiple=True,
    default=("operands",),
    show_default=True,
    help=f"Energy convention, one column each; repeat it. One of: {_listed([*conventions()])}.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of weights, batches, random data.",
)
@click.option("--device", default="auto", show_default=True, help=f"One of: {_listed(DEVICES)}.")
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Start from the weights in FILE (torch.save of a state dict; no code in it is run).",
)
@click.option("--strict", is_flag=True, help="NaN or infinity in a layer's input is an error.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    help="Also write FILE.md, .csv, .tex or .json; repeat it. The table is always printed (-).",
)
def run_command(
    neurons: tuple[str, ...], variants: tuple[str, ...], outputs: tuple[str, ...], **settings: Any
) -> None:
    """Train a network in each mode, and print one table with a row per neuron and mode.

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
      snnprof run --model my_project.networks:build --checkpoint trained.pt --epochs 0
    """
    from snnprof.render.terminal import ProgressBar, show

    files = [check_output(output) for output in outputs if output != TERMINAL]
    settings |= dict(_variant(text) for text in variants)
    bar = ProgressBar("training", shown=settings["epochs"] > 0)
    with warnings.catch_warnings(record=True) as caught, bar:
        report = run(neuron=neurons, progress=Progress(bar.expect, bar.step_done), **settings)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"Warning: {message}", err=True)
    show(report)
    for file in files:
        save(report, file)


def _variant(text: str) -> tuple[str, object]:
    """ "name" or "name=value"."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or name in inspect.signature(run).parameters:
        raise SnnprofError(f"--variant {text!r}: give NAME or NAME=VALUE, e.g. connect=iand")
    return name, value if equals else True


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
    for listed in list_models():
        info = MODELS[listed]
        with torch.device("meta"):
            parameters = sum(p.numel() for p in usual(listed).parameters())
        shape = f"{info.in_channels}x{info.image_size}x{info.image_size}"
        macs = f"{nominal_macs(listed) / 1e6:,.1f}"
        rows.append((listed, f"{parameters:,}", macs, shape, info.source))
    show_table(("model", "parameters", "MACs per step (M)", "usual input", "source"), rows)


@cli.command("energy-tables")
def energy_tables_command() -> None:
    """List the energy conventions: constants, what they leave out, sources."""
    for convention in conventions().values():
        mac = "none" if convention.mac_j is None else f"{convention.mac_j * 1e12:g} pJ"
        click.echo(f"{convention.name}: MAC {mac}, AC {convention.ac_j * 1e12:g} pJ")
        click.echo(f"  {convention.description}")
        click.echo(f"  leaves out: {convention.leaves_out}")
        click.echo(f"  source: {convention.source}")


cli.add_command(coherence_command)


def main() -> None:
    """Entry point of the ``snnprof`` command."""
    cli()

"""``snnprof coherence``: parse, call, print."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from snnprof.cli.options import (
    WHOLE_NUMBERS,
    OnceOnly,
    listed,
    network_options,
    parse_variant,
    seed_option,
    show_traceback,
    warnings_once,
    weights_option,
)
from snnprof.cli.outputs import output_files, saving, write_and_show
from snnprof.experiment.coherence_run import MODEL, NEURON, run_coherence
from snnprof.experiment.model_source import find_builder
from snnprof.experiment.settings import BATCH_SIZE, LEARNING_RATE, Progress
from snnprof.models import list_models
from snnprof.render.output_formats import FORMATS
from snnprof.results import CoherenceSweep
from snnprof.spiking.neuron_registry import NEURONS
from snnprof.training.losses import LOSSES
from snnprof.training.modes import mode_names


@click.command("coherence", cls=OnceOnly)
@click.option(
    "--model",
    default=MODEL,
    show_default=True,
    help=f"One of: {listed(list_models())}; or package.module:function, a function of your own.",
)
@click.option(
    "--neuron",
    help=f"One of: {listed([*NEURONS])}; variants are joined with +, as hdlif+four_bit+parallel. "
    f"[default: {NEURON}]",
)
@network_options
@weights_option(several=False)
@seed_option()
@click.option(
    "--timesteps",
    type=WHOLE_NUMBERS,
    default="4",
    show_default=True,
    help="T, time steps per sample; several as 4,8,16: a network and a table each.",
)
@click.option(
    "--batch-size",
    type=int,
    help="Samples of the measurement, and of a training step. "
    f"[default: {BATCH_SIZE}, or what a loader of your own brings]",
)
@click.option("--layers", metavar="PATTERN", help="Report the neurons of that name: 'blocks.*'.")
@click.option(
    "--loss",
    default="sum",
    show_default=True,
    help=f"Loss of both gradients. One of: {listed([*LOSSES])}.",
)
@click.option("--online-loss", help="Loss of the online gradient. [default: the same]")
@click.option(
    "--one-layer-at-a-time", is_flag=True, help="A pass for each layer: slower, in less memory."
)
@click.option(
    "--epochs", default=0, show_default=True, help="Train before measuring; 0: do not train."
)
@click.option(
    "--mode",
    default="stbp",
    show_default=True,
    help=f"Training mode, with --epochs. One of: {listed(mode_names())}.",
)
@click.option(
    "--learning-rate",
    default=LEARNING_RATE,
    show_default=True,
    help="Of SGD, at the start.",
)
@click.option(
    "--during-training",
    is_flag=True,
    help="Measure before the training and after each epoch, and print a line each time.",
)
@click.option(
    "--tensorboard",
    "folder",
    metavar="DIR",
    help="Write scalars: of each T, or of each epoch with --during-training, as it goes.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    help=f"Also write or draw FILE, by its suffix: {', '.join(FORMATS)}; repeat it.",
)
def coherence_command(
    variants: tuple[str, ...],
    outputs: tuple[str, ...],
    folder: str | None,
    during_training: bool,
    **settings: Any,
) -> None:
    """Compare the gradients of online training with those of STBP, layer by layer.

    \b
    One batch of training images runs through both arms; a table per T says how
    far their gradients are from each other and from Theorem 4.2 of the HD-LIF
    paper. docs/gradient-coherence.md says what each column means. Files hold all
    T; those of a training that was followed, all epochs.

    \b
    Examples:
      snnprof coherence --model resnet18 --timesteps 4,8,16 -o coherence.svg
      snnprof coherence --neuron lif --epochs 3 --mode online -o coherence.md
      snnprof coherence --epochs 8 --during-training --tensorboard runs -o c.csv
      snnprof coherence --model my_project.networks:build --layers 'blocks.*'
    """
    from snnprof.render.coherence_table import tables_by_time
    from snnprof.render.tensorboard import check_folder, write_scalars
    from snnprof.render.terminal import ProgressBar, show_view

    find_builder(settings["model"])  # first: its module may register formats and the like
    files = output_files(outputs)
    scalars = None if folder is None else check_folder(folder)
    reserved = inspect.signature(run_coherence).parameters
    settings |= dict(parse_variant(text, reserved) for text in variants)
    settings["during_training"] = during_training
    # The lines of a followed training are its progress; a bar would take their place.
    bar = ProgressBar("training", shown=settings["epochs"] > 0 and not during_training)
    tell = _teller(
        during_training, None if scalars is None else lambda s: write_scalars(s, scalars)
    )
    with warnings_once(), bar:
        sweep = run_coherence(
            progress=Progress(bar.expect, bar.step_done, tell, show_traceback), **settings
        )

    def show() -> None:
        if during_training:
            click.echo()
        for table in tables_by_time(sweep):
            show_view(table)

    write_and_show(saving(sweep, files), show)


def _teller(
    lines: bool, write: Callable[[CoherenceSweep], None] | None
) -> Callable[[CoherenceSweep], None]:
    """The action after every measurement: print its line, write the scalars so far."""
    from snnprof.render.coherence_table import LINE_COLUMNS, summary
    from snnprof.render.terminal import RunningTable

    table = RunningTable(LINE_COLUMNS)

    def tell(sweep: CoherenceSweep) -> None:
        if lines:
            table.row(summary(sweep.results[-1]).cells())
        if write is not None:
            write(sweep)

    return tell

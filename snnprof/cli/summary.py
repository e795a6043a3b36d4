"""``snnprof summary``: a network as a tree of its modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from snnprof.cli.options import (
    OnceOnly,
    energy_option,
    layout_option,
    listed,
    network_options,
    parse_variant,
    seed_option,
    warnings_once,
    weights_option,
)
from snnprof.cli.outputs import output_files, saving, write_and_show
from snnprof.core.errors import SnnprofError
from snnprof.experiment.settings import NEURON
from snnprof.experiment.summary import summary_by_name
from snnprof.models import list_models
from snnprof.render.output_files import load
from snnprof.render.output_formats import FORMATS
from snnprof.results import ModelSummary, Report
from snnprof.results.summary import DEPTH, counted_rows, summary_of_row
from snnprof.spiking.neuron_registry import NEURONS


@click.command("summary", cls=OnceOnly)
@click.argument("file", metavar="[FILE.json]", required=False)
@click.option(
    "--model",
    default="vgg5",
    show_default=True,
    help=f"One of: {listed(list_models())}; or package.module:function, a function of your own.",
)
@click.option(
    "--neuron",
    default=NEURON,
    show_default=True,
    help=f"One of: {listed([*NEURONS])}; variants are joined with +.",
)
@click.option("--timesteps", default=4, show_default=True, help="T, time steps per sample.")
@network_options
@weights_option(several=False)
@seed_option()
@click.option(
    "--batch-size",
    type=int,
    help="Test samples that are counted. [default: 64, or what a loader of your own brings]",
)
@layout_option()
@energy_option()
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    default=DEPTH,
    show_default=True,
    help="Fold modules deeper than this.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    help=f"Also write FILE, by its suffix: {', '.join(FORMATS)}; of several rows of a saved report "
    "none. Repeat it.",
)
def summary_command(
    file: str | None,
    depth: int,
    outputs: tuple[str, ...],
    variants: tuple[str, ...],
    **settings: Any,
) -> None:
    """A tree of a network's modules, with what is counted in each.

    \b
    Output shape, parameters, firing rate, input density, SOPs, kinds of operand,
    MAC or AC, nominal MACs and energy, per sample, of one batch of test images;
    nominal MACs are held against fvcore's count of the same network. Of FILE.json,
    a report of snnprof run -o FILE.json, every row is shown, as it was counted.

    \b
    Examples:
      snnprof summary --model resnet18 --data random --depth 2
      snnprof summary --model my_project.networks:build -o layers.svg
      snnprof summary report.json
    """
    files = output_files(outputs)
    if file is None:
        given = dict(parse_variant(text, settings) for text in variants)
        with warnings_once():
            shown: Sequence[ModelSummary] = [
                summary_by_name(**settings, variants=given, depth=depth)
            ]
    else:
        shown = _saved(file, depth)
    if files and len(shown) > 1:
        raise SnnprofError(
            f"{file!r} has {len(shown)} rows, and a file holds one summary: leave out -o"
        )
    write_and_show(saving(shown[0], files), partial(_show, shown))


def _saved(file: str, depth: int) -> list[ModelSummary]:
    """The summaries of the rows of a saved report, or one that was saved itself."""
    context = click.get_current_context()
    for parameter in context.params:
        given = context.get_parameter_source(parameter) is not ParameterSource.DEFAULT
        if given and parameter not in ("file", "depth", "outputs"):
            option = parameter.removesuffix("s") if parameter == "variants" else parameter
            raise SnnprofError(
                f"--{option.replace('_', '-')} is for a network, and {file!r} has been counted "
                "already: leave one of them out"
            )
    found = load(file)
    if isinstance(found, ModelSummary):
        return [replace(found, depth=depth)]
    if not isinstance(found, Report) or not counted_rows(found):
        raise SnnprofError(
            f"{file!r} is no report with counts: give one of snnprof run -o FILE.json"
        )
    return [summary_of_row(row, depth) for row in counted_rows(found)]


def _show(shown: Sequence[ModelSummary]) -> None:
    from snnprof.render.terminal import show

    for place, summary in enumerate(shown):
        if place:
            click.echo()
        show(summary)

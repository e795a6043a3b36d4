"""``snnprof train``: parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from snnprof.cli.options import echo_line, listed, show_traceback, warnings_once
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import announced, joined_processes
from snnprof.experiment.configuration_keys import KEYS, Key
from snnprof.experiment.model_source import find_builder
from snnprof.experiment.presets import preset_names
from snnprof.experiment.settings import NO_PROGRESS, Progress
from snnprof.experiment.training import run_training
from snnprof.experiment.training_data import picture_of_batch, training_settings
from snnprof.experiment.training_start import USUAL_PRESET, TrainingStart, find_start
from snnprof.results import Report
from snnprof.results.training import EpochRecord

_COMMAND_LINE = "command line"
_NONE = "none"
_SINGULAR = {"variants": "variant"}  # as snnprof run has it
_TYPES: dict[type, Any] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    list: click.STRING,
}


def _key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every key of a configuration; what is not given is None."""
    for name, key in reversed(KEYS.items()):
        command = _option(name, key)(command)
    return command


def _option(name: str, key: Key) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = f"--{_SINGULAR.get(name, name).replace('_', '-')}"
    if key.kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=key.help)
    repeated = key.kind is list
    return click.option(flag, name, type=_TYPES[key.kind], multiple=repeated, help=key.help)


@click.command("train")
@click.option(
    "--preset",
    metavar="NAME|FILE.toml",
    help=f"One of: {listed(preset_names())}; or a file of your own, whose base may be one of them. "
    f"[default: {USUAL_PRESET}, or what is taken up]",
)
@_key_options
@click.option("-o", "--output", "folder", metavar="DIR", help="Folder of the training.")
@click.option("--resume", is_flag=True, help="Take up the training in DIR, if there is one.")
@click.option(
    "--show-batch", metavar="FILE.png", help="Draw a batch after augmentation; nothing is trained."
)
@click.option("--dry-run", is_flag=True, help="Print every value and where it is from.")
def train_command(
    preset: str | None,
    folder: str | None,
    resume: bool,
    show_batch: str | None,
    dry_run: bool,
    **values: Any,
) -> None:
    """Train one network as a preset says, with a checkpoint after every epoch.

    \b
    Every value of the preset can be given in its place. DIR gets last.pt (to go
    on from), best.safetensors, epochs.csv, scalars for TensorBoard, report.json,
    report.md and configuration.toml. Ctrl-C ends with the report so far.

    \b
    Examples:
      snnprof train --preset digits --mode online -o trained
      snnprof train --preset cifar10 --mode online --data-dir data -o trained
      snnprof train --preset cifar10 --epochs 100 --neuron lif --dry-run
      snnprof train --preset cifar10 --data-dir data --show-batch batch.png
      snnprof train --resume -o trained
      snnprof run --checkpoint trained/best.safetensors --epochs 0
    """
    given = {name: value for name, value in values.items() if value not in (None, ())}
    if given.get("augmentation"):
        given["augmentation"] = _augmentation(given["augmentation"])
    if "model" in given:
        find_builder(given["model"])  # first: its module may register modes, data and the like
    looks = dry_run or show_batch is not None
    if looks and announced().several:
        raise SnnprofError("--dry-run and --show-batch are of one process: start without torchrun")
    from snnprof.render.terminal import show

    with joined_processes() as processes:
        start = find_start(preset, given, folder, resume, _COMMAND_LINE)
        if dry_run:
            training_settings(start.configuration, NO_PROGRESS)  # refuses what the run refuses
            _show(start)
        if show_batch is not None:
            picture_of_batch(start.configuration, show_batch)
        if looks:
            return
        if start.place is None:
            raise SnnprofError("name the folder of the training: -o DIR")
        report = _train(start, processes.first)
        if not processes.first:
            return
        show(report)
    _end(report, start)


def _train(start: TrainingStart, shown: bool) -> Report:
    """The report; progress is told where it is shown."""
    from snnprof.render.epoch_table import COLUMNS, epoch_cells
    from snnprof.render.number_format import percent
    from snnprof.render.terminal import ProgressBar, RunningTable

    table = RunningTable(COLUMNS)
    with warnings_once(), ProgressBar("epoch 1", shown) as bar:

        def epoch_done(record: EpochRecord) -> None:
            if not shown:
                return
            table.row(epoch_cells(record))
            accuracy = percent(record.test_accuracy)
            bar.rename(f"epoch {record.epoch + 1}{accuracy and f', accuracy {accuracy} %'}")

        def say(sentence: str) -> None:
            if shown:
                echo_line(sentence, err=True)

        progress = Progress(
            bar.expect,
            bar.step_done,
            failed=show_traceback,
            status=bar.describe,
            epoch=epoch_done,
            say=say,
        )
        return run_training(start, progress)


def _show(start: TrainingStart) -> None:
    from snnprof.render.terminal import show_table

    if start.words:
        echo_line(start.words, err=True)
    show_table(("key", "value", "from", "source"), start.configuration.rows())
    click.echo(f"\n{start.configuration.to_toml()}", nl=False)


def _augmentation(texts: tuple[str, ...]) -> list[dict[str, object]]:
    """``--augmentation random-crop:padding=4``: steps, perhaps with strengths."""
    if _NONE in texts and len(texts) > 1:
        raise SnnprofError(
            "--augmentation none beside other steps: leave none out, or give it alone"
        )
    return [_augmented(text) for text in texts if text != _NONE]


def _augmented(text: str) -> dict[str, object]:
    name, _, strengths = text.partition(":")
    entry: dict[str, object] = {"step": name}
    for strength in filter(None, strengths.split(",")):
        key, equals, value = strength.partition("=")
        if not key.isidentifier() or not equals:
            raise SnnprofError(f"--augmentation {text!r}: give STEP or STEP:STRENGTH=VALUE,...")
        entry[key] = _number(value)
    return entry


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _end(report: Report, start: TrainingStart) -> None:
    """The exit status where there is a report: 130 after Ctrl-C, 1 if the training failed."""
    (row,) = report.rows
    if report.interrupted:
        echo_line(f"Interrupted: {start.resumption} goes on.", err=True)
        sys.exit(130)
    if row.failure:
        click.echo(f"Error: {row.name}: {row.failure}", err=True)
        sys.exit(1)

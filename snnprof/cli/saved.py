"""``snnprof show``, ``merge``, ``price`` and ``compare``: reports that were saved as .json."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from snnprof.cli.options import OnceOnly, echo_line, outputs_option
from snnprof.cli.outputs import output_files, saving, write_and_show
from snnprof.cli.table_options import TableOptions, table_options
from snnprof.core.errors import SnnprofError
from snnprof.energy.conventions import at_precision, convention_names
from snnprof.experiment.repricing import priced_anew
from snnprof.render.output_files import load
from snnprof.results import Report, Result, compare, merge

_PLAIN = TableOptions()
BEYOND_LIMIT = 3  # exit status of compare --fail-if


@click.command("show", cls=OnceOnly)
@click.argument("file", metavar="FILE.json")
@table_options
@outputs_option()
def show_command(file: str, outputs: tuple[str, ...], table: TableOptions) -> None:
    """Print the table of a saved result again, or write it in another format.

    FILE.json is of -o FILE.json, or of snnprof.save: a report, counts, energies, a profile, ...
    """
    files = output_files(outputs)
    _show(load(file), files, table)


@click.command("merge", cls=OnceOnly)
@click.argument("named", nargs=-1, required=True, metavar="FILE.json ...")
@table_options
@outputs_option()
def merge_command(named: tuple[str, ...], outputs: tuple[str, ...], table: TableOptions) -> None:
    """Put the rows of several saved reports into one table.

    Rows of other machines or versions keep theirs beside them, and no ratio compares them.
    """
    files = output_files(outputs)
    _show(merge([_report(file) for file in named]), files, table)


@click.command("price", cls=OnceOnly)
@click.argument("file", metavar="FILE.json")
@click.option(
    "--energy",
    multiple=True,
    required=True,
    help="Energy convention, or TOML file with prices of your own; repeat it.",
)
@click.option("--precision", help="fp32, fp16, int32 or int8, for 45 nm arithmetic.")
@table_options
@outputs_option()
def price_command(
    file: str,
    energy: tuple[str, ...],
    precision: str | None,
    outputs: tuple[str, ...],
    table: TableOptions,
) -> None:
    """Price a saved report under other conventions, without running anything."""
    files = output_files(outputs)
    names = [name for given in energy for name in convention_names(given)]
    names = names if precision is None else [*at_precision(names, precision)]
    report = _report(file)
    try:
        anew = priced_anew(report, names)
    except SnnprofError as error:
        raise SnnprofError(f"{file!r}: {error}") from error
    _show(anew, files, table)


@click.command("compare", cls=OnceOnly)
@click.argument("base", metavar="BASE.json")
@click.argument("new", metavar="NEW.json")
@click.option(
    "--fail-if",
    "limits",
    multiple=True,
    metavar="LIMIT",
    help="Exit with status 3 where a figure changed by more: 'energy>+5%', 'accuracy<-1%', "
    "'step time>+20%'. Repeat it.",
)
@outputs_option()
def compare_command(base: str, new: str, limits: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """What changed from one saved report to another, row by row of the same name.

    Exact figures are compared as they are. Step times by the interval between their 5th and
    95th percentile: "no change" where the intervals overlap. Times of two machines are not
    compared.
    """
    files = output_files(outputs)
    found = compare(_report(base), _report(new))
    beyond = {limit: found.beyond(limit) for limit in limits}
    _show(found, files)
    lines = [
        f"{limit}: {each.row}: {each.figure} {_percent(each.change)}"
        for limit, figures in beyond.items()
        for each in figures
    ]
    if lines:
        echo_line(f"Beyond the limits: {'; '.join(lines)}", err=True)
        sys.exit(BEYOND_LIMIT)


def _percent(change: float | None) -> str:
    return "from 0" if change is None else f"{100 * change:+.3g} %"


def _report(file: str) -> Report:
    found = load(file)
    if not isinstance(found, Report):
        raise SnnprofError(
            f"{file!r} is a {type(found).__name__}: give a report, of snnprof run -o FILE.json or "
            "snnprof.report"
        )
    return found


def _show(result: Result, files: Sequence[Path], table: TableOptions = _PLAIN) -> None:
    if not isinstance(result, Report) and (option := table.of_reports) is not None:
        raise SnnprofError(
            f"{option} is for reports; this is a {type(result).__name__}: leave it out"
        )
    shown = table.present(result) if isinstance(result, Report) else result
    write_and_show(saving(shown, files), partial(table.show, shown))

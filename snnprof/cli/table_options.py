"""Options of every command that prints the table of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from snnprof.core.errors import SnnprofError
from snnprof.render.figures import SUFFIXES as PICTURES
from snnprof.render.output_files import content_of
from snnprof.render.output_formats import FORMATS
from snnprof.render.report_columns import columns_of
from snnprof.render.report_table import Presented
from snnprof.render.table_lines import EACH, MEAN
from snnprof.results import Report, ReportRow, Result

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class TableOptions:
    """How the table of a report is to look.

    Attributes:
        columns: names of columns; None for those that were measured.
        rows: "mean" or "each".
        explain: say what the columns mean.
        format: suffix of the format that is printed; None for the terminal's table.
    """

    columns: tuple[str, ...] | None = None
    rows: str = MEAN
    explain: bool = False
    format: str | None = None

    @property
    def of_reports(self) -> str | None:
        """An option given here that only the table of a report has."""
        if self.columns is not None:
            return "--columns"
        return None if self.rows == MEAN else f"--rows {self.rows}"

    def present(self, report: Report) -> Presented:
        """The report, to be shown so."""
        return Presented(report, self.columns, self.rows)

    def show(self, result: Result | Presented) -> None:
        """Print a result."""
        from snnprof.render.terminal import show

        if self.format is None:
            show(result, explain=self.explain)
        else:
            content = content_of(result, f"table{self.format}")
            click.echo(content if isinstance(content, str) else content.decode(), nl=False)


def _text_formats() -> list[str]:
    """Formats that can be printed."""
    return [suffix for suffix in FORMATS if suffix not in (*PICTURES, ".parquet")]


def _listed_formats() -> str:
    return ", ".join(suffix.removeprefix(".") for suffix in _text_formats())


def _format(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if f".{value}" not in _text_formats():
        raise SnnprofError(f"--format {value!r}: give one of {_listed_formats()}")
    return f".{value}"


def table_options(command: Command) -> Callable[..., Any]:
    """``--columns``, ``--rows``, ``--explain``, ``--format``: the command's argument ``table``."""

    @click.option(
        "--columns",
        metavar="NAME,...",
        multiple=True,
        is_eager=True,
        callback=_columns,
        help="Columns of the table, in this order; help lists them. Repeat it. A .csv, .parquet or "
        ".json has all. [default: those that were measured; what is alike in every row stands "
        "above]",
    )
    @click.option(
        "--rows",
        type=click.Choice((MEAN, EACH)),
        default=MEAN,
        show_default=True,
        help="Of several seeds: mean and deviation, or each. A .csv, .parquet or .json has each.",
    )
    @click.option("--explain", is_flag=True, help="Also say what the columns mean.")
    @click.option(
        "--format",
        "suffix",
        metavar="NAME",
        callback=_format,
        help=f"Print as {_listed_formats()} instead of the terminal's table.",
    )
    @wraps(command)
    def with_table(
        columns: tuple[str, ...] | None, rows: str, explain: bool, suffix: str | None, **given: Any
    ) -> Any:
        return command(table=TableOptions(columns, rows, explain, suffix), **given)

    return with_table


def _columns(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The names, none of them twice; ``help`` lists them and ends the command.

    Columns of energies and of one's own are known once there is a report.
    """
    if not given:
        return None
    if "help" in given:
        for column in columns_of(Report((ReportRow(""),))):
            click.echo(f"{column.key}: {column.heading}")
        click.echo("energy: every convention's; energy_NAME: that of one")
        click.echo("training_energy: likewise, of training; training_energy_NAME: that of one")
        click.echo("beside a dense row, of convention NAME:")
        click.echo(
            "  dense_ratio_NAME: energy, ratio to dense; break_even_NAME: break-even firing rate"
        )
        click.echo("and the columns of your own, by their names")
        ctx.exit()
    value = ",".join(given)
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise SnnprofError(f"--columns {value!r}: give NAME,NAME,...; --columns help lists them")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SnnprofError(f"--columns {value!r}: {twice!r} is there twice: name it once")
    return tuple(names)

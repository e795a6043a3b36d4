"""Options of every command that prints the table of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from snnprof.core.errors import SnnprofError
from snnprof.render.report_columns import columns_of
from snnprof.render.report_table import EACH, MEAN, Presented
from snnprof.results import Report, ReportRow

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class TableOptions:
    """How the table of a report is to look.

    Attributes:
        columns: names of columns; None for those that were measured.
        rows: "mean" or "each".
        explain: say what the columns mean.
    """

    columns: tuple[str, ...] | None = None
    rows: str = MEAN
    explain: bool = False

    def present(self, report: Report) -> Presented:
        """The report, to be shown so."""
        return Presented(report, self.columns, self.rows)


def table_options(command: Command) -> Callable[..., Any]:
    """``--columns``, ``--rows`` and ``--explain``, given to the command as ``table``."""

    @click.option(
        "--columns",
        metavar="NAME,...",
        is_eager=True,
        callback=_columns,
        help="Columns of the table, in this order; help lists them. [default: those that were "
        "measured; what is alike in every row stands above]",
    )
    @click.option(
        "--rows",
        type=click.Choice((MEAN, EACH)),
        default=MEAN,
        show_default=True,
        help="Of several seeds: mean and deviation, or each.",
    )
    @click.option("--explain", is_flag=True, help="Also say what the columns mean.")
    @wraps(command)
    def with_table(columns: tuple[str, ...] | None, rows: str, explain: bool, **given: Any) -> Any:
        return command(table=TableOptions(columns, rows, explain), **given)

    return with_table


def _columns(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """The names; ``help`` lists them and ends the command.

    Columns of energies and of one's own are known once there is a report.
    """
    if value is None:
        return None
    if value == "help":
        for column in columns_of(Report((ReportRow(""),))):
            click.echo(f"{column.key}: {column.heading}")
        click.echo("energy: every convention's; energy_NAME: that of one")
        click.echo("and the columns of your own, by their names")
        ctx.exit()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise SnnprofError(f"--columns {value!r}: give NAME,NAME,...; --columns help lists them")
    return names

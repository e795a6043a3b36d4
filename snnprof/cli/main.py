"""The ``snnprof`` command: its subcommands, and how a mistake ends."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from typing import Any

import click

from snnprof.cli.coherence import coherence_command
from snnprof.cli.doctor import doctor_command
from snnprof.cli.listings import energy_tables_command, models_command
from snnprof.cli.options import debug_asked, debug_option, echo_line
from snnprof.cli.run import run_command
from snnprof.cli.saved import compare_command, merge_command, price_command, show_command
from snnprof.cli.standard_streams import standard_streams
from snnprof.cli.summary import summary_command
from snnprof.cli.sweep import sweep_command
from snnprof.cli.train import train_command
from snnprof.core.environment import choose_device, describe
from snnprof.core.errors import SnnprofError, is_out_of_memory, reason_of
from snnprof.core.processes import ProcessError, SaidElsewhereError, announced, leave
from snnprof.core.termination import termination_raises


class _OneLineErrors(click.Group):
    """A user's mistake is one line on standard error and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if debug_asked(ctx):
                click.echo(traceback.format_exc(), err=True)
            if isinstance(error, BrokenPipeError):  # click would end without a word
                raise SnnprofError(f"standard output: {reason_of(error)}") from error
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name not in SHARED and announced().several:
            raise click.UsageError(f"{name} runs in one process: start it without torchrun")
        return name, command, rest

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        says = announced().first  # a mistake is every process's, and one of them says it
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return None
        except click.ClickException as error:
            message = error.format_message()
        except SaidElsewhereError:
            sys.exit(2)
        except ProcessError as error:
            message, says = str(error), True
        except SnnprofError as error:
            message = str(error)
        except click.Abort:  # a RuntimeError too
            if says:
                click.echo("Stopped; what is written is whole.", err=True)
            sys.exit(130)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = "out of memory: try fewer time steps, smaller images or smaller batches"
        except OSError as error:
            message = f"{error.filename or 'standard output'}: {reason_of(error)}"
        if says:
            with suppress(OSError):  # standard error may be full too
                echo_line(f"Error: {' '.join(message.split())}", err=True)
        sys.exit(2)


def _show_version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked:
        here = describe(choose_device("auto"))
        click.echo(f"snnprof {here['snnprof']}, torch {here['torch']}, {here['device']}")
        ctx.exit()


@click.group(
    "snnprof", cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of snnprof and torch, and the device.",
)
def cli() -> None:
    """Profile spiking neural networks: SOPs, energy, training time and memory.

    \b
    Start with:
      snnprof run --model vgg5 --mode stbp --mode online -o table.md
    """


SHARED = ("run", "train")  # by several processes, under torchrun
COMMANDS = (
    run_command,
    train_command,
    sweep_command,
    coherence_command,
    summary_command,
    show_command,
    merge_command,
    price_command,
    compare_command,
    models_command,
    energy_tables_command,
    doctor_command,
)
for command in COMMANDS:
    command.params.append(debug_option())
    cli.add_command(command)
cli.params.append(debug_option())


def main() -> None:
    """Entry point of the ``snnprof`` command."""
    with standard_streams(), termination_raises():
        _main()


def _main() -> None:
    try:
        several = announced().several
    except SnnprofError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    if not several:
        cli()
        return
    status: object = 0
    try:
        cli()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    leave(status if isinstance(status, int) else int(status is not None))

"""Options that the commands share: kinds of value, and the options of every network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from snnprof.core.environment import DEVICES
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import announced
from snnprof.core.visible_text import visible
from snnprof.energy.conventions import CONVENTIONS
from snnprof.experiment.data_sets import DATA_SETS
from snnprof.models import WEIGHTS
from snnprof.render.output_formats import FORMATS
from snnprof.training.layouts import AUTO, LAYOUTS

TERMINAL = "-"
# No longer: Python refuses to read a number of thousands of digits.
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)

Command = TypeVar("Command", bound=Callable[..., Any])


if TYPE_CHECKING:  # older releases of click know no [...] there
    _Numbers = click.ParamType[tuple[int, ...]]
else:
    _Numbers = click.ParamType


class OnceOnly(click.Command):
    """A command that refuses a second value of an option that takes one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            one = isinstance(option, click.Option) and not option.multiple and not option.is_flag
            if one and given.count(option) > 1:
                raise click.UsageError(
                    f"{option.opts[0]} was given {given.count(option)} times: it takes one value"
                )
        return super().parse_args(ctx, args)


class WholeNumbers(_Numbers):
    """ "4,8,16": whole numbers, as a tuple."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        pieces = [piece.strip() for piece in str(value).split(",")]
        for piece in pieces:
            if not _WHOLE.fullmatch(piece):
                self.fail(f"{piece!r} is not a valid integer: give N or N,N,...", param, ctx)
        return tuple(int(piece) for piece in pieces)


WHOLE_NUMBERS = WholeNumbers()


def listed(names: Sequence[str]) -> str:
    """The names in a sentence of help."""
    return ", ".join(sorted(names))


def parse_variant(text: str, reserved: Container[str] = ()) -> tuple[str, object]:
    """``--variant``: ("connect", "iand") of "connect=iand", ("seca", True) of "seca".

    Args:
        text: NAME or NAME=VALUE.
        reserved: names that have an option of their own.

    Raises:
        SnnprofError: no name, or one that is reserved.
    """
    name, equals, value = text.partition("=")
    if not name.isidentifier() or name in reserved:
        raise SnnprofError(f"--variant {text!r}: give NAME or NAME=VALUE, e.g. connect=iand")
    return name, value if equals else True


_SHARED = (
    click.option(
        "--variant",
        "variants",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Variant of every neuron, or option of the network (connect=iand); repeat it.",
    ),
    click.option(
        "--data",
        default="digits",
        show_default=True,
        help=f"One of: {listed([*DATA_SETS])}; or package.module:function, which gives train and "
        "test: loaders, lists of batches, generator functions or map-style data sets.",
    ),
    click.option(
        "--data-dir",
        metavar="FOLDER",
        help="Folder with the data set. [default: SNNPROF_DATA of the environment, or ./data]",
    ),
    click.option("--image-size", type=int, help="Resize images to N pixels. [default: the data's]"),
    click.option("--device", default="auto", show_default=True, help=f"One of: {listed(DEVICES)}."),
    click.option(
        "--checkpoint",
        metavar="FILE",
        help="Start from the weights in FILE: of --save, of safetensors or torch.save, also a "
        "trainer's (no code in it is run).",
    ),
)


def network_options(command: Command) -> Command:
    """The options that say which network, weights and data: every command's that builds one."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def weights_option(several: bool) -> Callable[[Command], Command]:
    """``--weights``, once or several times."""
    again = " Repeat it for a row each." if several else ""
    return click.option(
        "--weights",
        multiple=several,
        default=("fp32",) if several else "fp32",
        show_default=True,
        help=f"One of: {listed([*WEIGHTS])}.{again}",
    )


def energy_option() -> Callable[[Command], Command]:
    """``--energy``, several."""
    return click.option(
        "--energy",
        multiple=True,
        default=("operands",),
        show_default=True,
        help=f"Energy convention, one column each; repeat it. One of: {listed([*CONVENTIONS])} "
        "(sata is of training); or a TOML file with prices of your own.",
    )


def layout_option() -> Callable[[Command], Command]:
    """``--layout``."""
    return click.option(
        "--layout",
        default=AUTO,
        show_default=True,
        help=f"How the network takes its time steps: {listed([*LAYOUTS])}; auto finds out by "
        "trying.",
    )


def outputs_option() -> Callable[[Command], Command]:
    """``-o``, several: of commands whose pictures need no word more."""
    return click.option(
        "-o",
        "--output",
        "outputs",
        multiple=True,
        help=f"Also write FILE, by its suffix: {', '.join(FORMATS)}. Repeat it.",
    )


_SEED = "Random seed of weights, batches and random data"


def seed_option() -> Callable[[Command], Command]:
    """``--seed``, one."""
    seeds = click.IntRange(0, 2**32 - 1)
    return click.option("--seed", type=seeds, default=0, show_default=True, help=f"{_SEED}.")


def seeds_option() -> Callable[[Command], Command]:
    """``--seed``, several."""
    return click.option(
        "--seed",
        type=WHOLE_NUMBERS,
        multiple=True,
        default=("0",),
        show_default=True,
        help=f"{_SEED}; several as 0,1,2: the table shows mean and standard deviation.",
    )


def joined(numbers: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The numbers of an option that was given several times."""
    return tuple(number for several in numbers for number in several)


def echo_line(text: str, err: bool = False) -> None:
    """Print one line, whatever names are in it."""
    click.echo(visible(" ".join(text.splitlines())), err=err)


_DEBUG = "snnprof.debug"


def _note_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = debug_asked(ctx) or value  # of the group, or of the command


def debug_asked(ctx: click.Context) -> bool:
    """Whether ``--debug`` was given, before or after the command's name."""
    return bool(ctx.meta.get(_DEBUG))


def debug_option() -> click.Option:
    """``--debug``, for the group and every command."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_note_debug,
        help="Show the traceback of what ends in one line, or makes a row fail.",
    )


def show_traceback(name: str, traceback: str) -> None:
    """Print the traceback of a row that failed, where ``--debug`` asks for it."""
    if traceback and debug_asked(click.get_current_context()):
        click.echo(f"{name}:\n{traceback}", err=True)


@contextmanager
def warnings_once() -> Iterator[None]:
    """Print each warning of the block as one line on standard error, and each only once."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    if not announced().first:  # of several processes, all warn alike
        return
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        echo_line(f"Warning: {message}", err=True)

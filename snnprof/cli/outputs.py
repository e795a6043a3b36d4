"""The files of ``-o``: checked before anything is measured, written before anything is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from snnprof.cli.options import TERMINAL
from snnprof.core.errors import SnnprofError
from snnprof.render.output_files import check_output, save, write_each
from snnprof.render.report_table import Presented
from snnprof.results import Result

Write = Callable[[], None]


def output_files(given: Sequence[str]) -> list[Path]:
    """The files that ``-o`` names; the terminal is none.

    Raises:
        SnnprofError: one that could not be written.
    """
    return [check_output(output) for output in given if output != TERMINAL]


def saving(result: Result | Presented, files: Iterable[Path]) -> list[Write]:
    """What writes the result into each file."""
    return [partial(save, result, file) for file in files]


def write_and_show(writers: Iterable[Write], show: Callable[[], None]) -> None:
    """Write every file, then print: a reader such as head may close the pipe.

    Raises:
        SnnprofError: files that could not be written, once the rest is written and printed.
    """
    unsaved = write_each(writers)
    show()
    if unsaved:
        raise SnnprofError("; ".join(unsaved))

"""Formats of output files, by suffix: a dict and a decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry

Write = Callable[[Any], str | bytes]  # of any result of ours


@dataclass(frozen=True)
class OutputFormat:
    """A way to write a result.

    Attributes:
        write: the content of the file; text becomes UTF-8.
        check: raises SnnprofError, before anything is measured, where the format cannot be
            written here; None where it always can.
        table: True where it shows the table as it is presented (columns, rows of seeds): it is
            given that; else the result alone.
    """

    write: Write
    check: Callable[[], None] | None = None
    table: bool = False


# In the order that messages and help list them.
FORMATS: Registry[OutputFormat] = Registry("output format")


def output_format(
    suffix: str, *, check: Callable[[], None] | None = None, table: bool = False
) -> Callable[[Write], Write]:
    """Decorator that adds a format; files of that suffix are then written by it.

    Args:
        suffix: of the files, with its dot, in lower case: ``".md"``.
        check, table: see :class:`OutputFormat`.

    Raises:
        ValueError: a suffix that is taken, or is none.
    """
    if not suffix.startswith(".") or suffix in (".", "..") or suffix != suffix.lower():
        raise ValueError(f"suffix {suffix!r}: must be a dot and lower-case letters, as '.md'")

    def add(write: Write) -> Write:
        FORMATS.register(suffix)(OutputFormat(write, check, table))
        return write

    return add


def format_of(path: str | Path) -> OutputFormat:
    """The format of a file, by its suffix; upper case is alike.

    Raises:
        SnnprofError: unknown suffix, or the format's own check.
    """
    suffix = Path(path).suffix
    found = FORMATS.get(suffix.lower())
    if found is None:
        raise SnnprofError(
            f"output {str(path)!r}: unknown suffix {suffix!r}; known: {', '.join(FORMATS)}"
        )
    if found.check is not None:
        found.check()
    return found

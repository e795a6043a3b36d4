"""Results into files, by suffix. A file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from snnprof.core.atomic_files import check_writable, write_whole
from snnprof.core.errors import SnnprofError, reason_of
from snnprof.render.output_formats import format_of
from snnprof.render.report_table import Presented
from snnprof.results import Layers, Result
from snnprof.results.serialization import from_json


def check_output(path: str | Path) -> Path:
    """The path, if a result can be written there.

    Raises:
        SnnprofError: unknown suffix, no such directory, a directory, no permission; or a
            picture without matplotlib.
    """
    format_of(path)
    check_writable(path)
    return Path(path)


def save(result: Result | Presented | Layers, path: str | Path) -> None:
    """Write a result as .md, .csv, .tex, .json or .parquet, or draw it as .svg, .png or .pdf.

    The suffix says which; a format of one's own has its own.

    The file is written under a temporary name and moved into place.

    Raises:
        SnnprofError: see :func:`check_output`, or the system refuses to write.
    """
    content = content_of(result, path)
    write_whole(path, content.encode() if isinstance(content, str) else content)


def content_of(result: Result | Presented | Layers, path: str | Path) -> str | bytes:
    """What a file of that name would hold.

    Raises:
        SnnprofError: unknown suffix, or a format that gives something else than text or bytes.
    """
    chosen = format_of(path)
    plain = result.report if isinstance(result, Presented) and not chosen.table else result
    content = chosen.write(plain)
    if not isinstance(content, str | bytes):
        raise SnnprofError(
            f"output {str(path)!r}: its format gave a {type(content).__name__}: a function under "
            "output_format must return the file's text or bytes"
        )
    return content


def write_each(writers: Iterable[Callable[[], None]]) -> list[str]:
    """Call every writer, also where one before it failed.

    Returns:
        The errors: one file system may be full, and another one not.
    """
    errors: list[str] = []
    for write in writers:
        try:
            write()
        except SnnprofError as error:
            errors.append(str(error))
    return errors


def load(path: str | Path) -> Result:
    """Read a result that was saved as .json.

    Raises:
        SnnprofError: the file cannot be read or is none of ours.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no UTF-8
        raise SnnprofError(f"cannot read {str(path)!r}: {reason_of(error)}") from error
    try:
        return from_json(text)
    except SnnprofError as error:
        raise SnnprofError(f"{str(path)!r}: {error}") from error

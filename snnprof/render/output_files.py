"""Results into files, by suffix. A file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from snnprof.core.atomic_files import check_writable, write_whole
from snnprof.core.errors import SnnprofError
from snnprof.render.gallery import SUFFIXES, check_matplotlib, picture
from snnprof.render.tables import View, frame, view
from snnprof.results import Result
from snnprof.results.serialization import from_json, to_json


def _markdown(result: Result) -> str:
    table = view(result)
    body = _text_frame(table).to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}\n"


def _csv(result: Result) -> str:
    text: str = frame(result).to_csv(index=False)
    return text


def _latex(result: Result) -> str:
    table = view(result)
    style = _text_frame(table).map(_escape).rename(columns=_escape).style.hide(axis="index")
    body: str = style.to_latex(hrules=True)
    notes = "".join(f"% {note}\n" for note in table.notes)
    return f"% {table.title}; needs \\usepackage{{booktabs}}\n{notes}{body}"


def _text_frame(table: View):  # type: ignore[no-untyped-def]
    import pandas as pd

    return pd.DataFrame(list(table.rows), columns=list(table.columns))


_LATEX_ESCAPES = str.maketrans({c: f"\\{c}" for c in "%&_#$"})


def _escape(text: str) -> str:
    return text.translate(_LATEX_ESCAPES)


WRITERS: dict[str, Callable[[Result], str]] = {
    ".md": _markdown,
    ".csv": _csv,
    ".tex": _latex,
    ".json": to_json,
}


def is_picture(path: str | Path) -> bool:
    """Whether the suffix is a picture's."""
    return Path(path).suffix.lower() in SUFFIXES


def check_output(path: str | Path) -> Path:
    """The path, if a result can be written there.

    Raises:
        SnnprofError: unknown suffix, no such directory, a directory, no permission; or a
            picture without matplotlib.
    """
    _check_suffix(path)
    check_writable(path)
    return Path(path)


def _check_suffix(path: str | Path) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in (*WRITERS, *SUFFIXES):
        listed = ", ".join((*WRITERS, *SUFFIXES))
        raise SnnprofError(f"output {str(path)!r}: unknown suffix {suffix!r}; known: {listed}")
    if is_picture(path):
        check_matplotlib()


def save(result: Result, path: str | Path) -> None:
    """Write a result as .md, .csv, .tex or .json, or draw it as .svg, .png or .pdf, by suffix.

    The file is written under a temporary name and moved into place.

    Raises:
        SnnprofError: see :func:`check_output`, or the system refuses to write.
    """
    _check_suffix(path)
    suffix = Path(path).suffix.lower()
    if is_picture(path):
        write_whole(path, picture(result, suffix))
    else:
        write_whole(path, WRITERS[suffix](result).encode())


def write_each(writers: Iterable[Callable[[], None]]) -> list[str]:
    """Call them all.

    Returns:
        What went wrong with some: one file system may be full, and another one not.
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
    except (OSError, UnicodeDecodeError) as error:
        raise SnnprofError(f"cannot read {str(path)!r}: {error}") from error
    try:
        return from_json(text)
    except SnnprofError as error:
        raise SnnprofError(f"{str(path)!r}: {error}") from error

"""Results into files, by suffix. A file appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from snnprof.errors import SnnprofError
from snnprof.render.views import View, frame, view
from snnprof.results import Result
from snnprof.serialise import from_json, to_json


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


def check_output(path: str | Path) -> Path:
    """The path, if a result can be written there.

    Raises:
        SnnprofError: unknown suffix, no such directory, a directory, or no permission.
    """
    target = Path(path)
    if target.suffix.lower() not in WRITERS:
        raise SnnprofError(
            f"output {str(path)!r}: unknown suffix {target.suffix!r}; known: {', '.join(WRITERS)}"
        )
    if len(target.name) > 200:
        raise SnnprofError(f"output {str(path)!r}: the name is too long")
    if target.is_dir():
        raise SnnprofError(f"output {str(path)!r} is a directory: name a file")
    if not target.parent.is_dir():
        raise SnnprofError(f"output {str(path)!r}: there is no directory {str(target.parent)!r}")
    writable = os.access(target.parent, os.W_OK) and (
        not target.exists() or os.access(target, os.W_OK)
    )
    if not writable:
        raise SnnprofError(f"output {str(path)!r}: no permission to write there")
    return target


def save(result: Result, path: str | Path) -> None:
    """Write a result as .md, .csv, .tex or .json, chosen by suffix.

    The file is written under a temporary name and moved into place.

    Raises:
        SnnprofError: see :func:`check_output`, or the system refuses to write.
    """
    target = check_output(path)
    text = WRITERS[target.suffix.lower()](result)
    try:
        _replace(target.resolve(), text)
    except OSError as error:
        raise SnnprofError(f"output {str(path)!r}: {error.strerror or error}") from error


def _replace(target: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w",
        encoding="utf-8",
        newline="",
        dir=target.parent,
        prefix=f".{target.name}.",
        delete=False,
    ) as file:
        try:
            file.write(text)
            file.close()
            _take_permissions(file.name, target)
            os.replace(file.name, target)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise


def _take_permissions(name: str, target: Path) -> None:
    """Temporary files are private: give it the old file's mode, or what the umask leaves."""
    if target.exists():
        os.chmod(name, target.stat().st_mode & 0o777)
        return
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)


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

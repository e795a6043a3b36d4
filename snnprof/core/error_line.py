"""Errors of other people's code in one line, with the place in it."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from snnprof.core.errors import SnnprofError, is_out_of_memory

_HERE = Path(__file__).resolve().parents[1]
# In a checkout our networks are a link to another folder.
_NOT_THEIRS = (_HERE, (_HERE / "models").resolve(), Path(torch.__file__).resolve().parent)
_STANDARD = Path(sysconfig.get_paths()["stdlib"]).resolve()
_INSTALLED = {"site-packages", "dist-packages"}


def of_the_users(what: str, function: Callable[[], Any]) -> Any:
    """What a function of the user's gives; its error is one line, with its place.

    Memory that runs out passes: whoever called decides what becomes of it.

    Raises:
        SnnprofError: it failed.
    """
    try:
        return function()
    except SnnprofError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise SnnprofError(f"{what}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An error as ``"nets/mine.py:12: KeyError: 'x'"``; a :class:`SnnprofError` as its message.

    The place is the innermost frame of the user's own code: neither ours nor torch's, of no
    installed package and not of Python's library. Where there is none such, it is that of the
    package; where there is neither, none is given.
    """
    if isinstance(error, SnnprofError):
        return _flat(str(error))
    message = error.msg if isinstance(error, SyntaxError) else _message(error)
    said = _flat(f"{type(error).__name__}: {message}" if message else type(error).__name__)
    place = _place(error)
    return f"{place}: {said}" if place else said


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # theirs: an error whose own text fails
        return ""


def _flat(text: str) -> str:
    return " ".join(text.split())


def _place(error: BaseException) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename))}:{error.lineno}"
    own, of_packages = None, None
    for path, line in _frames(error):  # the innermost comes last
        if _INSTALLED & set(path.parts):
            of_packages = path, line
        elif not path.is_relative_to(_STANDARD):
            own = path, line
    found = own or of_packages
    return None if found is None else f"{_shown(found[0])}:{found[1]}"


def _frames(error: BaseException) -> Iterator[tuple[Path, int]]:
    """Files and lines that the error came through, without ours and torch's."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        if not name.startswith("<") and not any(path.is_relative_to(f) for f in _NOT_THEIRS):
            yield path, line


def _shown(path: Path) -> str:
    """The path as seen from the working directory, if it lies below."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

"""TOML, read so that whatever is wrong with it is one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError, reason_of


def read_toml(path: str | Path, where: str) -> dict[str, Any]:
    """The tables of a file.

    Args:
        path: the file.
        where: it is, in messages.

    Raises:
        SnnprofError: it cannot be read, or is no TOML.
    """
    text = read_text(path, where)
    try:
        return parse_toml(text)
    except SnnprofError as error:
        raise SnnprofError(f"{where}: {error}") from error


def read_text(path: str | Path, where: str) -> str:
    """The text of a file in UTF-8.

    Raises:
        SnnprofError: it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no UTF-8
        raise SnnprofError(f"{where}: {reason_of(error)}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        SnnprofError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also whole numbers of thousands of digits
        raise SnnprofError(f"no TOML: {error}") from error
    except RecursionError:
        raise SnnprofError("no TOML: its brackets are too deep") from None

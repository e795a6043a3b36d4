"""Packages that an integration needs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from types import ModuleType

from snnprof.core.errors import SnnprofError


def imported(names: Sequence[str], extra: str) -> list[ModuleType]:
    """Those of the modules that are installed.

    Args:
        names: of modules that serve alike, the preferred first.
        extra: of snnprof, that installs them.

    Raises:
        SnnprofError: none is installed, or one cannot be imported.
    """
    there = [n for n in names if importlib.util.find_spec(n.partition(".")[0]) is not None]
    if not there:
        package = names[0].partition(".")[0]
        raise SnnprofError(f"this callback needs {package}: pip install 'snnprof[{extra}]'")
    return [_imported(name) for name in there]


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SnnprofError(f"cannot import {name}: {error}") from error

"""Packages that an integration needs, imported where they are there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from snnprof.core.errors import SnnprofError


def imported(names: Sequence[str], extra: str) -> list[ModuleType]:
    """The modules of these names that are in use already; else the first that is installed.

    Args:
        names: of modules that serve alike, the preferred first.
        extra: of snnprof, that installs it.

    Raises:
        SnnprofError: none is installed, or it cannot be imported.
    """
    loaded = [sys.modules[name] for name in names if name in sys.modules]
    if loaded:
        return loaded
    for name in names:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            try:
                return [importlib.import_module(name)]
            except ImportError as error:
                raise SnnprofError(f"cannot import {name}: {error}") from error
    package = names[0].partition(".")[0]
    raise SnnprofError(f"this callback needs {package}: pip install 'snnprof[{extra}]'")

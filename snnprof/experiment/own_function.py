"""Functions of the user's own: ``package.module:function`` on the command line, or as they are."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError


def find_function(what: str, given: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names.

    Args:
        what: for messages: the name of the option.
        given: as it was given; modules of the working directory are found too.

    Raises:
        SnnprofError: no such module or function, or it cannot be imported.
    """
    module_name, _, attribute = given.partition(":")
    if module_name.endswith(".py"):
        raise SnnprofError(
            f"{what} {given!r}: name the module without .py: "
            f"{module_name.removesuffix('.py').replace('/', '.')}:{attribute}"
        )
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m has it; a console script does not
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever their module raises is theirs to mend
        raise SnnprofError(
            f"{what} {given!r}: cannot import {module_name!r}: {one_line(error)}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SnnprofError(f"{what} {given!r}: {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


def keywords_of(what: str, function: Callable[..., Any]) -> frozenset[str] | None:
    """The keywords that a function takes; None for any.

    Raises:
        SnnprofError: it does not tell.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise SnnprofError(f"{what}: the function tells no parameters: wrap it") from error
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def name_of(function: object) -> str:
    """The name of a function or of an object's class, for the table."""
    return str(getattr(function, "__name__", type(function).__name__))

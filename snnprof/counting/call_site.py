"""Where in the source a torch function was called."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator

from torch import nn

Site = tuple[tuple[str, str, int, int], ...]

_CALL = nn.Module._call_impl.__code__


def running_modules() -> Iterator[nn.Module]:
    """Every module that is running in this thread, the innermost first, hooks or not."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CALL:
            yield frame.f_locals["self"]
        frame = frame.f_back  # type: ignore[assignment]


def call_site(modules: Container[nn.Module]) -> tuple[nn.Module | None, Site]:
    """The innermost running module of ``modules``, and the way from there to the caller.

    The way is the code and the instruction of every Python frame below the module's call: a
    loop over time steps passes the same place each time, two calls of one helper do not.
    A frame's locals are read of ``nn.Module``'s own frame only.
    """
    way: list[tuple[str, str, int, int]] = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is _CALL:
            module = frame.f_locals["self"]
            if module in modules:
                return module, tuple(way)
        way.append((code.co_filename, code.co_qualname, code.co_firstlineno, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return None, tuple(way)

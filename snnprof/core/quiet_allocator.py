"""The messages that torch's allocator writes for its developers, kept from the user's screen."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ERROR = 2  # descriptor of standard error
_LOG_LINE = b"[W"  # how a warning of torch's C++ side begins
# Of a block that is freed while a profiler runs and was allocated before: nothing is wrong.
_FOR_DEVELOPERS = b"Memory block of unknown size was allocated before the profiling started"
_CHUNK = 65536
_GRACE_S = 2.0  # a child process may hold the pipe open


@contextmanager
def quiet_allocator() -> Iterator[None]:
    """A block in which that line does not reach standard error; all others do, at once.

    The line is written by C++ to the descriptor, so it is there that it is taken out. Where there
    is no standard error, or no pipe to be had, nothing is done.
    """
    try:
        outside = os.dup(_ERROR)
        reading, writing = os.pipe()
    except OSError:
        yield
        return
    _flush()
    os.dup2(writing, _ERROR)
    os.close(writing)
    passing = threading.Thread(target=_pass_on, args=(reading, os.dup(outside)), daemon=True)
    passing.start()
    try:
        yield
    finally:
        _flush()
        os.dup2(outside, _ERROR)  # closes the pipe's end: the thread comes to its own
        os.close(outside)
        passing.join(_GRACE_S)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):  # full, closed, or none
        sys.stderr.flush()


def _pass_on(reading: int, outside: int) -> None:
    """Copy from one descriptor to the other; lines that may be the allocator's, when whole."""
    held = b""
    begins = True  # a line
    while chunk := os.read(reading, _CHUNK):
        *whole, rest = (held + chunk).split(b"\n")
        lines = [line + b"\n" for line in whole]
        may_be = begins or bool(lines)
        held = rest if may_be and _LOG_LINE.startswith(rest[:2]) else b""
        out = b"".join(line for line in lines if _FOR_DEVELOPERS not in line)
        out += b"" if held else rest
        begins = bool(held) or not rest
        _write(outside, out)
    _write(outside, held)
    os.close(reading)
    os.close(outside)


def _write(outside: int, content: bytes) -> None:
    with suppress(OSError):
        while content:
            content = content[os.write(outside, content) :]

"""Standard input, output and error, also where the shell has closed them (``>&-``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_INPUT, _OUTPUT, _ERROR = 0, 1, 2


@contextmanager
def standard_streams() -> Iterator[None]:
    """A block with all three streams: nothing that it opens takes a closed one's number.

    A closed output refuses what is written to it, as it would in C; what goes to a closed error
    stream is lost. Whatever could not be written has been told of by then, so that Python does
    not try again, with a traceback, at its end.
    """
    # Opened for reading, a descriptor refuses to be written to: EBADF.
    for number, flags in ((_INPUT, os.O_RDONLY), (_OUTPUT, os.O_RDONLY), (_ERROR, os.O_WRONLY)):
        _fill(number, flags)
    sys.stdout = sys.stdout or os.fdopen(_OUTPUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_ERROR, "w", closefd=False)
    try:
        yield
    finally:
        for stream, number in ((sys.stdout, _OUTPUT), (sys.stderr, _ERROR)):
            try:
                stream.flush()
            except OSError:
                _discard(number)


def _fill(number: int, flags: int) -> None:
    """Open a descriptor that is closed; the system gives the lowest that is free."""
    try:
        os.fstat(number)
    except OSError:
        with suppress(OSError):
            os.open(os.devnull, flags)


def _discard(number: int) -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

"""SIGTERM: it ends the process, but not in the middle of a file."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def termination_waits() -> Iterator[None]:
    """A block at whose end a SIGTERM that came meanwhile takes its usual effect."""
    came: list[int] = []
    try:
        with _on_termination(lambda number, frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(signal.SIGTERM)


@contextmanager
def termination_raises() -> Iterator[None]:
    """A block in which SIGTERM is taken as Ctrl-C: what was begun is tidied up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _on_termination(interrupt):
        yield


@contextmanager
def _on_termination(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Only in the main thread: Python lets no other one decide over signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        # None: set by a library in C, and not to be put back from here.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

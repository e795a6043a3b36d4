"""Compiled modules run eagerly while any counter is at work, and as before when none is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

_lock = Lock()
_at_work = 0
_undo = ExitStack()


@contextmanager
def running_eagerly() -> Iterator[None]:
    """Have torch.compile's modules run eagerly: hooks added after compilation do not run in them.

    Counters may end in another order than they began, and in other threads: the first one sets
    the stance, the last one puts back what was there.
    """
    global _at_work
    with _lock:
        _at_work += 1
        if _at_work == 1 and "torch._dynamo" in sys.modules:
            _undo.enter_context(torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _lock:
            _at_work -= 1
            if _at_work == 0:
                _undo.close()

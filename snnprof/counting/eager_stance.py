"""Compiled modules run eagerly while any counter is at work, and as before when none is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import Lock
from types import ModuleType
from typing import Any

import torch

_COMPILER = "torch._dynamo"
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
        if _at_work == 1:
            _begin()
    try:
        yield
    finally:
        with _lock:
            _at_work -= 1
            if _at_work == 0:
                _undo.close()


def _begin() -> None:
    if _COMPILER in sys.modules:
        _undo.enter_context(torch.compiler.set_stance("force_eager"))
    else:  # importing it takes seconds, and most never need it
        sys.meta_path.insert(0, _watch)
        _undo.callback(_watch.leave)


class _Watch(MetaPathFinder):
    """Sets the stance when somebody imports the compiler: the first torch.compile does."""

    def leave(self) -> None:
        """Watch no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The compiler as all others find it, and the stance once it is there."""
        if name != _COMPILER:
            return None
        self.leave()
        spec = find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module
                run(module)
                with _lock:
                    if _at_work:
                        _begin()

            loader.exec_module = exec_module
        return spec


_watch = _Watch()

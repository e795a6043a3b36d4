"""The modules of a model that are running, followed by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from snnprof.core.forward_hooks import Hooks

Kept = TypeVar("Kept")
Begin = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Kept | None]
_graph_task = torch._C._current_graph_task_id  # -1 outside the backward pass


class RunningModules(Generic[Kept]):
    """A stack of the modules that are running, the innermost last.

    Backward passes, which run forward hooks again where activations are recomputed, and
    threads other than the one that made this are not followed.

    Args:
        begin: called before a module runs, with its args and kwargs. The object it returns is
            kept until the module ends; where it returns None the module is not followed.
        end: called with the module and the object when the module has run, or failed.

    Attributes:
        in_other_threads: modules that were called from another thread.
    """

    def __init__(self, begin: Begin[Kept], end: Callable[[nn.Module, Kept], None]) -> None:
        self._begin = begin
        self._end = end
        self._running: list[tuple[nn.Module, Kept]] = []
        self._thread = get_ident()
        self.in_other_threads: set[nn.Module] = set()

    def attach(self, modules: Iterable[nn.Module], hooks: Hooks) -> None:
        """Follow these modules as long as the hooks are on."""
        for module in modules:
            hooks.before(module, self._before)
            hooks.after(module, self._after, always=True)

    def innermost(self) -> Kept | None:
        """The object kept of the innermost running module; None where none runs or is followed."""
        if self._running and _graph_task() == -1 and get_ident() == self._thread:
            return self._running[-1][1]
        return None

    def __iter__(self) -> Iterator[Kept]:
        """The objects kept of the running modules, the innermost first."""
        return (kept for _, kept in reversed(self._running))

    def __len__(self) -> int:
        return len(self._running)

    def is_followed(self) -> bool:
        """True in the thread that made this, outside a backward pass."""
        return _graph_task() == -1 and get_ident() == self._thread

    def release(self) -> None:
        """Let go of who is told: the hooks are off, nothing more will be."""
        self._begin = lambda module, args, kwargs: None
        self._end = lambda module, kept: None

    def drop(self, module: nn.Module) -> bool:
        """End a module, and what still runs inside it, without its hook; False if none runs."""
        if all(module is not other for other, _ in self._running):
            return False
        self._end_with(module)
        return True

    def end_all(self) -> None:
        """End every module that still runs: an interrupt skips the hooks that would have."""
        while self._running:
            self._end(*self._running.pop())

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _graph_task() != -1:
            return
        if get_ident() != self._thread:
            self.in_other_threads.add(module)
            return
        kept = self._begin(module, args, kwargs)
        if kept is not None:
            self._running.append((module, kept))

    def _after(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        running = self._running
        if not running or _graph_task() != -1 or get_ident() != self._thread:
            return
        if running[-1][0] is not module and all(module is not other for other, _ in running):
            return
        self._end_with(module)

    def _end_with(self, module: nn.Module) -> None:
        ended = None
        while ended is not module:  # what was interrupted inside it ends with it
            ended, kept = self._running.pop()
            self._end(ended, kept)

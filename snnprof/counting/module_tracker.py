"""Forward hooks that know which module is running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from snnprof.core.forward_hooks import Hooks

LAYER_MODULES = (_ConvNd, nn.Linear)
_graph_task = torch._C._current_graph_task_id  # -1 outside the backward pass


class Frame(NamedTuple):
    """A running module.

    Attributes:
        name: its name.
        module: itself.
        given: its first input.
    """

    name: str
    module: nn.Module
    given: object


class Position:
    """Where a model's forward pass is.

    Backward passes (which run forward hooks again where activations are recomputed) and
    other threads are not followed.

    Args:
        root: the model.
        names: its modules' names.
        begin_call: told of the input of every call of the root, before it runs.
        end_call: told when it has run, or failed.

    Attributes:
        entered: names of the modules that ran.
        outside: names of the modules that ran outside a call of the root.
        other_threads: True if the root was called from a thread other than this one.
    """

    def __init__(
        self,
        root: nn.Module,
        names: Mapping[nn.Module, str],
        begin_call: Callable[[tuple[Any, ...], dict[str, Any]], None],
        end_call: Callable[[], None],
    ) -> None:
        self._root = root
        self._names = names
        self._begin_call = begin_call
        self._end_call = end_call
        self._stack: list[Frame] = []
        self._depth = 0  # of calls of the root; more than 1 where it calls itself
        self._begun = 0
        self._finished = 0
        self._thread = threading.get_ident()
        self.entered: set[str] = set()
        self.outside: set[str] = set()
        self.other_threads = False

    def attach(self, undo: ExitStack) -> None:
        """Put the hooks on; ``undo`` takes them off."""
        hooks, root = Hooks(), self._root
        undo.callback(hooks.remove)
        hooks.before(root, self._begin)
        hooks.after(root, self._finish)
        hooks.after(root, self._end, always=True)
        for module, name in self._names.items():
            if module is not root and _may_multiply(module):
                hooks.before(module, partial(self._enter, name))
                hooks.after(module, self._leave, always=True)

    def frame(self) -> Frame | None:
        """The innermost running module; None outside the model's forward pass."""
        return self._stack[-1] if self._stack and self._followed() else None

    @property
    def unfinished(self) -> bool:
        """True if a call of the root has not come to its end."""
        return self._begun != self._finished

    def _followed(self) -> bool:
        return _graph_task() == -1 and threading.get_ident() == self._thread

    def _begin(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._followed():
            self.other_threads |= _graph_task() == -1
            return
        if self._depth == 0:
            self._begin_call(args, kwargs)
        self._depth += 1
        self._begun += 1
        self._stack.append(Frame(self._names[root], root, _first(args, kwargs)))

    def _finish(self, root: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._followed():
            self._finished += 1

    def _end(self, root: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._followed() and self._depth:
            self._stack.pop()
            self._depth -= 1
            if self._depth == 0:
                self._end_call()

    def _enter(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if not self._followed():
            return
        if self._stack:
            self._stack.append(Frame(name, module, _first(args, kwargs)))
            self.entered.add(name)
        else:
            self.outside.add(name)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._stack and self._stack[-1].module is module and self._followed():
            self._stack.pop()


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    return args[0] if args else next(iter(kwargs.values()), None)


def _may_multiply(module: nn.Module) -> bool:
    """False for leaves without a weight (poolings, most neurons, norms), and for TorchScript.

    A functional product in such a leaf is still seen, under its parent's name.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return False
    if isinstance(module, LAYER_MODULES) or next(module.children(), None) is not None:
        return True
    return any(
        is_lazy(parameter) or parameter.dim() > 1 for parameter in module.parameters(recurse=False)
    )

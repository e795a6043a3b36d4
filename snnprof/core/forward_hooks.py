"""Forward hooks that come off again, from copies of the model too."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# Takes anything and returns None, and a file that holds it needs nothing of ours to be read.
_IDLE = nullcontext().__exit__
_WHERE = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_always_called",
)


class Hooks:
    """Hooks on the modules of a model.

    A copy that is made of the model meanwhile gets hooks that do nothing, and loses them with
    the model. A file that is written meanwhile keeps them. Where torch._dynamo traces the model,
    as torch.export may, they are no part of it.

    Args:
        on_fault: told of the module and of an error of a hook's, which then goes no further;
            None: it goes on to the model.
    """

    def __init__(self, on_fault: Callable[[nn.Module, Exception], None] | None = None) -> None:
        self._on_fault = on_fault
        self._handles: list[RemovableHandle] = []
        self._copies: list[tuple[weakref.ref[nn.Module], int]] = []

    def before(self, module: nn.Module, function: Callable[..., None]) -> None:
        """Call it with the module, its args and kwargs before the module runs."""
        hook = _Hook(self._guarded(function), module, self)
        self._keep(hook, module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, function: Callable[..., None], always: bool = False) -> None:
        """Call it with the module, its args and output when it has run, or failed (``always``)."""
        hook = _Hook(self._guarded(function), module, self)
        self._keep(hook, module.register_forward_hook(hook, always_call=always))

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        on_fault = self._on_fault

        def run(module: nn.Module, args: Any, third: Any) -> None:
            if torch.compiler.is_dynamo_compiling():
                return
            if on_fault is None:
                function(module, args, third)
                return
            try:
                function(module, args, third)
            except Exception as error:
                on_fault(module, error)

        return run

    def _keep(self, hook: _Hook, handle: RemovableHandle) -> None:
        hook.number = handle.id
        self._handles.append(handle)

    def note_copy(self, module: nn.Module, number: int) -> None:
        """A copy of a module has a hook of that number."""
        self._copies.append((weakref.ref(module), number))

    def remove(self) -> None:
        """Take all of them off."""
        for handle in self._handles:
            handle.remove()
        for reference, number in self._copies:
            module = reference()
            held = {} if module is None else vars(module)
            for name in _WHERE:  # a copy that failed half-way has none
                held.get(name, {}).pop(number, None)
        self._handles, self._copies = [], []


class _Hook(partial[None]):
    """A function on a module, which is not copied with it."""

    module: nn.Module
    hooks: Hooks
    number: int

    def __new__(cls, function: Callable[..., None], module: nn.Module, hooks: Hooks) -> _Hook:
        self = super().__new__(cls, function)
        self.module, self.hooks = module, hooks
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        copied = memo.get(id(self.module))
        if copied is None:  # the hooks are copied without the module
            return _IDLE
        idle = _Hook(_IDLE, copied, self.hooks)
        idle.number = self.number
        self.hooks.note_copy(copied, self.number)
        return idle

    def __reduce__(self) -> Any:
        return _IDLE.__reduce__()

"""The module that is running, and the calls of the model, followed by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from snnprof.core.forward_hooks import Hooks
from snnprof.core.running_modules import RunningModules

LAYER_MODULES = (_ConvNd, nn.Linear)


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


class ModuleTracker:
    """The place of a model's forward pass: which of its modules is running.

    Args:
        root: the model.
        names: its modules' names.
        begin_call: called with the input of every call of the root, before it runs; False: the
            call is not to be counted.
        see_output: called with the output of the first call.
        end_call: called when it has run, or failed.
        note_fault: told of the module's name, of an error in following it, which goes no further,
            and whether a call of the root was lost by it.

    Attributes:
        entered: names of the modules that ran.
        outside: names of the modules that ran outside a call of the root.
    """

    def __init__(
        self,
        root: nn.Module,
        names: Mapping[nn.Module, str],
        begin_call: Callable[[tuple[Any, ...], dict[str, Any]], bool],
        see_output: Callable[[Any], None],
        end_call: Callable[[], None],
        note_fault: Callable[[str, Exception, bool], None],
    ) -> None:
        self._root = root
        self._names = names
        self._begin_call = begin_call
        self._see_output = see_output
        self._end_call = end_call
        self._note_fault = note_fault
        self._counts = False  # the present call
        self._running = RunningModules(self._begin, self._end)
        self._depth = 0  # of calls of the root; more than 1 where it calls itself
        self._begun = 0
        self._finished = 0
        self.entered: set[str] = set()
        self.outside: set[str] = set()

    def release(self) -> None:
        """Let go of who is told, so that counter and model are freed with their last name."""
        self._begin_call = lambda args, kwargs: False
        self._see_output = lambda out: None
        self._end_call = lambda: None
        self._note_fault = lambda name, error, lost: None
        self._running.release()

    def attach(self, undo: ExitStack) -> None:
        """Put the hooks on; ``undo`` takes them off."""
        hooks, root = Hooks(self._recover), self._root
        undo.callback(hooks.remove)
        hooks.after(root, self._finish)
        others = (m for m in self._names if m is not root and _may_multiply(m))
        self._running.attach((root, *others), hooks)

    def frame(self) -> Frame | None:
        """The innermost running module; None outside the model's forward pass."""
        return self._running.innermost()

    def given(self) -> Iterator[object]:
        """The first inputs of the running modules, the innermost first."""
        return (frame.given for frame in self._running)

    @property
    def in_call(self) -> bool:
        """True inside a call of the root that counts, in its thread, outside a backward pass."""
        return self._depth > 0 and self._counts and self._running.is_followed()

    def running_name(self) -> str | None:
        """The name of the innermost running module; None outside the model's forward pass."""
        frame = self.frame()
        return None if frame is None else frame.name

    @property
    def unfinished(self) -> bool:
        """True if a call of the root has not come to its end."""
        return self._begun != self._finished

    @property
    def other_threads(self) -> bool:
        """True if the root was called from a thread other than this one."""
        return self._root in self._running.in_other_threads

    def _begin(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Frame | None:
        name = self._names[module]
        if module is self._root:
            if self._depth == 0:
                self._counts = self._begin_call(args, kwargs)
            self._depth += 1
            self._begun += 1
        elif self._depth:
            self.entered.add(name)
        else:
            self.outside.add(name)
            return None
        return Frame(name, module, args[0] if args else next(iter(kwargs.values()), None))

    def _finish(self, root: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._running.is_followed():
            self._finished += 1
            if self._finished == 1:
                self._see_output(out)

    def _end(self, module: nn.Module, frame: Frame) -> None:
        if module is self._root:
            self._depth -= 1
            if self._depth == 0:
                self._end_call()

    def _recover(self, module: nn.Module, error: Exception) -> None:
        """Go on after an error in a hook as if it had been the module's end.

        In the hook before the root nothing was begun: the call is not counted.
        """
        try:
            ended = self._running.drop(module)
        except Exception:  # the same fault again
            ended = False
        lost = not ended and module is self._root
        if lost:
            self._depth = 0
            self._end_call()
        self._note_fault(self._names[module], error, lost)


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

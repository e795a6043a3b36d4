"""SopCounter: forward hooks on, synaptic operations out, the model left as it was."""

from __future__ import annotations

import dataclasses
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from snnprof.counting.capture import (
    CONVOLUTIONS,
    LINEAR,
    UNCOUNTED,
    Capture,
    linear_call,
    operands,
    unpadded,
)
from snnprof.counting.naming import module_names, parameter_owners
from snnprof.counting.operands import Kind, Scratch
from snnprof.counting.samples import SampleAxis
from snnprof.counting.tally import Tally
from snnprof.errors import SnnprofError, known
from snnprof.results import CountResult, LayerCount

LAYER_TYPES = ("conv", "linear", "attention")
_LAYER_MODULES = (_ConvNd, nn.Linear)
_graph_task = torch._C._current_graph_task_id  # -1 outside the backward pass


class SopCounter:
    """Counts the synaptic operations of everything that runs inside its ``with`` block.

    Args:
        model: any module.
        layers: what to count, of "conv", "linear", "attention"; what is left out is listed
            in the result.
        batch_dim: batch dimension of the model's input; 1 for [T, B, ...].
        timesteps: T, if the model is called once per time step.

    Forward hooks know where the model is; a torch-function mode sees the operands that the
    convolutions and linear operations really receive. Outputs, gradients, parameters,
    buffers, random state and flags stay as they are, and nothing is left behind. Backward
    passes and the recomputation of checkpointed activations add nothing. Compiled modules
    run eagerly inside the block, because hooks added after compilation do not run.

    Raises:
        SnnprofError: an unknown layer type, or (from inside the block) an input whose
            samples cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] = LAYER_TYPES,
        batch_dim: int = 0,
        timesteps: int | None = None,
    ) -> None:
        for name in layers:
            if name not in LAYER_TYPES:
                raise known("layer type", name, LAYER_TYPES)
        self._model = model
        self._counted: dict[Callable[..., Any], str] = {}
        if "conv" in layers:
            self._counted |= CONVOLUTIONS
        if "linear" in layers:
            self._counted |= LINEAR
        self._new_axis = partial(SampleAxis, model, batch_dim, timesteps)
        self._active: ExitStack | None = None
        self._clear()

    def _clear(self) -> None:
        self._axis = self._new_axis()
        self._scratch = Scratch()
        self._names = module_names(self._model)
        self._owners = parameter_owners(self._model)
        self._tallies: dict[tuple[str, str, torch.Size], Tally] = {}
        self._recent: dict[str, Tally] = {}
        self._entered: set[str] = set()
        self._uncounted: dict[tuple[str, str], None] = {}
        self._stack: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
        self._open = False
        self._failed = False
        self._thread = threading.get_ident()

    def __enter__(self) -> SopCounter:
        if self._active is not None:
            raise SnnprofError("this counter is already counting: make another one to nest them")
        self._clear()
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            self._hook(stack)
            watched = (*CONVOLUTIONS, *LINEAR, *UNCOUNTED)
            stack.enter_context(Capture(watched, self._observe))
            self._active = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._active is not None:
            self._active.close()
        self._active = None

    def _hook(self, stack: ExitStack) -> None:
        root = self._model
        handles = [
            root.register_forward_pre_hook(self._begin_root, with_kwargs=True),
            root.register_forward_hook(self._end_root),
        ]
        for module, name in self._names.items():
            if isinstance(module, torch.jit.ScriptModule):
                self._uncounted[(name, "TorchScript: runs outside Python, no hook sees it")] = None
            elif module is not root and _may_multiply(module):
                enter, leave = partial(self._enter, name), partial(self._leave, name)
                handles.append(module.register_forward_pre_hook(enter))
                handles.append(module.register_forward_hook(leave))
        for handle in handles:
            stack.callback(handle.remove)

    def _here(self) -> bool:
        """True in the forward pass of the counter's own thread."""
        return _graph_task() == -1 and threading.get_ident() == self._thread

    def _begin_root(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _graph_task() != -1:
            return
        if threading.get_ident() != self._thread:
            self._uncounted[
                (self._names[root], "called from a thread other than the counter's")
            ] = None
            return
        self._failed |= self._open
        self._axis.begin_call(args, kwargs)
        self._stack = [(self._names[root], root, args)]
        self._open = True

    def _end_root(self, root: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._here():
            self._open = False

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._open and self._here():
            self._stack.append((name, module, args))
            self._entered.add(name)

    def _leave(self, name: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self._open and self._here():
            # More than one is left behind where a parent caught an exception of its child.
            while self._stack and self._stack.pop()[1] is not module:
                pass

    def _observe(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if not self._open or not self._here():
            return
        where, module, given = self._stack[-1]
        op = self._counted.get(func)
        if op is None:
            self._uncounted[(where, _reason(func))] = None
            return
        with torch._C.DisableTorchFunction():  # a counter around this one must not see ours
            x, weight = operands(args, kwargs)
            call = linear_call(func, args, kwargs)
            call, x = unpadded(call, module, given[0] if given else None, x)
            tally = self._recent.get(where)
            if tally is None or not tally.is_of(op, weight):
                tally = self._recent[where] = self._tally(where, module, op, weight)
            tally.add(call, x, weight, self._axis.at(x))

    def _tally(self, where: str, module: nn.Module, op: str, weight: Tensor) -> Tally:
        name = where
        if not isinstance(module, _LAYER_MODULES):
            name = self._owners.name_of(weight) or where
        key = (name, op, weight.shape)
        tally = self._tallies.get(key)
        if tally is None:
            taken = sum(t.name.split("#")[0] == name for t in self._tallies.values())
            shown = f"{name}#{taken + 1}" if taken else name
            tally = Tally(shown, op, self._axis.timesteps or 1, self._scratch)
            self._tallies[key] = tally
        return tally

    def result(self) -> CountResult:
        """What has been counted so far. Waits for the device.

        Raises:
            SnnprofError: the model was never called, the last sequence is not finished, or
                a call of the model failed half-way.

        Warns:
            RuntimeWarning: a layer received NaN or infinity; ``non_finite`` names it.
        """
        self._axis.check_complete()
        if self._failed or self._open:
            raise SnnprofError(
                "a call of the model failed inside the counter, so its counts are of half a "
                "forward pass: count again"
            )
        rows: list[LayerCount] = []
        not_counted = list(self._uncounted)
        non_finite: list[str] = []
        for tally in self._tallies.values():
            row, finite, remark = tally.read()
            if not rows and row.input_kind == Kind.REAL:
                row = dataclasses.replace(row, stem=True)
            rows.append(row)
            if not finite:
                non_finite.append(row.name)
            if remark:
                not_counted.append((row.name, remark))
        not_counted += self._silent_layers()
        if non_finite:
            layers = ", ".join(non_finite)
            message = f"NaN or infinity in the input of {layers}: its counts mean little"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return CountResult(
            rows=tuple(rows),
            samples=self._axis.samples,
            timesteps=self._axis.timesteps,
            not_counted=tuple(not_counted),
            non_finite=tuple(non_finite),
        )

    def _silent_layers(self) -> list[tuple[str, str]]:
        counted = {name for name, _, _ in self._tallies}
        listed = {name for name, _ in self._uncounted}
        silent = []
        for module, name in self._names.items():
            if not isinstance(module, _LAYER_MODULES) or name in counted or name in listed:
                continue
            reason = "called, but no convolution or linear operation was seen in it"
            silent.append((name, reason if name in self._entered else "never called"))
        return silent


def _reason(func: Callable[..., Any]) -> str:
    if func in UNCOUNTED:
        return f"{UNCOUNTED[func]}: not a convolution or linear operation"
    op = CONVOLUTIONS.get(func) or LINEAR[func]
    return f"{op}: left out by layers="


def _may_multiply(module: nn.Module) -> bool:
    """False for leaves without a weight (poolings, most neurons) and torch's own norms.

    A functional product in such a leaf is still seen, under its parent's name.
    """
    if isinstance(module, _LAYER_MODULES) or next(module.children(), None) is not None:
        return True
    return any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))

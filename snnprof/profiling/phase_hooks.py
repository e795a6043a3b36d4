"""Forward, backward and optimiser of a step that is only seen from outside, by hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from snnprof.core.forward_hooks import Hooks
from snnprof.profiling.phase_timer import PhaseTimer

_graph_task = torch._C._current_graph_task_id  # -1 outside the backward pass


class PhaseHooks:
    """Hooks that tell a timer of the phases of a step, on only while they are :meth:`attached`.

    Forward is a call of the model. A backward pass begins where gradients reach the model's
    output, and ends with the pass. Optimiser is a call of its ``step``. A forward pass that runs
    again inside a backward pass, for its activations, is part of that.

    Args:
        timer: is told.
        model: its calls are watched; None for no forward and backward.
        optimizer: its steps are watched; None for none.

    Attributes:
        backward_passes, optimizer_steps: of the last step that did not fail.
    """

    def __init__(
        self, timer: PhaseTimer, model: nn.Module | None, optimizer: Optimizer | None
    ) -> None:
        self._timer = timer
        self._model = model
        self._optimizer = optimizer
        self._last_pass: int | None = None  # torch's number of it
        self._handles: list[RemovableHandle] = []
        self._passes = self._updates = 0
        self.backward_passes = self.optimizer_steps = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Watch one step."""
        self._passes = self._updates = 0
        hooks, handles = Hooks(), self._handles
        if self._model is not None:
            hooks.before(self._model, self._forward_begins)
            hooks.after(self._model, self._forward_ends, always=True)
        if self._optimizer is not None:
            handles.append(self._optimizer.register_step_pre_hook(self._update_begins))
            handles.append(self._optimizer.register_step_post_hook(self._update_ends))
        try:
            yield
        finally:
            hooks.remove()
            while handles:
                handles.pop().remove()
        self.backward_passes, self.optimizer_steps = self._passes, self._updates

    def _forward_begins(self, *_: object) -> None:
        if _graph_task() == -1:
            self._timer.begin("forward")

    def _forward_ends(self, module: nn.Module, args: object, out: Any) -> None:
        if _graph_task() != -1:
            return
        self._timer.end("forward")
        for leaf in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                self._handles.append(leaf.grad_fn.register_prehook(self._backward_begins))

    def _backward_begins(self, *_: object) -> None:
        number = _graph_task()
        if number != self._last_pass:
            self._last_pass = number
            self._passes += 1
            self._timer.begin("backward")
            Variable._execution_engine.queue_callback(self._backward_ends)

    def _backward_ends(self) -> None:
        self._timer.end("backward")

    def _update_begins(self, *_: object) -> None:
        self._updates += 1
        self._timer.begin("optimizer")

    def _update_ends(self, *_: object) -> None:
        self._timer.end("optimizer")

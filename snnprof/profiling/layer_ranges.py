"""Ranges in a profiler's trace, named by layer and time step."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.forward_hooks import Hooks
from snnprof.core.module_names import module_names
from snnprof.core.running_modules import RunningModules
from snnprof.counting.samples import StatesItsSequence
from snnprof.spiking.neuron import neurons_of

Mark = Callable[[str], AbstractContextManager[Any]]


class LayerRanges:
    """Marks every call of a layer inside its ``with`` block: ``"conv1 t=2"``, ``"fc t=0..3"``.

    Forward hooks open and close the ranges; they are gone on exit, also after an exception.
    Backward passes (which run forward hooks again where activations are recomputed), other
    threads and the inside of compiled modules are not marked.

    Args:
        model: any module.
        timesteps: T.
        steps_per_call: time steps in one call of the model, where it does not say so itself
            (the networks of :mod:`snnprof.models` do): 1, or T for a multi-step model.
        mark: opens a range of that name; injected by tests.

    Raises:
        SnnprofError: T or steps_per_call that cannot be, or another T than the model's.
    """

    def __init__(
        self,
        model: nn.Module,
        timesteps: int,
        steps_per_call: int = 1,
        mark: Mark = torch.profiler.record_function,
    ) -> None:
        self._model = model
        self._names = module_names(model)
        self._mark = mark
        self._now = _Now(model, timesteps, steps_per_call)
        self._running = RunningModules(self._begin, self._end)
        self._calls: Counter[nn.Module] = Counter()  # in the present call of the model
        self._calls_before: Counter[nn.Module] = Counter()  # in the call before it
        self._marked: set[nn.Module] = set()
        self._hooks = Hooks()

    def __enter__(self) -> LayerRanges:
        self._running.attach(_markable(self._model), self._hooks)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hooks.remove()
        self._running.end_all()

    def next_step(self) -> None:
        """Say that a training step has ended: the next call of the model is at t=0.

        Only needed by models without neurons of ours, which know their time step.
        """
        self._now.restart()

    def not_marked(self) -> tuple[str, ...]:
        """Layers (modules without children) that no range was seen of."""
        leaves = (module for module in self._names if next(module.children(), None) is None)
        return tuple(self._names[leaf] for leaf in leaves if leaf not in self._marked)

    def _begin(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AbstractContextManager[Any]:
        x = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        if module is self._model and not self._running:
            self._calls, self._calls_before = Counter(), self._calls
            self._now.begin_call(x)
        inside = module is self._model or bool(self._running)
        label = f"{self._names[module]} {self._when(module, x)}" if inside else self._names[module]
        self._calls[module] += 1
        self._marked.add(module)
        span = self._mark(label)
        span.__enter__()
        return span

    def _end(self, module: nn.Module, span: AbstractContextManager[Any]) -> None:
        span.__exit__(None, None, None)

    def _when(self, module: nn.Module, x: Tensor | None) -> str:
        now = self._now
        if now.steps == 1 or module is self._model or now.holds_all(x):
            return _range(now.first, now.steps)
        # The model loops inside: a layer that ran once per time step in the call before.
        looped = self._calls_before[module] == now.steps and self._calls[module] < now.steps
        return _range(*((now.first + self._calls[module], 1) if looped else (now.first, now.steps)))


class _Now:
    """Which time steps the present call of the model runs.

    Attributes:
        first: the first of them.
        steps: how many.
    """

    def __init__(self, model: nn.Module, timesteps: int, steps_per_call: int) -> None:
        if timesteps < 1:
            raise SnnprofError(f"timesteps={timesteps}: must be a whole number, at least 1")
        if not 1 <= steps_per_call <= timesteps:
            raise SnnprofError(
                f"steps_per_call={steps_per_call}: must be from 1 to timesteps={timesteps}"
            )
        self._stated = model if isinstance(model, StatesItsSequence) else None
        if self._stated is not None and self._stated.timesteps != timesteps:
            raise SnnprofError(
                f"timesteps={timesteps}, but the model was made for {self._stated.timesteps}"
            )
        self._neurons = neurons_of(model)
        self._timesteps = timesteps
        self._steps_per_call = steps_per_call
        self._done = 0
        self._batch: int | None = None
        self.first = 0
        self.steps = steps_per_call

    def restart(self) -> None:
        self._done = 0

    def begin_call(self, x: Tensor | None) -> None:
        self.steps = self._steps_per_call
        if self._stated is not None and x is not None:
            self.steps, self._batch = self._stated.steps_and_batch(x)
        done = max((n.steps_run for n in self._neurons), default=self._done)
        # Neurons at the end of their sequence are about to be put back to rest.
        self.first = done if done + self.steps <= self._timesteps else 0
        self._done = (self.first + self.steps) % self._timesteps

    def holds_all(self, x: Tensor | None) -> bool:
        """True if a layer's input is [K * B, ...] or [K, B, ...], all K time steps."""
        if x is None or self._batch is None:
            return False
        flat = x.dim() > 0 and x.shape[0] == self.steps * self._batch
        return flat or (x.dim() > 1 and tuple(x.shape[:2]) == (self.steps, self._batch))


def _range(first: int, steps: int) -> str:
    return f"t={first}" if steps == 1 else f"t={first}..{first + steps - 1}"


def _markable(module: nn.Module) -> Iterator[nn.Module]:
    """Modules whose hooks run: not those that torch.compile or TorchScript made a whole of."""
    seen: set[nn.Module] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in seen or isinstance(current, torch.jit.ScriptModule):
            continue
        seen.add(current)
        if current._compiled_call_impl is not None:  # by Module.compile()
            continue
        yield current
        if not _is_compiled(current):
            waiting.extend(current.children())


def _is_compiled(module: nn.Module) -> bool:
    """True for what torch.compile(module) returns; importing its class is slow, so look first."""
    loaded = sys.modules.get("torch._dynamo.eval_frame")
    return loaded is not None and isinstance(module, loaded.OptimizedModule)

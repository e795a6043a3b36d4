"""The cost of anybody's step: a function, or the body of a loop, seen from outside."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import ParamSpec, TypeVar, overload

import torch
from torch import nn
from torch.optim import Optimizer

from snnprof.core.environment import choose_device
from snnprof.core.errors import SnnprofError
from snnprof.profiling.observed_memory import observe_memory, remember_blocks
from snnprof.profiling.phase_hooks import PhaseHooks
from snnprof.profiling.phase_timer import Clock, PhaseTimer
from snnprof.profiling.profile import REPEATS, WARMUP
from snnprof.profiling.step_memory import optimizer_state, static_bytes
from snnprof.results import StepProfile

Step = Callable[[], object]
_NO_MEMORY = "The step touched no memory of device {!r}: if it runs on another one, name that one."
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


@overload
def profile(
    step: Step,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    device: str = "auto",
    samples: int | None = None,
    phases: bool = True,
    model: nn.Module | None = None,
    optimizer: Optimizer | None = None,
    clock: Clock = time.perf_counter,
) -> StepProfile: ...


@overload
def profile(
    step: None = None,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    device: str = "auto",
    samples: int | None = None,
    phases: bool = True,
    model: nn.Module | None = None,
    optimizer: Optimizer | None = None,
    clock: Clock = time.perf_counter,
) -> StepProfiler: ...


def profile(
    step: Step | None = None,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    device: str = "auto",
    samples: int | None = None,
    phases: bool = True,
    model: nn.Module | None = None,
    optimizer: Optimizer | None = None,
    clock: Clock = time.perf_counter,
) -> StepProfile | StepProfiler:
    """Profile any training or inference step: ``profile(lambda: train(batch))``.

    The step runs ``warmup`` times, once for its memory, and ``repeats`` times for its time. It
    trains as it always does; nothing of it is undone. Peak memory counts the tensors from before
    that the step touches or frees, and what it allocates; see docs/profiling.md.

    Args:
        step: a function without arguments that does one step. None for a loop of your own:
            a :class:`StepProfiler` is returned.
        repeats: timed steps; in a loop of your own, as many as it runs.
        warmup: steps before memory and time are taken. With none the first step is measured as
            it comes: before the optimiser has its state, say.
        device: "auto", "cpu" or "cuda"; "auto" is the model's device if there is a model.
        samples: how many a step takes, for samples per second.
        phases: tell forward, backward and optimiser apart, by hooks on the model and the
            optimiser as far as they are given. False takes no hooks.
        model: is called by the step.
        optimizer: is stepped by the step; with both, static and activation bytes are known.
        clock: seconds as a float, for the CPU.

    Returns:
        Every repetition's seconds, and the bytes of one step that was not timed.

    Raises:
        SnnprofError: a step that is no function without arguments; repeats or samples below 1,
            warmup below 0; a model on another device; torch's profiler is running. What the
            step itself raises passes unchanged.
    """
    check_least("repeats", repeats, 1)
    profiler = StepProfiler(
        warmup=warmup,
        device=device,
        samples=samples,
        phases=phases,
        model=model,
        optimizer=optimizer,
        clock=clock,
    )
    if step is None:
        return profiler
    _check_step(step)
    for _ in range(warmup + 1 + repeats):
        with profiler.step():
            step()
    return profiler.result()


class StepProfiler:
    """Profiles the steps of a loop: ``with profiler.step(): ...`` around each of them.

    Or ``@profiler`` on the function that does a step. The first ``warmup`` steps are not timed,
    the next one is measured for its memory, all others are timed. Between the steps nothing is
    left on the model or the optimiser. A step that raises does not count.

    Args: see :func:`profile`.
    """

    def __init__(
        self,
        *,
        warmup: int = WARMUP,
        device: str = "auto",
        samples: int | None = None,
        phases: bool = True,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        check_least("warmup", warmup, 0)
        if samples is not None:
            check_least("samples", samples, 1)
        for name, value, kind in (
            ("model", model, nn.Module),
            ("optimizer", optimizer, Optimizer),
        ):
            if value is not None and not isinstance(value, kind):
                raise SnnprofError(
                    f"{name} is a {type(value).__name__}: give a {kind.__module__}.{kind.__name__}"
                )
        self._warmup = warmup
        self._device = device_of(model, device)
        self._samples = samples
        self._model = model
        self._optimizer = optimizer
        self._timer = PhaseTimer(self._device, clock)
        self._hooks = PhaseHooks(self._timer, model, optimizer) if phases else None
        self._steps = 0
        self._running = False
        # The memory of the measured step; times and counts are added at the end.
        self._profile: StepProfile | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step.

        Raises:
            SnnprofError: inside another one.
        """
        if self._running:
            raise SnnprofError(
                "profiler.step() inside a step: leave one `with profiler.step():` before the next"
            )
        self._running = True
        try:
            with self._stage():
                yield
            self._steps += 1
        finally:
            self._running = False

    def __call__(self, function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        """Decorator: each call of the function is one step."""

        @functools.wraps(function)
        def one_step(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            with self.step():
                return function(*args, **kwargs)

        return one_step

    def _stage(self) -> AbstractContextManager[None]:
        if self._steps < self._warmup:
            return remember_blocks()
        if self._steps == self._warmup:
            return self._measure_memory()
        return self._time()

    @contextmanager
    def _time(self) -> Iterator[None]:
        with self._hooks.attached() if self._hooks else nullcontext(), self._timer.step():
            yield

    @contextmanager
    def _measure_memory(self) -> Iterator[None]:
        with observe_memory(self._device, self._standing) as memory:
            yield
        static = None
        if self._model is not None and self._optimizer is not None:
            static = static_bytes(self._model, self._optimizer)
        self._profile = StepProfile(
            mode=None,
            device=self._device.type,
            batch_size=self._samples,
            timesteps=None,
            forward_s=(),
            backward_s=(),
            optimizer_s=(),
            step_s=(),
            peak_bytes=memory.peak_bytes,
            reserved_bytes=memory.reserved_bytes,
            static_bytes=static,
            activation_bytes=None if static is None else memory.peak_bytes - static,
            backward_passes=None,
            optimizer_steps=None,
            notes=() if memory.peak_bytes else (_NO_MEMORY.format(self._device.type),),
        )

    def _standing(self) -> Iterator[object]:
        if self._model is not None:
            yield from chain(self._model.parameters(), self._model.buffers())
        if self._optimizer is not None:
            yield from optimizer_state(self._optimizer)

    def result(self) -> StepProfile:
        """The profile of the steps so far. Waits for the GPU.

        Raises:
            SnnprofError: none was timed yet.
        """
        step_s = self._timer.seconds()
        if self._profile is None or not step_s:
            raise SnnprofError(
                f"{self._steps} steps ran whole, {self._warmup + 2} are needed: {self._warmup} to "
                "warm up, one for memory, one for time; run more, or give a smaller warmup"
            )
        found = replace(self._profile, step_s=step_s)
        if self._hooks is None:
            return found
        seconds = {name: self._timer.seconds(name) for name in ("forward", "backward", "optimizer")}
        unseen = (
            ("forward", self._model, "called the model"),
            ("optimizer", self._optimizer, "stepped the optimiser"),
        )
        return replace(
            found,
            forward_s=seconds["forward"],
            backward_s=seconds["backward"],
            optimizer_s=seconds["optimizer"],
            backward_passes=None if self._model is None else self._hooks.backward_passes,
            optimizer_steps=None if self._optimizer is None else self._hooks.optimizer_steps,
            notes=found.notes
            + tuple(
                f"The step never {did} that was given ({type(watched).__name__}): no such time."
                for name, watched, did in unseen
                if watched is not None and not seconds[name]
            ),
        )


def device_of(model: nn.Module | None, name: str) -> torch.device:
    """The device of ``device=``; "auto" is the model's own, if it has tensors.

    Raises:
        SnnprofError: as :func:`choose_device`; or the model is somewhere else.
    """
    tensors = () if model is None else chain(model.parameters(), model.buffers())
    found = sorted({tensor.device.type for tensor in tensors})
    if name == "auto" and len(found) == 1:
        return choose_device(found[0])
    where = choose_device(name)
    if found and found != [where.type]:
        raise SnnprofError(
            f"the model is on {' and '.join(found)}, and device={name!r}: move it to one device, "
            "and name that one"
        )
    return where


def check_least(name: str, value: object, least: int) -> None:
    """Raise SnnprofError for what is no whole number, or is below the least."""
    if not isinstance(value, int) or value < least:
        raise SnnprofError(f"{name}={value!r}: must be a whole number, at least {least}")


def _check_step(step: object) -> None:
    if isinstance(step, nn.Module):
        raise SnnprofError(
            f"step is a model ({type(step).__name__}): give a function that does one step, such as "
            "lambda: model(x), or use snnprof.profile_inference(model, batch)"
        )
    if not callable(step):
        raise SnnprofError(
            f"step is a {type(step).__name__}: give a function without arguments that does one "
            "step, such as lambda: train(batch)"
        )
    name = getattr(step, "__name__", type(step).__name__)
    if inspect.isgeneratorfunction(step) or inspect.iscoroutinefunction(step):
        raise SnnprofError(f"step {name!r}: a call of it only makes a generator: give a function")
    try:
        signature = inspect.signature(step)
    except ValueError:  # written in C, and does not tell
        return
    try:
        signature.bind()
    except TypeError:
        raise SnnprofError(
            f"step {name!r} takes arguments, {signature}: wrap it, as in "
            "profile(lambda: step(batch))"
        ) from None

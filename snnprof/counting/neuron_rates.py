"""Firing rates: the share of non-zero outputs of every layer of neurons, from what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.forward_hooks import Hooks
from snnprof.counting.faults import failed
from snnprof.counting.module_tracker import ModuleTracker
from snnprof.counting.operation_mode import unseen_by_others, why_not_countable
from snnprof.counting.output_gradients import GradientTally, GradientWatch
from snnprof.counting.row_order import Arrange
from snnprof.counting.samples import SampleAxis
from snnprof.counting.scan import count_nonzeros
from snnprof.counting.tensors import on_host
from snnprof.counting.time_steps import ModelCall, Steps, TimeSteps
from snnprof.results import NeuronRate
from snnprof.spiking.neuron_equations import equations_of

_NOT_KNOWN = Steps(0, 1)


class NeuronTally:
    """Non-zero outputs of one layer of neurons over a measurement.

    Args:
        name: the layer's name.
        timesteps: T where it is known, else None.
        gradient: of the layer's inputs; None where it is not looked at.

    Attributes:
        time_steps: how the time steps leave the layer.
        gradient: as given.
    """

    def __init__(
        self, name: str, timesteps: int | None, gradient: GradientTally | None = None
    ) -> None:
        self.name = name
        self.gradient = gradient
        self.time_steps = TimeSteps(timesteps)
        # Per time step. On a device a tensor, which is fetched at the end.
        self._nonzeros: list[int | Tensor] = [0] * self.time_steps.period
        self._outputs = 0
        self._calls = 0
        self.rows = 0  # outputs of one sample at one time step

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._outputs == 0

    def add(self, spikes: Tensor, model_call: ModelCall) -> None:
        """Count one call's output, part of that call of the model."""
        first, length, outer = self.time_steps.locate(spikes.shape, model_call) or _NOT_KNOWN
        counts = count_nonzeros(spikes, outer, length)
        if counts is None:
            fired = spikes.bool()  # of which no gradient is kept
            parts = _step_by_step(fired, length, outer) if length > 1 else (fired,)
            counts = [_number_of_true(part) for part in parts]
        for place, count in enumerate(counts, first):
            self._nonzeros[place % self.time_steps.period] += count
        self._outputs += spikes.numel()
        self._calls += 1

    def read(self) -> NeuronRate:
        """The rates so far. Waits for the device."""
        by_step = [int(count) for count in self._nonzeros]
        nonzeros = sum(by_step)
        return NeuronRate(
            name=self.name,
            firing_rate=nonzeros / self._outputs,
            firing_rate_by_step=self.time_steps.rates(by_step, self._outputs),
            outputs=self._outputs,
            nonzeros=nonzeros,
            calls=self._calls,
            gradient=None if self.gradient is None else self.gradient.read(),
        )


def _step_by_step(fired: Tensor, length: int, outer: int) -> tuple[Tensor, ...]:
    """What fired in each time step: views, for a copy costs more than the count."""
    if outer == 1:
        rows = fired if len(fired) == length else fired.unflatten(0, (length, -1))
        return rows.unbind(0)
    rows = fired if len(fired) == outer else fired.unflatten(0, (outer, length))
    return rows.unbind(1)


def _number_of_true(fired: Tensor) -> int | Tensor:
    """On the host numpy counts, twenty times as fast as torch."""
    if on_host(fired):
        return int(np.count_nonzero(fired.numpy()))
    return fired.count_nonzero()


def _first(out: Any) -> Any:
    """The spikes, of (spikes, state) too."""
    return out[0] if isinstance(out, list | tuple) and out else out


def _current(inputs: tuple[Any, ...]) -> Any:
    """The input that charges the membrane, which comes first."""
    return inputs[0] if inputs else None


def _why_not_countable(out: Any) -> str | None:
    """Why this output of a neuron cannot be counted, or None."""
    spikes = _first(out)
    if not isinstance(spikes, Tensor):
        return f"its output is a {type(spikes).__name__}, no tensor"
    reason = why_not_countable(spikes, spikes)
    return reason and reason.replace("operand", "output").replace("input", "output")


class NeuronRates:
    """Firing rates of the neuron layers of a model.

    A layer of neurons is what :func:`~snnprof.spiking.neuron_equations.equations_of` knows, and
    no integrator. One inside another is part of it. Of several outputs, as (spikes, state), the
    first is counted.

    Args:
        names: the model's modules and their names.
        tracker: where the model's forward pass is.
        axis: what its calls hold.
        arrange: decides how the time steps leave a layer.
        watch: of the gradients of inputs; None where they are not looked at.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        tracker: ModuleTracker,
        axis: SampleAxis,
        arrange: Arrange,
        watch: GradientWatch | None = None,
    ) -> None:
        self._names = names
        self._tracker = tracker
        self._axis = axis
        self._arrange = arrange
        self._watch = watch
        self._tallies: dict[str, NeuronTally] = {}
        self.not_counted: dict[tuple[str, str], None] = {}

    def attach(self, undo: ExitStack) -> None:
        """Put a hook on every layer of neurons; ``undo`` takes them off.

        Raises:
            SnnprofError: a function that was registered for a neuron returned something else.
        """
        hooks = Hooks(lambda module, error: self._list(self._names[module], failed(error)))
        undo.callback(hooks.remove)
        inside: set[nn.Module] = set()
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for module, name in self._names.items():
                dims = None if module in inside else self._leading_dims(module, name)
                if dims is not None:
                    hooks.after(module, self._hook(name, dims))
                    inside.update(module.modules())

    def _leading_dims(self, module: nn.Module, name: str) -> int | None:
        """How many dimensions of its output may be time and samples; None: it is no neuron."""
        try:
            equations = equations_of(module)
        except SnnprofError:
            raise
        except Exception as error:  # a fault of what describes it is not the user's crash
            self._list(name, f"its equations failed ({type(error).__name__}: {error})")
            return None
        if equations is None or not equations.spiking:
            return None
        return 2 if equations.multi_step else 1

    def _list(self, name: str, reason: str) -> None:
        self.not_counted[(name, f"firing rate: {reason}")] = None

    def _hook(self, name: str, dims: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            if not self._tracker.in_call:
                return
            try:
                with unseen_by_others(), torch._C.DisableTorchFunction():
                    self._count(name, dims, inputs, out)
            except Exception as error:
                self._list(name, _why_not_countable(out) or failed(error))

        return count

    def _count(self, name: str, dims: int, inputs: tuple[Any, ...], out: Any) -> None:
        spikes = _first(out)
        # On the host what has no values fails at once.
        reason = None if isinstance(spikes, Tensor) and spikes.is_cpu else _why_not_countable(out)
        if reason is not None:
            self._list(name, reason)
            return
        tally = self._tallies.get(name)
        if tally is None:
            tally = NeuronTally(name, self._axis.timesteps, self._gradient(name))
            self._tallies[name] = tally
        self._arrange(tally.time_steps, spikes, dims)
        tally.add(spikes, self._axis.present)
        tally.rows += math.prod(spikes.shape[:dims])
        if tally.gradient is not None:
            tally.gradient.see(_current(inputs))

    def _gradient(self, name: str) -> GradientTally | None:
        if self._watch is None:
            return None
        return GradientTally(self._watch, lambda why: self.not_counted.setdefault((name, why)))

    def doubt_steps(self, samples: int, timesteps: int | None) -> str | None:
        """The doubt in words that T is right; None where a layer of neurons runs a multiple of it.

        Args:
            samples: counted so far.
            timesteps: T.
        """
        runs = {
            name: tally.rows // samples
            for name, tally in self._tallies.items()
            if not tally.empty and tally.rows % samples == 0
        }
        if not runs or not timesteps or any(ran % timesteps == 0 for ran in runs.values()):
            return None
        name, ran = next(iter(runs.items()))
        return (
            f"timesteps={timesteps}, but {name} ran {ran} time steps for every sample, and no "
            f"layer of neurons a multiple of {timesteps}: give the T of the network"
        )

    def read(self) -> tuple[NeuronRate, ...]:
        """A row per layer of neurons, in order of first call."""
        with unseen_by_others(), torch._C.DisableTorchFunction():
            return tuple(self._read())

    def _read(self) -> Iterator[NeuronRate]:
        for name, tally in self._tallies.items():
            if tally.empty:
                continue
            try:
                yield tally.read()
            except Exception as error:
                self._list(name, failed(error, "reading it"))

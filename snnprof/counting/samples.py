"""How many samples and time steps a call of the root module carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.counting.time_steps import Steps


@runtime_checkable
class StatesItsSequence(Protocol):
    """A model that says itself what its input holds (the networks of snnprof.models do)."""

    timesteps: int

    def steps_and_batch(self, x: Tensor) -> tuple[int, int]:
        """Time steps and samples that one call with x runs."""
        ...


_ONE_STEP = Steps(0, 1)


class SampleAxis:
    """Reads samples and time steps off the root's input, call by call.

    Args:
        root: the model.
        batch_dim: the input's batch dimension; 1 means [T, B, ...].
        timesteps: T, if the root is called once per time step.

    A root that states its sequence is believed, whatever ``batch_dim`` says.

    Attributes:
        timesteps: T, or None where it is not known.
        samples: samples begun so far.
        calls: calls of the root so far.
    """

    def __init__(self, root: object, batch_dim: int, timesteps: int | None) -> None:
        if timesteps is not None and (not isinstance(timesteps, int) or timesteps < 1):
            raise SnnprofError(f"timesteps={timesteps}: must be a whole number, at least 1")
        if not isinstance(batch_dim, int) or batch_dim < 0:
            raise SnnprofError(f"batch_dim={batch_dim}: must be a dimension, counted from 0")
        self._root = root if isinstance(root, StatesItsSequence) else None
        self._batch_dim = batch_dim
        self._stepwise = timesteps is not None
        self.timesteps = timesteps
        self.samples = 0
        self.calls = 0
        self._present = Steps(0, 1)  # of the present call
        self._batch = 0
        self._next = 0

    def begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of one call of the root.

        Raises:
            SnnprofError: no tensor in the input, no such batch dimension, or another T or
                batch size than this sequence began with.
        """
        x = next(_tensors((*args, *kwargs.values())), None)
        if x is None:
            raise SnnprofError("the model was called without a tensor: no batch to read")
        steps, batch = self._steps_and_batch(x)
        self.calls += 1
        self._present = Steps(self._next, steps)
        if self._next == 0:
            self.samples += batch
        elif batch != self._batch:
            raise SnnprofError(
                f"the batch changed from {self._batch} to {batch} samples at time step "
                f"{self._next} of {self.timesteps}: call the model timesteps={self.timesteps} "
                "times for every batch"
            )
        self._batch = batch
        if self.timesteps is not None:
            self._next = (self._next + steps) % self.timesteps

    def _steps_and_batch(self, x: Tensor) -> tuple[int, int]:
        if self._root is not None:
            steps, batch = self._root.steps_and_batch(x)
            self._agree(self._root.timesteps)
            return steps, batch
        if x.dim() <= self._batch_dim:
            raise SnnprofError(
                f"batch_dim={self._batch_dim}, but the model's input has shape {tuple(x.shape)}"
            )
        batch = x.shape[self._batch_dim]
        if self._stepwise or self._batch_dim != 1:
            return 1, batch
        self._agree(x.shape[0])
        return x.shape[0], batch

    def _agree(self, timesteps: int) -> None:
        if self.timesteps is None and self.calls == 0:
            self.timesteps = timesteps
        if self.timesteps != timesteps:
            raise SnnprofError(
                f"the model ran {timesteps} time steps where {self.timesteps} were expected: "
                "count sequences of different length with separate counters"
            )

    @property
    def several(self) -> bool:
        """True if the present call holds several time steps."""
        return self._present.length > 1

    def steps_of(self, x: Tensor) -> Steps | None:
        """The time steps in a layer's input; None if unknown.

        Several steps are recognised where the first dimension is T * B, or the first two are
        T and B: time-major, as every multi-step library lays it out.
        """
        if self.timesteps is None:
            return _ONE_STEP
        steps = self._present.length
        if steps == 1:
            return self._present
        rows = x.shape[0]
        flat = rows == steps * self._batch
        split = rows == steps and x.dim() > 2 and x.shape[1] == self._batch
        return self._present if flat or split else None

    def check_complete(self) -> None:
        """Raise SnnprofError where nothing ran, or the last sequence is not finished."""
        if self.calls == 0:
            raise SnnprofError("the model was never called inside the counter: nothing to report")
        if self.samples == 0:
            raise SnnprofError("the model was only called with empty batches: nothing to report")
        if self._next != 0:
            raise SnnprofError(
                f"the model was called {self.calls} times with timesteps={self.timesteps}: "
                f"the last sequence stopped after {self._next} steps; call it "
                f"{self.timesteps} times for every batch"
            )


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors(value)

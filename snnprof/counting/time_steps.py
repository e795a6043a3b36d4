"""The time steps that a row's inputs belong to, call by call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """Consecutive time steps in an input whose rows are [outer, length, inner].

    Attributes:
        first: the first step.
        length: their number.
        outer: 1 where the rows are time-major, the batch size where they are batch-major.
    """

    first: int
    length: int
    outer: int = 1


@dataclass(slots=True)
class ModelCall:
    """The present call of the model.

    Attributes:
        number: counted from 1.
        steps: the time steps that it runs; one where T is not known.
        batch: its samples.
    """

    number: int
    steps: Steps
    batch: int


class Arrangement(Enum):
    """How the time steps of one call of the model reach a layer."""

    TIME_MAJOR = "in one input, [T, B, ...] or T * B rows"
    BATCH_MAJOR = "in one input, [B, T, ...] or B * T rows"
    LOOPED = "in T calls of B rows"
    UNKNOWN = "unknown"


class TimeSteps:
    """Firing rates per time step of one row, given as long as the steps are known.

    Args:
        timesteps: T where it is known, else None.
    """

    def __init__(self, timesteps: int | None) -> None:
        self.period = timesteps or 1
        self.known = timesteps is not None
        self._arrangement: Arrangement | None = None
        self._of_one_sample = False
        self._model_call = 0  # the last one of several time steps
        self._calls = 0  # in it
        self._length = 0  # its time steps

    def undecided(self, call: ModelCall) -> bool:
        """True if it has to be told how the steps of this call of the model reach the row."""
        if call.steps.length == 1 or not self.known:
            return False
        return self._arrangement is None or (self._of_one_sample and call.batch > 1)

    def arrange(self, arrangement: Arrangement, call: ModelCall) -> None:
        """Decide it; a single sample's rows are alike in either order, and decide for it only."""
        self._arrangement = arrangement
        self._of_one_sample = call.batch == 1

    def locate(self, shape: torch.Size, call: ModelCall) -> Steps | None:
        """Take note of one call of the row's operation.

        Args:
            shape: the input's.
            call: the call of the model that it is part of.

        Returns:
            the time steps in the input; None if unknown.
        """
        if call.steps.length == 1:
            return call.steps
        again = call.number == self._model_call
        if not again:
            self._end_model_call()
            self._model_call, self._calls, self._length = call.number, 0, call.steps.length
        self._calls += 1
        steps = self._steps(shape, call)
        # A second time in the same call of the model, it may well hold one step each time.
        if steps is None or (again and steps.length > 1):
            self.known = False
        return steps

    def _steps(self, shape: torch.Size, call: ModelCall) -> Steps | None:
        (first, length, _), batch = call.steps, call.batch
        if self._arrangement is Arrangement.LOOPED:
            if shape[0] != batch or self._calls > length:
                return None
            return Steps((first + self._calls - 1) % self.period, 1)
        rows = (length, batch) if self._arrangement is Arrangement.TIME_MAJOR else (batch, length)
        if self._arrangement is Arrangement.UNKNOWN:
            return None
        if shape[0] != length * batch and shape[:2] != rows:
            return None
        return Steps(first, length, 1 if self._arrangement is Arrangement.TIME_MAJOR else batch)

    def _end_model_call(self) -> None:
        if self._arrangement is Arrangement.LOOPED and self._calls != self._length:
            self.known = False

    def rates(self, nonzeros: Iterable[float], inputs: int) -> tuple[float, ...] | None:
        """Firing rate of each step, of the non-zeros in each and the inputs in all."""
        self._end_model_call()
        return tuple(n * self.period / inputs for n in nonzeros) if self.known else None


def add_steps(sums: Tensor, found: Tensor, first: int) -> None:
    """Add [K, ...] to the time steps of [T, ...] from ``first`` on, modulo T."""
    period, steps = len(sums), len(found)
    if steps == period and first == 0:
        sums.add_(found)
    elif first + steps <= period:
        sums.narrow(0, first, steps).add_(found)
    else:
        at = torch.arange(first, first + steps, device=found.device) % period
        sums.index_add_(0, at, found.to(sums.dtype))

"""The time steps that a row's inputs belong to, call by call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """Consecutive time steps: the first, and their number."""

    first: int
    length: int


class TimeSteps:
    """Firing rates per time step of one row, given as long as the steps are known.

    Args:
        timesteps: T where it is known, else None.
    """

    def __init__(self, timesteps: int | None) -> None:
        self.period = timesteps or 1
        self.known = timesteps is not None
        self._model_call = 0

    def observe(self, steps: Steps | None, model_call: int) -> None:
        """Take note of one call.

        Args:
            steps: the steps in its input, major in the first dimension; None if unknown.
            model_call: number of the model's call that it is part of.
        """
        # A second time in the same call of the model, it may well hold one step each time.
        if steps is None or (model_call == self._model_call and steps.length > 1):
            self.known = False
        self._model_call = model_call

    def rates(self, nonzeros: Iterable[float], inputs: int) -> tuple[float, ...] | None:
        """Firing rate of each step, of the non-zeros in each and the inputs in all."""
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

"""A buffer of small inputs, so that many calls of a small layer are counted together.

For a small input (one time step of a small network) starting the counter's operations takes
longer than running them. Copying the input is a single operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CALLS = 32
_ELEMENTS = 1 << 18


class InputBuffer:
    """A buffer of equally shaped inputs of consecutive time steps.

    Args:
        period: T; time steps follow each other modulo T.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self._slots: list[Tensor] = []
        self._buffer: Tensor | None = None
        self._used = 0
        self._first = 0

    def put(self, x: Tensor, step: int) -> bool:
        """Copy x in. False where the buffer is full, or x is not of the next time step or alike."""
        used = self._used
        if used == 0:
            self._make_room_for(x)
            self._first = step
        elif (
            used == len(self._slots)
            or step != (self._first + used) % self._period
            or not _alike(x, self._slots[0])
        ):
            return False
        self._slots[used].copy_(x)
        self._used = used + 1
        return True

    def take(self) -> tuple[Tensor, int] | None:
        """All inputs [K, *x.shape] and the time step of the first, or None; empties it."""
        if self._buffer is None or self._used == 0:
            return None
        held = self._buffer[: self._used]
        self._used = 0
        return held, self._first

    def _make_room_for(self, x: Tensor) -> None:
        if self._slots and _alike(x, self._slots[0]):
            return
        calls = min(_CALLS, _ELEMENTS // x.numel())
        with torch.inference_mode(False), torch.no_grad():
            buffer = torch.empty((calls, *x.shape), dtype=x.dtype, device=x.device)
            self._slots = [buffer[i] for i in range(calls)]
            self._buffer = buffer


def _alike(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype and x.device == y.device

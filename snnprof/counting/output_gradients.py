"""The gradients that come back to the outputs of layers and the inputs of neurons: non-zeros.

A hook on the tensor of each call receives the sum of what its consumers send back, once in every
backward pass. At a layer's output it is the gradient of the membrane where it charges neurons
directly; behind a batch norm, which subtracts means, it has hardly a zero in training mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnprof.counting.operation_mode import unseen_by_others
from snnprof.results import GradientCount

Note = Callable[[str], object]
NO_BACKWARD = "gradients: no backward pass ran inside the counter's block"
_NO_TENSOR = "gradients: what it gives, or a neuron is given, is no tensor"
_UNSEEN = (
    "gradients: it ran without a graph inside a call of the model that keeps one (a re-entrant "
    "checkpoint, a function with a backward of its own, no_grad): what comes back is not seen"
)


class GradientWatch:
    """What the gradient tallies of a measurement share.

    Attributes:
        came: a gradient has come to one of them.
    """

    def __init__(self) -> None:
        self.came = False
        self._open = True
        self._keeps_graph = False

    def begin_call(self) -> None:
        """A call of the model begins."""
        self._keeps_graph = torch.is_grad_enabled()

    def close(self) -> None:
        """The block has ended: hooks that graphs still hold do nothing from now on."""
        self._open = False

    @property
    def is_open(self) -> bool:
        """True inside the block."""
        return self._open

    @property
    def graph_is_hidden(self) -> bool:
        """True where what runs now has no graph, though the call of the model began with one."""
        return self._keeps_graph and not torch.is_grad_enabled()


class GradientTally:
    """Gradients of the outputs of one layer, or the inputs of one of neurons, over a measurement.

    Args:
        watch: of the measurement.
        note: told why gradients are not known.
    """

    def __init__(self, watch: GradientWatch, note: Note) -> None:
        self._watch = watch
        self._note = note
        self._elements = 0
        self._reached = 0
        self._nonzeros: int | Tensor = 0  # on a device a tensor, which is fetched at the end
        self._unknown = False

    def see(self, watched: Any) -> None:
        """Count the gradient of this tensor of a call when it comes."""
        if not isinstance(watched, Tensor):
            self._fail(_NO_TENSOR)
            return
        self._elements += watched.numel()
        if watched.requires_grad:
            watched.register_hook(self._count)
        elif self._watch.graph_is_hidden:
            self._fail(_UNSEEN)

    def _count(self, gradient: Tensor) -> None:
        if not self._watch.is_open:
            return
        try:
            with unseen_by_others(), torch._C.DisableTorchFunction(), torch.no_grad():
                self._nonzeros = self._nonzeros + gradient.count_nonzero()
            self._reached += gradient.numel()
            self._watch.came = True
        except Exception as error:  # an instrument's own fault is never the user's crash
            self._fail(f"gradients: counting them failed ({type(error).__name__}: {error})")

    def _fail(self, reason: str) -> None:
        self._unknown = True
        self._note(reason)

    def read(self) -> GradientCount | None:
        """The counts so far; None where they are not known. Waits for the device."""
        if self._unknown or not self._watch.came or not self._elements:
            return None
        return GradientCount(self._elements, self._reached, int(self._nonzeros))

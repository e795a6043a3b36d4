"""What is counted of one layer, call by call."""

from __future__ import annotations

import weakref

from torch import Tensor

from snnprof.counting.accumulator import Accumulator
from snnprof.counting.fanout import LinearCall
from snnprof.counting.input_buffer import Shelf, is_small
from snnprof.counting.scratch import Scratch
from snnprof.results import LayerCount
from snnprof.results.kinds import operation


class Tally:
    """Counts of one layer over a measurement.

    Args:
        name: the layer's name.
        op: the linear operation, e.g. ``"conv2d"``.
        period: T where it is known, else None.
        scratch: work buffers shared by the counter's layers.
    """

    def __init__(self, name: str, op: str, period: int | None, scratch: Scratch) -> None:
        self.name = name
        self.op = op
        self._period = period
        self._scratch = scratch
        self._weight: weakref.ref[Tensor] | None = None
        self._calls = 0
        self._inputs = 0
        self._nominal_macs = 0
        self._steps_known = True
        self._root_call = 0
        self._shelf = Shelf(period or 1)
        self._accumulator: Accumulator | None = None

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._calls == 0

    def is_of(self, op: str, weight: Tensor) -> bool:
        """True if the last call counted here was of this very weight."""
        return self._weight is not None and self._weight() is weight and self.op == op

    def add(
        self, call: LinearCall, x: Tensor, weight: Tensor, at: tuple[int, int], root_call: int
    ) -> None:
        """Count one call.

        Args:
            call: the operation.
            x: its input, not empty: [N, *row] or, for a linear layer, [..., features].
            weight: its weight.
            at: first time step and number of time steps that x holds, major in x's first
                dimension; (0, 0) where this is not known.
            root_call: number of the root's call that this is part of.
        """
        size = x.numel()
        first, steps = at
        # Seen again in the same call of the root, it may well hold one step each time.
        if steps == 0 or (steps > 1 and root_call == self._root_call):
            self._steps_known, steps = False, max(1, steps)
        self._root_call = root_call
        if self._accumulator is None:
            self._accumulator = Accumulator(x, self._period or 1, self._scratch)
        x = x.detach()
        fan_out = self._accumulator.fan_out_of(call, x, weight)
        if fan_out is None:
            self._clear_shelf()
            fan_out = self._accumulator.take_fan_out(call, x, weight)
            self._weight = weakref.ref(weight)
            self._accumulator.absorb(x, first, steps)
        elif steps > 1 or not is_small(size):
            self._accumulator.absorb(x, first, steps)
        elif not self._shelf.put(x, first):
            self._clear_shelf()
            self._shelf.put(x, first)
        self._calls += 1
        self._inputs += size
        self._nominal_macs += size // fan_out.row_size * fan_out.nominal_macs

    def _clear_shelf(self) -> None:
        held = self._shelf.take()
        if held is not None and self._accumulator is not None:
            self._accumulator.absorb(held[0], first=held[1], steps=held[0].shape[0])

    def settle(self) -> None:
        """Look at the weight once more."""
        if self._accumulator is not None:
            self._accumulator.settle()

    def let_go(self) -> None:
        """Forget the weight: nothing more will be counted."""
        self._weight = None
        if self._accumulator is not None:
            self._accumulator.let_go()

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all inputs were finite, and a remark. Synchronises."""
        assert self._accumulator is not None, "a tally is made when there is something to count"
        self._clear_shelf()
        found = self._accumulator.read()
        by_step = None
        if self._period is not None and self._steps_known:
            by_step = tuple(n * self._period / self._inputs for n in found.nonzeros_by_step)
        count = LayerCount(
            name=self.name,
            op=self.op,
            input_kind=found.levels.kind.value,
            weight_kind=found.weight_kind.value,
            operation=operation(found.levels.kind, found.weight_kind).value,
            stem=False,
            calls=self._calls,
            firing_rate=found.nonzeros / self._inputs,
            synops=found.synops,
            unrolled_synops=found.unrolled_synops,
            rate_synops=found.nonzeros * self._nominal_macs / self._inputs,
            nominal_macs=self._nominal_macs,
            dense_macs=found.dense_macs,
            nonzeros=found.nonzeros,
            inputs=self._inputs,
            firing_rate_by_step=by_step,
        )
        return count, found.levels.finite, found.remark

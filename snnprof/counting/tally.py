"""The running counts of one layer, kept on its device until somebody asks."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from snnprof.counting.fanout import LinearCall, Synapses, WeightJudge
from snnprof.counting.operands import (
    CHUNK_ELEMENTS,
    CHUNK_ROWS,
    Kind,
    Levels,
    Scratch,
    Spectrum,
    as_float,
    operation,
)
from snnprof.counting.shelf import Shelf, is_small
from snnprof.results import LayerCount

_CHANGED_UNSEEN = (
    "its zero weights changed through .data, which leaves no trace: counted with the zeros it "
    "had first; count again without changing weights that way"
)


class Accumulator:
    """What is summed on the device. Only the ``read_`` methods wait for it.

    Sums are kept per input position while the fan-out stays the same, and multiplied with it
    when it changes. All are whole numbers (or, for ``mass``, multiples of the step) in
    float64, exact up to 2^53.
    """

    def __init__(self, x: Tensor, weight: Tensor, steps: int, scratch: Scratch) -> None:
        self._scratch = scratch
        self._synapses: Synapses | None = None
        self._rows = 0  # rows seen with the present fan-out
        self._totals: dict[torch.Size, tuple[Tensor, Tensor]] = {}
        with torch.inference_mode(False), torch.no_grad():
            zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
            self._active = self._mass = zeros(0)  # [P]: non-zero inputs, sum of magnitudes
            self._events = zeros(2)  # of past fan-outs: active * fan-out, mass * fan-out
            self._dense = zeros(())
            self._by_step = zeros(steps)
            self._spectrum = Spectrum(x.device, x.dtype)
            self._weights = WeightJudge(weight.device)

    def synapses_for(self, call: LinearCall, x: Tensor, weight: Tensor) -> Synapses | None:
        """The present fan-out, if it is that of these operands."""
        synapses = self._synapses
        return synapses if synapses and synapses.hold_for(call, x, weight) else None

    def take_synapses(self, call: LinearCall, x: Tensor, weight: Tensor) -> Synapses:
        """Find the fan-out of these operands and count with it from now on."""
        with torch.inference_mode(False), torch.no_grad():
            self._close_fan_out()
            synapses = self._synapses = Synapses(call, x, weight, self._scratch)
            self._active = torch.zeros_like(synapses.fan_out)
            self._mass = torch.zeros_like(synapses.fan_out)
            # A parameter outlives the call and is judged when the result is read.
            if not isinstance(weight, nn.Parameter):
                self._judge(weight)
        return synapses

    def _close_fan_out(self) -> None:
        """Book what was seen with the present fan-out."""
        if self._synapses is None:
            return
        fan_out = self._synapses.fan_out
        self._events += torch.stack((self._active @ fan_out, self._mass @ fan_out))
        self._dense += self._rows * fan_out.sum()
        active, mass = self._totals.get(fan_out.shape, (0, 0))
        self._totals[fan_out.shape] = (self._active + active, self._mass + mass)
        self._active, self._mass = torch.zeros_like(fan_out), torch.zeros_like(fan_out)
        self._rows = 0

    def _judge(self, weight: Tensor) -> None:
        assert self._synapses is not None
        channels = self._synapses.call.by_output_channel(weight.detach())
        self._weights.observe(channels, self._scratch)

    def absorb(self, x: Tensor, first: int, steps: int) -> None:
        """Count x, whose first dimension holds ``steps`` time steps from ``first`` on."""
        width = self._active.numel()
        with torch.inference_mode(False), torch.no_grad():
            x = as_float(x).reshape(steps, -1, width)
            self._rows += steps * x.shape[1]
            rows = min(CHUNK_ROWS, max(1, CHUNK_ELEMENTS // (steps * width)))
            for chunk in x.split(rows, dim=1) if x.shape[1] > rows else (x,):
                active, mass = self._spectrum.observe(chunk, self._scratch)
                self._mass += mass
                self._active += active[0] if steps == 1 else active.sum(0)
                if self._by_step.shape[0] > 1:
                    self._book_steps(active.sum(1), first)

    def _book_steps(self, nonzeros: Tensor, first: int) -> None:
        """Add [K] to the time steps from ``first`` on, modulo T."""
        period, steps = self._by_step.shape[0], nonzeros.shape[0]
        if first + steps <= period:
            self._by_step[first : first + steps] += nonzeros
        else:
            at = torch.arange(first, first + steps, device=nonzeros.device) % period
            self._by_step.index_add_(0, at, nonzeros.double())

    def read_input(self) -> InputCount:
        """What came in, and the events it caused."""
        with torch.inference_mode(False), torch.no_grad():
            self._close_fan_out()
        levels = self._spectrum.read(tuple(mass for _, mass in self._totals.values()))
        synops, mass_events = self._events.tolist()
        unrolled: int | None = int(synops)
        if levels.kind == Kind.INTEGER:
            unrolled = round(mass_events / levels.step)
        elif levels.kind == Kind.REAL:
            unrolled = None
        return InputCount(
            levels=levels,
            synops=int(synops),
            unrolled_synops=unrolled,
            dense_macs=int(self._dense),
            nonzeros=sum(int(active.sum()) for active, _ in self._totals.values()),
            nonzeros_by_step=tuple(int(n) for n in self._by_step.tolist()),
        )

    def read_weight(self) -> tuple[Kind, str | None]:
        """The weight's kind, and a remark on what became of it."""
        assert self._synapses is not None
        weight, remark = self._synapses.weight, None
        with torch.inference_mode(False), torch.no_grad():
            if self._synapses.changed_unseen(self._scratch):
                remark = _CHANGED_UNSEEN
            if isinstance(weight, nn.Parameter):
                self._judge(weight)
        return self._weights.kind(), remark


@dataclass(frozen=True)
class InputCount:
    """What an accumulator knows of a layer's input."""

    levels: Levels
    synops: int
    unrolled_synops: int | None
    dense_macs: int
    nonzeros: int
    nonzeros_by_step: tuple[int, ...]


class Tally:
    """Counts of one layer over a measurement.

    Args:
        name: the layer's name.
        op: the linear operation, e.g. ``"conv2d"``.
        steps: T where it is known, else 1.
        scratch: work buffers shared by the counter's layers.
    """

    def __init__(self, name: str, op: str, steps: int, scratch: Scratch) -> None:
        self.name = name
        self.op = op
        self._steps = steps
        self._scratch = scratch
        self._weight: weakref.ref[Tensor] | None = None
        self._calls = 0
        self._inputs = 0
        self._nominal_macs = 0
        self._steps_known = True
        self._shelf = Shelf(steps)
        self._accumulator: Accumulator | None = None

    def is_of(self, op: str, weight: Tensor) -> bool:
        """True if the last call counted here was of this very weight."""
        return self._weight is not None and self._weight() is weight and self.op == op

    def add(self, call: LinearCall, x: Tensor, weight: Tensor, at: tuple[int, int]) -> None:
        """Count one call.

        Args:
            call: the operation.
            x: its input, rows first: [N, *row] or, for a linear layer, [..., features].
            weight: its weight.
            at: first time step and number of time steps that x holds, major in x's first
                dimension; (0, 0) where this is not known.
        """
        size = x.numel()
        if size == 0:
            return
        first, steps = at
        if steps == 0:
            self._steps_known, steps = False, 1
        if self._accumulator is None:
            self._accumulator = Accumulator(x, weight, self._steps, self._scratch)
        x = x.detach()
        synapses = self._accumulator.synapses_for(call, x, weight)
        if synapses is None:
            self._clear_shelf()
            synapses = self._accumulator.take_synapses(call, x, weight)
            self._weight = weakref.ref(weight)
            self._accumulator.absorb(x, first, steps)
        elif steps > 1 or not is_small(size):
            self._accumulator.absorb(x, first, steps)
        elif not self._shelf.put(x, first):
            self._clear_shelf()
            self._shelf.put(x, first)
        self._calls += 1
        self._inputs += size
        self._nominal_macs += size // synapses.row_size * synapses.nominal_macs

    def _clear_shelf(self) -> None:
        held = self._shelf.take()
        if held is not None and self._accumulator is not None:
            self._accumulator.absorb(held[0], first=held[1], steps=held[0].shape[0])

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all inputs were finite, and a remark. Synchronises."""
        self._clear_shelf()
        parts = self._accumulator
        assert parts is not None, "a tally is made when there is something to count"
        seen = parts.read_input()
        weight_kind, remark = parts.read_weight()
        by_step = None
        if self._steps_known and self._steps > 1:
            by_step = tuple(n * self._steps / self._inputs for n in seen.nonzeros_by_step)
        count = LayerCount(
            name=self.name,
            op=self.op,
            input_kind=seen.levels.kind,
            weight_kind=weight_kind,
            operation=operation(seen.levels.kind, weight_kind),
            stem=False,
            calls=self._calls,
            firing_rate=seen.nonzeros / self._inputs,
            synops=seen.synops,
            unrolled_synops=seen.unrolled_synops,
            rate_synops=seen.nonzeros * self._nominal_macs / self._inputs,
            nominal_macs=self._nominal_macs,
            dense_macs=seen.dense_macs,
            nonzeros=seen.nonzeros,
            inputs=self._inputs,
            firing_rate_by_step=by_step,
        )
        return count, seen.levels.finite, remark

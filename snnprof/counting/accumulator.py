"""The running sums of one layer, kept on its device until somebody asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from snnprof.counting.fanout import FanOut, count_synapses
from snnprof.counting.linear_call import LinearCall
from snnprof.counting.scratch import (
    CHUNK_ELEMENTS,
    CHUNK_ROWS,
    EXACT_ROWS,
    Scratch,
    as_float,
    has_no_zero,
    on_host,
)
from snnprof.counting.time_steps import add_steps
from snnprof.counting.value_kind import ValueKind, ValueKindRecord
from snnprof.counting.weight_kind import WeightKindRecord
from snnprof.results.kinds import Kind
from snnprof.results.values import Values

_CHANGED_UNSEEN = (
    "its weight was written to without a trace (through .data, or by a fused optimiser): counted "
    "with the zeros and the kind that it had first; count again without writing to it that way"
)


class Accumulator:
    """Running sums on the device. Only :meth:`read` waits for it.

    Sums are kept per input position while the fan-out stays the same, and multiplied with it
    when it changes. All are whole numbers (of magnitudes: multiples of the step) in
    float64, exact up to 2^53.
    """

    def __init__(self, x: Tensor, steps: int, scratch: Scratch) -> None:
        self._scratch = scratch
        self._fan_out: FanOut | None = None
        self._rows = 0  # rows seen with the present fan-out
        self._totals: dict[torch.Size, Tensor] = {}  # [3, P], as _sums
        with torch.inference_mode(False), torch.no_grad():
            zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
            # [3, P]: non-zero inputs, sum of their magnitudes, the same in whole steps
            self._sums = zeros(3, 0)
            # [T, P], whole numbers below 2^24: all three of these, of inputs that are all 0 or 1
            self._spikes = torch.zeros(0)
            self._spike_rows = 0  # of how many inputs, per time step
            self._events = zeros(3)  # the three sums of past fan-outs, times the fan-out
            self._dense = zeros(())
            self._by_step = zeros(steps)
            self._value_kind = ValueKindRecord(x)
            self._weight_kind = WeightKindRecord(x.device)
            self._changed_unseen = torch.zeros((), dtype=torch.bool, device=x.device)

    def fan_out_of(self, call: LinearCall, x: Tensor, weight: Tensor) -> FanOut | None:
        """The present fan-out, if it is that of these operands."""
        held = self._fan_out
        return held if held is not None and held.holds_for(call, x, weight) else None

    def take_fan_out(self, call: LinearCall, x: Tensor, weight: Tensor) -> FanOut:
        """Find the fan-out of these operands and count with it from now on."""
        held = self._fan_out
        with torch.inference_mode(False), torch.no_grad():
            dense = on_host(weight) and has_no_zero(weight.detach())
            if held is None or not (dense and held.holds_if_dense(call, x)):
                synapses = count_synapses(call, weight, self._scratch)
                if held is None or not held.equals(call, x, synapses):
                    self._close_fan_out()
                    held = self._fan_out = FanOut(call, x, weight, synapses, dense)
                    self._start_sums(held.per_input)
            held.follow(weight)
            channels = call.by_output_channel(weight.detach())
            self._weight_kind.observe(channels, self._scratch)
        return held

    def _close_fan_out(self) -> None:
        """Add what was seen with the present fan-out to the totals."""
        if self._fan_out is None:
            return
        fan_out = self._fan_out.per_input
        self._close_spikes()
        # No matrix product: a counter around this one would count it.
        self._events += (self._sums * fan_out).sum(1)
        self._dense += self._rows * fan_out.sum()
        self._totals[fan_out.shape] = self._totals.get(fan_out.shape, 0) + self._sums
        self._start_sums(fan_out)
        self._rows = 0

    def _start_sums(self, like: Tensor) -> None:
        self._sums = like.new_zeros((3, len(like)))
        self._spikes = like.new_zeros((len(self._by_step), len(like)), dtype=torch.float32)

    def _close_spikes(self) -> None:
        """Add the spikes seen so far to the sums, before float32 no longer counts them exactly."""
        with torch.inference_mode(False), torch.no_grad():
            spikes = self._spikes.double()
            self._sums += spikes.sum(0)
            self._by_step += spikes.sum(1)
            self._spikes.zero_()
        self._spike_rows = 0

    def absorb(self, x: Tensor, first: int, steps: int) -> None:
        """Count x, whose first dimension holds ``steps`` time steps from ``first`` on.

        Args:
            x: detached.
            first, steps: see above.
        """
        width = self._sums.shape[1]
        x = as_float(x).reshape(steps, -1, width)
        self._rows += steps * x.shape[1]
        rows = max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // width) // steps)
        for chunk in x.split(rows, dim=1) if x.shape[1] > rows else (x,):
            # Most inputs are spikes: the fewest operations for them.
            spikes = self._value_kind.observe_spikes(chunk, self._scratch)
            if spikes is None:
                self._absorb_any(chunk, first)
                continue
            added = chunk.shape[1] * math.ceil(steps / len(self._spikes))  # per time step
            if self._spike_rows + added > EXACT_ROWS:
                self._close_spikes()
            self._spike_rows += added
            add_steps(self._spikes, spikes, first)

    def _absorb_any(self, x: Tensor, first: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            sums = self._value_kind.observe(x, self._scratch)
            magnitude_sum = sums.magnitude_sum.double()
            in_steps = self._value_kind.in_steps(magnitude_sum)
            self._sums += torch.stack((sums.active.double(), magnitude_sum, in_steps))
            add_steps(self._by_step, sums.by_step.sum(1).double(), first)

    def verify_weight(self) -> None:
        """Note whether the weight still has the zeros and the kind that it was counted with.

        A write that its version counter shows came after its last use, and does not matter.
        """
        held = self._fan_out
        weight = None if held is None else held.unwritten_weight
        if held is None or weight is None:
            return
        with torch.inference_mode(False), torch.no_grad():
            channels = held.call.by_output_channel(weight.detach())
            self._changed_unseen |= held.changed_unseen(weight, self._scratch)
            self._changed_unseen |= self._weight_kind.would_change(channels, self._scratch)

    def release_weight(self) -> None:
        """Forget the weight."""
        if self._fan_out is not None:
            self._fan_out.release_weight()

    def read(self) -> LayerSums:
        """Everything, as numbers. Waits for the device."""
        with torch.inference_mode(False), torch.no_grad():
            self._close_fan_out()
        totals = tuple(zip(*self._totals.values(), strict=True))
        input_kind = self._value_kind.read(totals[1], totals[2])
        synops, *magnitude_sums = self._events.tolist()
        unrolled = input_kind.unrolled(synops, *magnitude_sums)
        nonzeros = sum(int(active.sum()) for active in totals[0])
        by_step = tuple(int(n) for n in self._by_step.tolist())
        return LayerSums(
            input_kind=input_kind,
            values=self._value_kind.values(input_kind, unrolled),
            weight_kind=self._weight_kind.kind(),
            synops=int(synops),
            unrolled_synops=unrolled,
            dense_macs=int(self._dense),
            nonzeros=nonzeros,
            nonzeros_by_step=by_step if len(by_step) > 1 else (nonzeros,),
            remark=_CHANGED_UNSEEN if bool(self._changed_unseen) else None,
        )


@dataclass(frozen=True)
class LayerSums:
    """The sums of an accumulator, read; the fields as in :class:`snnprof.LayerCount`."""

    input_kind: ValueKind
    values: Values
    weight_kind: Kind
    synops: int
    unrolled_synops: int | None
    dense_macs: int
    nonzeros: int
    nonzeros_by_step: tuple[int, ...]
    remark: str | None

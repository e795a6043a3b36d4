"""What was counted of one layer, kept on its device until somebody asks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnprof.counting.fanout import FanOut, read_weight
from snnprof.counting.linear_call import LinearCall
from snnprof.counting.scan import new_reading
from snnprof.counting.scan_rows import Rows
from snnprof.counting.time_steps import Steps
from snnprof.counting.weight_kind import WeightKindRecord
from snnprof.results.kinds import Kind
from snnprof.results.values import Values

_CHANGED_UNSEEN = (
    "its weight was written to without a trace (through .data, or by a fused optimiser): counted "
    "with the zeros and the kind that it had first; count again without writing to it that way"
)


class Accumulator:
    """A running record of a layer's inputs and weights. On a GPU only :meth:`read` waits."""

    def __init__(self, x: Tensor, period: int) -> None:
        self._fan_out: FanOut | None = None
        self._rows = 0  # rows seen with the present fan-out
        self.reading = new_reading(x, period)
        with torch.inference_mode(False), torch.no_grad():
            self._dense = torch.zeros((), dtype=torch.int64, device=x.device)
            self._weight_kind = WeightKindRecord()
            self._changed_unseen = torch.zeros((), dtype=torch.bool, device=x.device)

    def fan_out_of(self, call: LinearCall, x: Tensor, weight: Tensor) -> FanOut | None:
        """The present fan-out, if it is that of these operands."""
        held = self._fan_out
        return held if held is not None and held.holds_for(call, x, weight) else None

    def take_fan_out(self, call: LinearCall, x: Tensor, weight: Tensor) -> FanOut:
        """Find the fan-out of these operands and count with it from now on."""
        held = self._fan_out
        with torch.inference_mode(False), torch.no_grad():
            synapses = read_weight(call, weight.detach(), self._weight_kind)
            if held is None or not held.equals(call, x, synapses):
                self._close_fan_out()
                held = self._fan_out = FanOut(call, x, weight, synapses)
            held.follow(weight)
        return held

    def _close_fan_out(self) -> None:
        if self._fan_out is not None and self._rows:
            self._dense += self._rows * self._fan_out.dense
            self._rows = 0

    def absorb(self, x: Tensor, steps: Steps) -> None:
        """Count x, whose rows hold these time steps, with the present fan-out."""
        fan_out = self._fan_out
        assert fan_out is not None, "a fan-out is taken before anything is counted with it"
        first, length, outer = steps
        order, size, mixed = fan_out.order, fan_out.row_size, 1
        self._rows += x.numel() // size
        if not x.is_contiguous():
            x, order, mixed = _as_it_lies(x.detach(), len(order), outer * length)
        rows = Rows(x, outer, length, size * mixed)
        self.reading.read(rows, fan_out.laid_out(order, mixed), first)

    def verify_weight(self) -> None:
        """Note whether the weight still has the zeros and the kind that it was counted with.

        A write that its version counter shows came after its last use, and does not matter.
        """
        held = self._fan_out
        weight = None if held is None else held.unwritten_weight
        if held is None or weight is None:
            return
        with torch.inference_mode(False), torch.no_grad():
            kind = WeightKindRecord()
            skipped = self._weight_kind.is_real  # none is wider
            synapses = read_weight(held.call, weight.detach(), None if skipped else kind)
            self._changed_unseen |= held.has_other(synapses) | self._weight_kind.would_change(kind)

    def release_weight(self) -> None:
        """Forget the weight."""
        if self._fan_out is not None:
            self._fan_out.release_weight()

    def read(self) -> LayerSums:
        """Everything, as numbers. Waits for the device."""
        with torch.inference_mode(False), torch.no_grad():
            self._close_fan_out()
        synops, values, nonzeros_by_step = self.reading.result()
        return LayerSums(
            values=values,
            weight_kind=self._weight_kind.kind(),
            synops=synops,
            dense_macs=int(self._dense),
            nonzeros_by_step=tuple(nonzeros_by_step),
            remark=_CHANGED_UNSEEN if bool(self._changed_unseen) else None,
        )


@dataclass(frozen=True)
class LayerSums:
    """What an accumulator holds, read; the fields as in :class:`snnprof.LayerCount`."""

    values: Values
    weight_kind: Kind
    synops: int
    dense_macs: int
    nonzeros_by_step: tuple[int, ...]
    remark: str | None


def _as_it_lies(x: Tensor, row_dims: int, parts: int) -> tuple[Tensor, tuple[int, ...], int]:
    """x contiguous, in the order of memory if that can be told; else a copy.

    Args:
        x: [..., *row].
        row_dims: dimensions of a row.
        parts: equal parts of x, each of whole rows, that stay in their order.

    Returns:
        x; the order of a row's dimensions in it; how many rows lie mixed, as the N of
        [B, C, N] do, which a linear layer receives as [B, N, C]: their dimension is in the
        order too, as the first.
    """
    lead = x.dim() - row_dims
    for mixed_dims in (0, 1):
        first = lead - mixed_dims
        if mixed_dims and (first < 1 or x.shape[:first].numel() % parts):
            break
        order = sorted(range(x.dim() - first), key=lambda dim: x.stride(first + dim), reverse=True)
        lying = x.permute(*range(first), *(first + dim for dim in order))
        if lying.is_contiguous():
            return lying, tuple(order), x.shape[first] if mixed_dims else 1
    return x.contiguous(), tuple(range(row_dims)), 1

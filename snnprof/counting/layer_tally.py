"""The counts of one layer, added up call by call."""

from __future__ import annotations

import weakref

from torch import Tensor

from snnprof.counting.accumulator import Accumulator
from snnprof.counting.input_buffer import InputBuffer
from snnprof.counting.linear_call import LinearCall
from snnprof.counting.output_gradients import GradientTally
from snnprof.counting.time_steps import ModelCall, Steps, TimeSteps
from snnprof.results import LayerCount
from snnprof.results.kinds import operation

_NOT_KNOWN = Steps(0, 1)


class LayerTally:
    """Counts of one layer over a measurement.

    Args:
        name: the layer's name.
        op: the linear operation, e.g. ``"conv2d"``.
        timesteps: T where it is known, else None.
        gradient: of the layer's outputs; None where it is not looked at.

    Attributes:
        time_steps: how the time steps reach the layer.
        gradient: as given.
    """

    def __init__(
        self, name: str, op: str, timesteps: int | None, gradient: GradientTally | None = None
    ) -> None:
        self.name = name
        self.op = op
        self.gradient = gradient
        self.time_steps = TimeSteps(timesteps)
        self._weight: weakref.ref[Tensor] | None = None
        self._calls = 0
        self._inputs = 0
        self._nominal_macs = 0
        self._buffer = InputBuffer(self.time_steps.period)
        self._accumulator: Accumulator | None = None

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._calls == 0

    @property
    def scan(self) -> str | None:
        """What reads the inputs: "c", "triton" or "torch"; None before the first."""
        return None if self._accumulator is None else self._accumulator.reading.implementation

    def is_of(self, op: str, weight: Tensor) -> bool:
        """True if the last call counted here was of this very weight."""
        return self._weight is not None and self._weight() is weight and self.op == op

    def add(self, call: LinearCall, x: Tensor, weight: Tensor, model_call: ModelCall) -> None:
        """Count one call.

        Args:
            call: the operation.
            x: its input, not empty: [N, *row] or, for a linear layer, [..., features].
            weight: its weight.
            model_call: the model's call that this is part of.
        """
        size = x.numel()
        steps = self.time_steps.locate(x.shape, model_call) or _NOT_KNOWN
        if self._accumulator is None:
            self._accumulator = Accumulator(x, self.time_steps.period)
        fan_out = self._accumulator.fan_out_of(call, x, weight)
        if fan_out is None:
            self._empty_buffer()
            fan_out = self._accumulator.take_fan_out(call, x, weight)
            self._weight = weakref.ref(weight)
            self._accumulator.absorb(x, steps)
        elif steps.length > 1 or size > self._accumulator.reading.small:
            self._accumulator.absorb(x, steps)
        elif not self._buffer.put(x.detach(), steps.first):
            self._empty_buffer()
            self._buffer.put(x.detach(), steps.first)
        self._calls += 1
        self._inputs += size
        self._nominal_macs += size // fan_out.row_size * fan_out.nominal_macs

    def _empty_buffer(self) -> None:
        held = self._buffer.take()
        if held is not None and self._accumulator is not None:
            self._accumulator.absorb(held[0], Steps(held[1], len(held[0])))

    def verify_weight(self) -> None:
        """Note whether the weight still is what was counted."""
        if self._accumulator is not None:
            self._accumulator.verify_weight()

    def release_weight(self) -> None:
        """Forget the weight: nothing more will be counted."""
        self._weight = None
        if self._accumulator is not None:
            self._accumulator.release_weight()

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all inputs were finite, and a remark. Synchronises."""
        assert self._accumulator is not None, "a tally is made when there is something to count"
        self._empty_buffer()
        found = self._accumulator.read()
        kind = found.values.kind()
        nonzeros = sum(found.nonzeros_by_step)
        count = LayerCount(
            name=self.name,
            op=self.op,
            input_kind=kind.kind.value,
            weight_kind=found.weight_kind.value,
            operation=operation(kind.kind, found.weight_kind).value,
            stem=False,
            calls=self._calls,
            input_density=nonzeros / self._inputs,
            synops=found.synops,
            unrolled_synops=kind.levels,
            rate_synops=nonzeros * self._nominal_macs / self._inputs,
            nominal_macs=self._nominal_macs,
            dense_macs=found.dense_macs,
            nonzeros=nonzeros,
            inputs=self._inputs,
            input_density_by_step=self.time_steps.rates(found.nonzeros_by_step, self._inputs),
            values=found.values.settled(),
            gradient=None if self.gradient is None else self.gradient.read(),
        )
        return count, kind.finite, found.remark

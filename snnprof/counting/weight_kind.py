"""The kind of numbers that a weight holds, judged per output channel."""

from __future__ import annotations

import torch
from torch import Tensor

from snnprof.counting.tensors import as_float, on_host, rounding
from snnprof.results.kinds import MAX_LEVELS, Kind
from snnprof.results.values import tolerance

Flag = bool | Tensor  # on a device a tensor, that nobody waits for


class WeightKindRecord:
    """The running verdict on all the weights that a layer used, read only at the end."""

    def __init__(self) -> None:
        self._one_magnitude: Flag = True
        self._few_levels: Flag = True
        self._negative: Flag = False

    @property
    def is_real(self) -> bool:
        """True if it is the widest kind, whatever comes; not told of a weight on a device."""
        return self._few_levels is False and self._one_magnitude is False

    def observe(self, channels: Tensor) -> None:
        """Judge a weight, [C_out, N]; on the host one that is REAL by its first channel."""
        if not on_host(channels):
            self._join(*_judge(channels))
            return
        for some in channels.split([1, len(channels) - 1]):
            if len(some) and not self.is_real:
                self._join(*(bool(flag.numpy()) for flag in _judge(some)))

    def observe_one_magnitude(self, negative: bool) -> None:
        """Take note of a weight whose channels are known to hold one magnitude each."""
        self._join(True, True, negative)

    def _join(self, one_magnitude: Flag, few_levels: Flag, negative: Flag) -> None:
        self._one_magnitude = self._one_magnitude & one_magnitude
        self._few_levels = self._few_levels & few_levels
        self._negative = self._negative | negative

    def would_change(self, other: WeightKindRecord) -> Flag:
        """Whether the verdict would be another one with these weights too."""
        both = WeightKindRecord()
        for one in (self, other):
            both._join(one._one_magnitude, one._few_levels, one._negative)
        return both._verdict() != self._verdict()

    def _verdict(self) -> int | Tensor:
        """The place of the kind among all kinds, the narrowest first."""
        one, few = self._one_magnitude, self._few_levels
        if isinstance(one, Tensor):
            return torch.where(one, 1 * self._negative, torch.where(torch.as_tensor(few), 2, 3))
        return int(self._negative) if one else 2 if few else 3

    def kind(self) -> Kind:
        """Synchronises."""
        return tuple(Kind)[int(self._verdict())]


def _judge(channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether each channel holds one magnitude, and few levels; and whether a value is negative.

    As :meth:`snnprof.results.values.Values.kind` has it, with its tolerance: whole multiples of a
    power of two, or of the channel's least magnitude, which half precision is too coarse to tell.
    """
    spread = tolerance(rounding(channels.dtype))
    channels = as_float(channels)
    magnitude = channels.abs()
    largest = magnitude.amax(1, keepdim=True)
    # Of the steps that have few levels the finest: it divides what a coarser one divides.
    step = torch.exp2((torch.log2(largest / MAX_LEVELS) - 1e-6).ceil_().clamp_(-10, 0))
    exact = ((magnitude / step).frac_() == 0).all(1) & (largest <= MAX_LEVELS * step).squeeze(1)
    least = torch.threshold_(magnitude, 0.0, torch.inf).amin(1, keepdim=True)
    one = ((largest <= least * (1 + spread)) | (largest == 0)).squeeze(1)
    levels = magnitude.div_(least)  # zeros are infinite now
    estimate = (levels / levels.round()).nan_to_num_(1.0)
    alike = estimate.amax(1) <= estimate.amin(1) * (1 + spread)
    multiples = alike & (largest <= (MAX_LEVELS + 0.5) * least).squeeze(1) & (spread > 0)
    return one.all(), (one | exact | multiples).all(), channels.amin() < 0

"""The kind of numbers that a weight holds, judged per output channel."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from snnprof.counting.tensors import as_float, on_host, rounding
from snnprof.results.kinds import MAX_LEVELS, Kind


class WeightKindRecord:
    """The running verdict on all the weights that a layer used, read only at the end."""

    def __init__(self, device: torch.device) -> None:
        self._one_magnitude = torch.ones((), dtype=torch.bool, device=device)
        self._few_levels = torch.ones((), dtype=torch.bool, device=device)
        self._negative = torch.zeros((), dtype=torch.bool, device=device)

    def observe(self, channels: Tensor) -> None:
        """Judge a weight, [C_out, N]; on the host one that is REAL by its first channel."""
        for some in channels.split([1, len(channels) - 1]) if on_host(channels) else (channels,):
            if on_host(channels) and (self._is_real() or not len(some)):
                return
            self._observe(some)

    def _is_real(self) -> bool:
        return not (self._few_levels.numpy() or self._one_magnitude.numpy())

    def _observe(self, channels: Tensor) -> None:
        tolerance = min(MAX_LEVELS * rounding(channels.dtype), 0.02)
        channels = as_float(channels)
        magnitude = channels.abs()
        largest = magnitude.amax(1)
        whole = (magnitude == magnitude.round()).all(1) & (largest <= MAX_LEVELS)
        least = torch.threshold_(magnitude, 0.0, torch.inf).amin(1)
        self._negative |= channels.amin() < 0
        self._one_magnitude &= ((least == largest) | (largest == 0)).all()
        # Whole multiples of 1 or of the channel's least magnitude; zeros are infinite now.
        unit = torch.where(whole, 1.0, least)
        levels = magnitude.div_(unit.unsqueeze(1))
        misfit = (levels - levels.round()).nan_to_num_(0.0).abs_().amax()
        self._few_levels &= (misfit <= tolerance) & (largest <= MAX_LEVELS * unit).all()

    def observe_one_magnitude(self, negative: bool) -> None:
        """Take note of a weight whose channels are known to hold one magnitude each."""
        self._negative |= negative

    def would_change(self, other: WeightKindRecord) -> Tensor:
        """Whether the verdict would be another one with these weights too, as a tensor."""
        both = copy.deepcopy(self)
        both._one_magnitude &= other._one_magnitude
        both._few_levels &= other._few_levels
        both._negative |= other._negative
        return self._verdict() != both._verdict()

    def _verdict(self) -> Tensor:
        """The place of the kind among all kinds, the narrowest first."""
        one = torch.where(self._negative, 1, 0)
        return torch.where(self._one_magnitude, one, torch.where(self._few_levels, 2, 3))

    def kind(self) -> Kind:
        """Synchronises."""
        return tuple(Kind)[int(self._verdict())]

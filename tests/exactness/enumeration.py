"""Synapses and pairs counted one by one, in plain Python."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """One spatial dimension of a convolution; ``around`` is the padding before and after."""

    kernel: int
    stride: int
    around: tuple[int, int]
    dilation: int
    extra: int = 0  # output padding
    mode: str = "zeros"
    transposed: bool = False

    def outputs(self, size: int) -> int:
        """Positions of the output."""
        span = self.dilation * (self.kernel - 1)
        if self.transposed:
            return (size - 1) * self.stride - sum(self.around) + span + self.extra + 1
        return (size + sum(self.around) - span - 1) // self.stride + 1

    def meetings(self, size: int) -> list[tuple[int, int]]:
        """(input position, tap) of every product in this dimension, walking as the layer does."""
        found = []
        if self.transposed:  # every input position writes every tap somewhere
            for position, tap in itertools.product(range(size), range(self.kernel)):
                target = position * self.stride + tap * self.dilation - self.around[0]
                if 0 <= target < self.outputs(size):
                    found.append((position, tap))
            return found
        for output, tap in itertools.product(range(self.outputs(size)), range(self.kernel)):
            source = self.source(output * self.stride + tap * self.dilation, size)
            if source is not None:
                found.append((source, tap))
        return found

    def source(self, place: int, size: int) -> int | None:
        """The input position at a place of the padded line; None where there is none."""
        position = place - self.around[0]
        if 0 <= position < size:
            return position
        before = position < 0
        return {
            "zeros": None,
            "circular": position % size,
            "replicate": 0 if before else size - 1,
            "reflect": -position if before else 2 * (size - 1) - position,
        }[self.mode]


@dataclass(frozen=True)
class Layer:
    """A linear operation with its weight.

    Attributes:
        weight: as torch's function takes it.
        axes: its spatial dimensions; none of a linear layer.
        groups: of channels.
        transposed: whether the weight is [C_in, C_out / groups, ...].
    """

    weight: Tensor
    axes: tuple[Axis, ...] = ()
    groups: int = 1
    transposed: bool = False

    def output_channels(self) -> list[list[float]]:
        """The weights of each output channel."""
        weight = self.weight.detach().double().flatten(2 if self.axes else 1)
        if not self.transposed:
            return [channel.flatten().tolist() for channel in weight]
        per_group = len(weight) // self.groups
        return [
            weight[group * per_group : (group + 1) * per_group, output].flatten().tolist()
            for group in range(self.groups)
            for output in range(weight.shape[1])
        ]

    @cached_property
    def synapses(self) -> list[list[int]]:
        """Non-zero weights of each input channel at each tap."""
        weight = (self.weight.detach() != 0).long()
        if not self.axes:  # [C_out, C_in]
            return [[sum(column)] for column in zip(*weight.tolist(), strict=True)]
        taps = weight.flatten(2).tolist()
        if self.transposed:  # [C_in][C_out / groups][tap]
            return [[sum(tap) for tap in zip(*outputs, strict=True)] for outputs in taps]
        per_group, inputs = len(taps) // self.groups, len(taps[0])
        return [
            [
                sum(taps[output][channel][tap] for output in _of_group(group, per_group))
                for tap in range(len(taps[0][0]))
            ]
            for group in range(self.groups)
            for channel in range(inputs)
        ]

    def fan_out(self, sizes: tuple[int, ...]) -> list[int]:
        """Synapses out of every position of one row [C_in, *sizes], in the order of the row."""
        met = [axis.meetings(size) for axis, size in zip(self.axes, sizes, strict=True)]
        kernel = tuple(axis.kernel for axis in self.axes)
        row = math.prod(sizes)
        found = [0] * (len(self.synapses) * row)
        for at in itertools.product(*met):
            position = _flat([place for place, _ in at], sizes)
            tap = _flat([tap for _, tap in at], kernel)
            for channel, taps in enumerate(self.synapses):
                found[channel * row + position] += taps[tap]
        return found

    def nominal_macs(self, sizes: tuple[int, ...]) -> int:
        """Multiply-accumulates of one row, padded taps included."""
        if self.transposed:
            return self.weight.numel() * math.prod(sizes)
        outputs = (axis.outputs(size) for axis, size in zip(self.axes, sizes, strict=True))
        return self.weight.numel() * math.prod(outputs)


def _of_group(group: int, size: int) -> range:
    return range(group * size, (group + 1) * size)


def _flat(place: list[int], sizes: tuple[int, ...]) -> int:
    """The place of these indices in memory."""
    found = 0
    for index, size in zip(place, sizes, strict=True):
        found = found * size + index
    return found


@dataclass(frozen=True)
class Pairs:
    """What meets in a product of [N, I, K] and [N, K, J].

    Attributes:
        partners: for each element of the first, in its order, the non-zero elements it meets.
        columns: J, the elements that it meets at all.
    """

    partners: list[int]
    columns: int


def pairs(a: Tensor, b: Tensor) -> Pairs:
    """Walk over all of a [N, I, K] and b [N, K, J]; of either N may be 1, for all of the other."""
    rows = [[sum(x != 0 for x in row) for row in matrix] for matrix in b.double().tolist()]
    repeats = len(rows) if len(a) == 1 else 1
    partners = [
        sum(rows[(n + again) % len(rows)][k] for again in range(repeats))
        for n, _, k in itertools.product(*(range(size) for size in a.shape))
    ]
    return Pairs(partners, b.shape[2] * repeats)

"""Two ways to count synapses that share no code with snnprof, nor with each other.

``enumerated_*`` walk over every tap in plain Python. ``reference`` runs the layer itself in
float64 on indicators (1 where an operand is not zero) and sums its output: every synapse adds
exactly 1. No autograd, no fan-out map.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Synapses:
    synops: int
    unrolled: float  # sum of |x| over events
    dense: int

    def __add__(self, other: Synapses) -> Synapses:
        return Synapses(
            self.synops + other.synops,
            self.unrolled + other.unrolled,
            self.dense + other.dense,
        )


def enumerated(layer: nn.Module, x: Tensor) -> Synapses:
    """Every tap of ``layer`` on ``x``, one by one."""
    if isinstance(layer, nn.Linear):
        taps = _linear_taps(layer, x)
    else:
        spatial = len(layer.kernel_size)
        batched = x if x.dim() == spatial + 2 else x.unsqueeze(0)
        walk = _transposed_taps if layer.transposed else _conv_taps
        taps = walk(layer, batched)
    synops = dense = 0
    unrolled = 0.0
    for value, weight in taps:
        if weight == 0:
            continue
        dense += 1
        if value != 0:
            synops += 1
            unrolled += abs(value)
    return Synapses(synops, unrolled, dense)


def _linear_taps(layer: nn.Linear, x: Tensor):
    weight = layer.weight.tolist()
    for row in x.reshape(-1, x.shape[-1]).tolist():
        for out_row in weight:
            yield from zip(row, out_row, strict=True)


def _source(position: int, size: int, mode: str) -> int | None:
    """Which input position a position (negative or beyond the end: padded) reads."""
    if 0 <= position < size:
        return position
    if mode == "zeros":
        return None
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return 0 if position < 0 else size - 1
    assert mode == "reflect"
    return -position if position < 0 else 2 * (size - 1) - position


def _conv_taps(layer: nn.Module, x: Tensor):
    """For each output position, what each tap reads."""
    values, weight = x.tolist(), layer.weight.tolist()
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    spatial = len(kernel)
    before, after = [], []
    for d in range(spatial):
        span = dilation[d] * (kernel[d] - 1)
        if layer.padding == "same":
            before.append(span // 2)
            after.append(span - span // 2)
        else:
            pad = 0 if layer.padding == "valid" else layer.padding[d]
            before.append(pad)
            after.append(pad)
    sizes = x.shape[2:]
    out_sizes = [
        (sizes[d] + before[d] + after[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
        for d in range(spatial)
    ]
    per_group_in = layer.in_channels // layer.groups
    per_group_out = layer.out_channels // layer.groups
    for b, o in itertools.product(range(x.shape[0]), range(layer.out_channels)):
        for at in itertools.product(*map(range, out_sizes)):
            for c in range(per_group_in):
                channel = (o // per_group_out) * per_group_in + c
                for tap in itertools.product(*map(range, kernel)):
                    source = [
                        _source(
                            at[d] * stride[d] + tap[d] * dilation[d] - before[d],
                            sizes[d],
                            layer.padding_mode,
                        )
                        for d in range(spatial)
                    ]
                    if None not in source:
                        yield _at(values[b][channel], source), _at(weight[o][c], tap)


def _transposed_taps(layer: nn.Module, x: Tensor):
    """For each input position, where each tap writes."""
    values, weight = x.tolist(), layer.weight.tolist()
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    spatial = len(kernel)
    sizes = x.shape[2:]
    out_sizes = [
        (sizes[d] - 1) * stride[d]
        - 2 * layer.padding[d]
        + dilation[d] * (kernel[d] - 1)
        + layer.output_padding[d]
        + 1
        for d in range(spatial)
    ]
    per_group_out = layer.out_channels // layer.groups
    for b, c in itertools.product(range(x.shape[0]), range(layer.in_channels)):
        for at in itertools.product(*map(range, sizes)):
            for o, tap in itertools.product(
                range(per_group_out), itertools.product(*map(range, kernel))
            ):
                target = [
                    at[d] * stride[d] - layer.padding[d] + tap[d] * dilation[d]
                    for d in range(spatial)
                ]
                if all(0 <= t < n for t, n in zip(target, out_sizes, strict=True)):
                    yield _at(values[b][c], at), _at(weight[c][o], tap)


def _at(nested, index):
    for i in index:
        nested = nested[i]
    return nested


@torch.no_grad()
def reference(layer: nn.Module, x: Tensor) -> Synapses:
    """``layer`` run in float64 on indicator operands."""
    twin = copy.deepcopy(layer).double()
    twin.weight.copy_((twin.weight != 0).double())
    twin.bias = None
    x = x.double()
    active = twin((x != 0).double()).sum().item()
    dense = twin(torch.ones_like(x)).sum().item()
    assert active == int(active) and dense == int(dense)
    return Synapses(int(active), twin(x.abs()).sum().item(), int(dense))


@torch.no_grad()
def nominal_macs(layer: nn.Module, x: Tensor) -> int:
    """The textbook count, from the shapes that come in and go out."""
    out = layer(x)
    if isinstance(layer, nn.Linear):  # every output element reads every feature
        return out.numel() * layer.in_features
    taps = math.prod(layer.kernel_size)
    if layer.transposed:  # every input element writes every tap of its group's channels
        return x.numel() * (layer.out_channels // layer.groups) * taps
    return out.numel() * (layer.in_channels // layer.groups) * taps

"""The one read of an operand on NVIDIA's GPUs, as one kernel in Triton.

The contract, and the way to the unit, are those of
:class:`snnprof.counting.scan_torch.DeviceReading`. Magnitudes are compared as whole numbers, on
their bits. A block that holds nothing but zeros and the first magnitude, as spikes do, is done with
that; of any other the levels are found in float64. All sums are of whole numbers, so that they are
the same whatever the order in which the blocks are read.
"""

from __future__ import annotations

import math
import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from snnprof.counting.scan_rows import SMALL, Rows, Weights
from snnprof.counting.scan_torch import BINS, denominators
from snnprof.counting.tensors import as_float, rounding
from snnprof.results.kinds import MAX_LEVELS
from snnprof.results.values import SPREAD, Values

_BLOCK = 2048  # elements
_PROGRAMS = 2048  # as many at least, where there is work for them, each of up to _MOST blocks
_MOST = 16

_NARROW = (
    *(torch.float32, torch.float16, torch.bfloat16),
    *(torch.bool, torch.uint8, torch.int8, torch.int16),
)  # all of whose values are numbers of float32
_WIDE = (torch.float64, torch.int32, torch.int64)

# Places in the record, all of int64. Magnitudes and estimates of the unit are there as the bits of
# a float64; estimates are relative to the first magnitude.
_FIRST = tl.constexpr(0)
_LEAST = tl.constexpr(1)
_LARGEST = tl.constexpr(2)
_LOW = tl.constexpr(3)
_HIGH = tl.constexpr(4)
_DENOMINATORS = tl.constexpr(5)  # bit q - 1: a magnitude is a fraction p / q of the first
_FLAGS = tl.constexpr(6)
_SPIKES = tl.constexpr(7)  # events of blocks that hold the first magnitude only
_EVENTS = tl.constexpr(8)  # of all others
_LEVELS = tl.constexpr(8)  # + q: sum of weight * p over the magnitudes p / q
_STEPS = tl.constexpr(8 + MAX_LEVELS + 1)  # + t: non-zeros of time step t

_NEGATIVE = tl.constexpr(1)
_NOT_FINITE = tl.constexpr(2)
_REAL = tl.constexpr(4)  # a magnitude is no fraction of the first

_MAX = tl.constexpr(MAX_LEVELS)
_NEAR = tl.constexpr(2 * SPREAD)
_IN_BINS = tl.constexpr(BINS)
_INFINITE = tl.constexpr(0x7FF0000000000000)
_SIGN_OFF = tl.constexpr(0x7FFFFFFFFFFFFFFF)
_INFINITE_SINGLE = tl.constexpr(0x7F800000)
_SIGN_OFF_SINGLE = tl.constexpr(0x7FFFFFFF)
_NORMAL_SINGLE = tl.constexpr(0x00800000)  # the least that is not subnormal
_LAST_SINGLE = tl.constexpr(2.0**-149)  # of the last bit of a subnormal


@triton.jit
def _double(magnitude, narrow: tl.constexpr):
    """Magnitudes of these bits; a subnormal is no zero, whatever the device makes of it."""
    if narrow:
        value = magnitude.to(tl.float32, bitcast=True).to(tl.float64)
        small = magnitude.to(tl.float64) * _LAST_SINGLE
        value = tl.where(magnitude < _NORMAL_SINGLE, small, value)
    else:
        value = magnitude.to(tl.float64, bitcast=True)
    return value


@triton.jit
def _lower(place, value):
    """Make the bits at a place those of a smaller value."""
    bits = value.to(tl.int64, bitcast=True)
    if bits < tl.load(place):
        tl.atomic_min(place, bits)


@triton.jit
def _raise(place, value):
    """Make the bits at a place those of a larger value."""
    bits = value.to(tl.int64, bitcast=True)
    if bits > tl.load(place):
        tl.atomic_max(place, bits)


@triton.jit
def _add_levels(record, denominators, value, weight, active, unit):
    """Join finite magnitudes that are not all the first; the flag of those that do not fit."""
    first = unit.to(tl.float64, bitcast=True)
    value = tl.where(active, value, first)
    ratio = value / first
    ratio = tl.where(ratio <= _MAX + 1, ratio, 0.0)
    part = ratio - tl.floor(ratio)
    below = tl.load(denominators + (part * _IN_BINS + 0.5).to(tl.int32))
    above = tl.floor(ratio * below + 0.5)
    fits = (above >= 1) & (above <= _MAX) & (below > 0)
    # Products of few bits are exact where a ratio is not.
    estimate = (value * below) / (first * tl.maximum(above, 1.0))
    fits = fits & (tl.abs(estimate - 1.0) <= _NEAR)
    flag = 0
    if tl.min(fits.to(tl.int32)) == 0:
        flag = _REAL
    else:
        _lower(record + _LEAST, tl.min(value))
        _raise(record + _LARGEST, tl.max(value))
        _lower(record + _LOW, tl.min(estimate))
        _raise(record + _HIGH, tl.max(estimate))
        levels = weight * above.to(tl.int64)
        left = tl.where(active, below, 0)
        q = tl.max(left)
        while q > 0:
            chosen = left == q
            tl.atomic_add(record + _LEVELS + q, tl.sum(tl.where(chosen, levels, 0)))
            tl.atomic_or(record + _DENOMINATORS, (q - q + 1) << (q - 1))
            left = tl.where(chosen, 0, left)
            q = tl.max(left)
    return flag


@triton.jit(
    do_not_specialize=["width", "stride", "groups", "per_step", "step", "period", "blocks", "spans"]
)
def _scan(
    x,
    weights,
    denominators,
    record,
    found,
    size,  # elements of a segment: one group of one of the outer
    width,  # elements of a row
    stride,  # of the weights, from segment to segment
    groups,
    per_step,
    step,  # the time step of the first group
    period,
    blocks,  # that a program reads: a span
    spans,  # in a segment
    weighted: tl.constexpr,
    narrow: tl.constexpr,
    block: tl.constexpr,
):
    segment = (tl.program_id(0) // spans).to(tl.int64)
    start = (tl.program_id(0) % spans).to(tl.int64) * blocks * block
    x += segment * size
    sign_off = _SIGN_OFF_SINGLE if narrow else _SIGN_OFF
    infinite = _INFINITE_SINGLE if narrow else _INFINITE
    unit = tl.load(record + _FIRST)
    known = tl.load(record + _FLAGS).to(tl.int32)
    flags = known
    nonzeros = tl.zeros((block,), tl.int32)
    negative = tl.zeros((block,), tl.int32)
    spikes = tl.zeros((block,), tl.int64)
    events = tl.zeros((block,), tl.int64)
    for at in range(start, tl.minimum(start + blocks * block, size), block):
        p = at + tl.arange(0, block)
        read = tl.load(x + p, mask=p < size, other=0)
        if narrow:
            bits = read.to(tl.float32).to(tl.int32, bitcast=True)
        else:
            bits = read.to(tl.float64).to(tl.int64, bitcast=True)
        magnitude = bits & sign_off
        active = magnitude != 0
        nonzeros += active.to(tl.int32)
        negative |= (active & (bits < 0)).to(tl.int32)
        if weighted:
            weight = tl.load(weights + segment * stride + p % width, mask=active, other=0)
            weight = weight.to(tl.int64)
        else:
            weight = active.to(tl.int64)
        if unit == 0:
            least = tl.min(tl.where(active, magnitude, sign_off))
            if least != sign_off:
                own = _double(least, narrow).to(tl.int64, bitcast=True)
                before = tl.atomic_cas(record + _FIRST, tl.zeros_like(own), own)
                unit = tl.where(before == 0, own, before)
        if narrow:  # the same bits in float32, or none if they are no number of it
            single = unit.to(tl.float64, bitcast=True).to(tl.float32)
            first = single.to(tl.int32, bitcast=True)
            first = tl.where(_double(first, narrow).to(tl.int64, bitcast=True) == unit, first, -1)
        else:
            first = unit
        if tl.max((active & (magnitude != first)).to(tl.int32)) == 0:
            spikes += weight
        else:
            events += weight
            if (tl.max(magnitude) >= infinite) | (unit >= _INFINITE):
                flags |= _NOT_FINITE | _REAL
            if flags & _REAL == 0:
                values = _double(magnitude, narrow)
                flags |= _add_levels(record, denominators, values, weight, active, unit)
    count = tl.sum(nonzeros).to(tl.int64)
    if count > 0:
        group = (segment % groups).to(tl.int32)
        tl.atomic_add(record + _STEPS + (step + group // per_step) % period, count)
        tl.atomic_add(found, count)
        tl.atomic_add(record + _SPIKES, tl.sum(spikes))
        tl.atomic_add(record + _EVENTS, tl.sum(events))
        flags |= tl.max(negative) * _NEGATIVE
        if flags != known:
            tl.atomic_or(record + _FLAGS, flags.to(tl.int64))


class TritonReading:
    """A record on the device, that the kernel adds to: no number is fetched before the result."""

    def __init__(self, device: torch.device, period: int) -> None:
        start = [0] * (_STEPS.value + period)
        start[_LEAST.value] = start[_LOW.value] = _INFINITE.value
        with torch.inference_mode(False), torch.no_grad():
            self._record = torch.tensor(start, device=device)
            self._nothing = torch.zeros((), dtype=torch.int64, device=device)
        self._period = period
        self._rounding = 0.0
        self.implementation, self.small = "triton", SMALL

    def read(self, rows: Rows, weights: Weights | None, first: int) -> Tensor:
        """See :class:`snnprof.counting.scan.Reading`."""
        x, outer, groups, width, per_step = rows
        self._rounding = max(self._rounding, rounding(x.dtype))
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device_of(x):
            found = torch.zeros_like(self._nothing)
            x = x.detach()
            x = x.resolve_neg() if x.dtype in (*_NARROW, *_WIDE) else as_float(x)
            size = x.numel() // (outer * groups)
            blocks = max(1, min(_MOST, x.numel() // (_BLOCK * _PROGRAMS)))
            spans = triton.cdiv(size, _BLOCK * blocks)
            counts = self._nothing if weights is None else weights.counts.contiguous()
            if x.numel():
                _scan[(outer * groups * spans,)](
                    *(x.view(torch.uint8) if x.dtype == torch.bool else x, counts),
                    *(denominators(x.device), self._record, found, size, width),
                    *(width if weights is not None and len(counts) > 1 else 0, groups, per_step),
                    *(first, self._period, blocks, spans),
                    weighted=weights is not None,
                    narrow=x.dtype in _NARROW,
                    block=_BLOCK,
                    num_warps=8,  # of 16 elements a thread not all fit into registers
                )
            return found

    def result(self) -> tuple[int, Values, list[int]]:
        """See :class:`snnprof.counting.scan.Reading`."""
        record = self._record.tolist()
        spikes, others = record[_SPIKES.value], record[_EVENTS.value]
        sums = record[_LEVELS.value : _STEPS.value]
        bits = struct.pack("5q", *record[: _HIGH.value + 1])
        return spikes + others, self._values(record, spikes, sums, bits), record[_STEPS.value :]

    def _values(self, record: list[int], spikes: int, sums: list[int], bits: bytes) -> Values:
        first, least, largest, low, high = struct.unpack("5d", bits)
        flags, seen = record[_FLAGS.value], record[_DENOMINATORS.value]
        finite = math.isfinite(first) and not flags & _NOT_FINITE.value
        real = Values(0.0, math.inf, finite=finite, rounding=self._rounding)
        used = [q for q in range(1, MAX_LEVELS + 1) if seen >> (q - 1) & 1]
        scale = math.lcm(*used)
        if first == 0:
            return Values()
        if not finite or flags & _REAL.value or scale > MAX_LEVELS:
            return real
        low, high = min(low, 1.0) * first / scale, max(high, 1.0) * first / scale
        largest = max(largest, first)
        if high > low * (1 + SPREAD) or largest > (MAX_LEVELS + 0.5) * low:
            return real
        return Values(
            *(min(least, first), largest, bool(flags & _NEGATIVE.value), True, low, high),
            levels=spikes * scale + sum(sums[q] * (scale // q) for q in used),
            rounding=self._rounding,
        )

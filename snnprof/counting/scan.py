"""The one read of an operand: what is counted of it, in a handful of numbers.

Three implementations have the contract of :class:`Reading`. On the host it is the C extension
``_scan`` where it was built, else :mod:`snnprof.counting.scan_torch`, which is its oracle: both
verify every value against the unit of those before, and read the input again where it shrinks. On
any other device nothing is waited for: on NVIDIA's a kernel reads,
:class:`snnprof.counting.scan_triton.TritonReading`, where Triton is installed and runs; else
:class:`snnprof.counting.scan_torch.DeviceReading`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn

from snnprof.counting.scan_rows import SMALL, Found, Rows, Tier, Weights
from snnprof.counting.scan_torch import DeviceReading, read_on_host
from snnprof.counting.tensors import on_host, rounding
from snnprof.results.kinds import MAX_LEVELS
from snnprof.results.values import Values

try:
    from snnprof.counting import _scan  # type: ignore[attr-defined]
except ImportError:  # built without a compiler
    _scan = None

_TYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int8: 4,
    torch.uint8: 5,
    torch.bool: 5,
    torch.int16: 6,
    torch.int32: 7,
    torch.int64: 8,
}
_MANY = 1 << 23  # elements, from which on it pays to start threads beside those of OpenMP
_MOST_FAN_OUT = 1 << 20  # of 32-bit sums over a block of 32 elements and 64 levels
_OWN_TYPES = (Tensor, nn.Parameter)


class Reading(Protocol):
    """The running record of everything that was read of an operand.

    Attributes:
        implementation: "c", "triton" or "torch".
        small: up to so many elements a read takes longer to start than to run.
    """

    implementation: str
    small: int

    def read(self, rows: Rows, weights: Weights | None, first: int) -> int | Tensor:
        """Read all rows once.

        Args:
            rows: the operand.
            weights: of each element, as an event; None: 1.
            first: the time step of the first.

        Returns:
            non-zeros in these rows, on their device.
        """
        ...

    def result(self) -> tuple[int, Values, list[int]]:
        """Sum of the weights of the events, the values, non-zeros per time step. Waits."""
        ...


class HostReading:
    """A record of what is in the host's memory.

    Args:
        period: T; time steps follow each other modulo T.
        use_c: whether the C extension may be used, where there is one.
    """

    def __init__(self, period: int, use_c: bool = True) -> None:
        self._use_c = use_c and _scan is not None
        self.implementation = "c" if self._use_c else "torch"
        self.small = 0 if self._use_c else SMALL
        self._values = Values()
        self._unit, self._tier = _question(self._values)
        self._extremes: object = None  # of the last read
        self._levels = self._events = 0
        self._by_step = [0] * period

    def read(self, rows: Rows, weights: Weights | None, first: int) -> int:
        """See :class:`Reading`."""
        found = self._found(rows, weights)
        while found.misfit:
            known = self._values
            joined = known.join(Values.of(found.misfit, rounding(rows.x.dtype)))
            self._take(joined if joined != known else replace(known, low=0.0, high=0.0))
            found = self._found(rows, weights)
        self._events += found.events
        self._levels += found.levels
        extremes = (found[3:8], rows.x.dtype)
        if found.largest and extremes != self._extremes:
            self._note(found, rows.x.dtype)
            self._extremes = extremes
        by_step, period, nonzeros = self._by_step, len(self._by_step), sum(found.nonzeros)
        if period == 1 or rows.groups == 1:
            by_step[first % period] += nonzeros
        else:
            for group, count in enumerate(found.nonzeros):
                by_step[(first + group // rows.per_step) % period] += count
        return nonzeros

    def _found(self, rows: Rows, weights: Weights | None) -> Found:
        if self._use_c and _readable(rows.x):
            found = _by_c(rows, weights, self._unit, self._tier)
            if found is not None:
                return found
        return read_on_host(rows, weights, self._unit, self._tier)

    def _note(self, found: Found, dtype: torch.dtype) -> None:
        """Join the extremes of what was found to fit."""
        known, tier = self._values, self._tier
        if tier is Tier.REAL:
            if not math.isfinite(found.largest) and known.finite:
                self._take(replace(known, finite=False))
            return
        unit = known.low or found.least
        low, high = unit, known.high or unit
        if tier is Tier.ODD:  # none was estimated of spikes: those are the unit
            low, high = min(low, found.low), max(high, found.high)
        if (
            found.least < known.least
            or found.largest > known.largest
            or found.negative > known.negative
            or rounding(dtype) > known.rounding
            or (low, high) != (known.low, known.high)
        ):
            seen = Values(found.least, found.largest, bool(found.negative), True, low, high)
            self._take(known.join(replace(seen, rounding=rounding(dtype))))

    def _take(self, values: Values) -> None:
        """Go on with these values; the levels so far are of the unit before."""
        if self._values.low and values.low:
            self._levels *= round(self._values.low / values.low)
        self._values = values
        self._unit, self._tier = _question(values)

    def result(self) -> tuple[int, Values, list[int]]:
        """See :class:`Reading`."""
        return self._events, replace(self._values, levels=self._levels), list(self._by_step)


def _question(known: Values) -> tuple[float, Tier]:
    """The unit to verify values with, and how."""
    if known.silent:
        return 1.0, Tier.SPIKES  # a guess
    if known.real:
        return 1.0, Tier.REAL
    unit = known.low
    # Of so few bits that all multiples are numbers of float32.
    exact = unit == known.high and (math.frexp(unit)[0] * 2**17).is_integer()
    return unit, Tier.EXACT if exact else Tier.ODD


def _by_c(rows: Rows, weights: Weights | None, unit: float, tier: Tier) -> Found | None:
    """What the C extension finds; None where it cannot tell."""
    x, outer, groups, _, _ = rows
    size = x.numel()
    given = (0, 1 << 62, 0, 1 << 24)
    if weights is not None:
        if weights.most > _MOST_FAN_OUT:
            return None
        block = (1 << 31) // ((MAX_LEVELS + 1) * (weights.most + 1))
        given = (weights.pointer, weights.length, weights.stride, block)
    pointer, tile, stride, block = given
    threads = torch.get_num_threads() if size >= _MANY else 1
    found = _scan.scan(
        *(x.data_ptr(), _TYPES[x.dtype], pointer, outer, groups, size // (outer * groups)),
        *(tile, stride, block, unit, tier, threads),
    )
    return None if found[-1] else Found._make(found[:-1])


def is_extension_built() -> bool:
    """True where inputs on the host are read in C."""
    return _scan is not None


def count_nonzeros(x: Tensor, outer: int, groups: int) -> Sequence[int | Tensor] | None:
    """Non-zeros of each group, of x [outer, groups, ...] in any shape, where C can count them."""
    if _scan is None or not (on_host(x) and x.is_contiguous() and _readable(x)):
        return None
    found = _by_c(Rows(x, outer, groups, 1), None, 1.0, Tier.REAL)
    return found and found.nonzeros


def read_weight(weight: Tensor, groups: int) -> tuple[Tensor, bool, bool] | None:
    """A weight [C_out, ...] read once, where the C extension can.

    Returns:
        int32 [groups, ...], non-zeros summed over the output channels of each group; whether
        each channel holds one magnitude; whether a value is negative, if each does.
    """
    if _scan is None or not (on_host(weight) and _readable(weight) and weight.is_contiguous()):
        return None
    counts = torch.zeros((groups, *weight.shape[1:]), dtype=torch.int32, device="cpu")
    outputs, n = len(weight) // groups, weight[0].numel()
    found = _scan.weight(
        *(weight.data_ptr(), _TYPES[weight.dtype], counts.data_ptr(), groups, outputs, n)
    )
    return found and (counts, bool(found[0]), bool(found[1]))


def _readable(x: Tensor) -> bool:
    """True if the numbers in the tensor's memory are its values."""
    return type(x) in _OWN_TYPES and x.dtype in _TYPES and not x.is_neg()


def new_reading(x: Tensor, period: int) -> Reading:
    """A record for operands on x's device."""
    return HostReading(period) if on_host(x) else _on_device(x.device)(x.device, period)


@lru_cache(maxsize=8)
def _on_device(device: torch.device) -> Callable[[torch.device, int], Reading]:
    """Triton's reading where its kernel starts on the device, else torch's."""
    if device.type != "cuda" or torch.version.hip is not None:
        return DeviceReading
    try:
        from snnprof.counting.scan_triton import TritonReading

        one = Rows(torch.ones(1, device=device), 1, 1, 1)
        TritonReading(device, 1).read(one, None, 0)
    except Exception:  # not installed; no compiler to start it with; a GPU too old for it
        return DeviceReading
    return TritonReading

"""The one read of an operand in plain torch: for any device, and the oracle of the C extension."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from snnprof.counting.scan_rows import SMALL, Found, Rows, Tier, Weights
from snnprof.counting.tensors import as_float, rounding
from snnprof.counting.time_steps import add_steps
from snnprof.results.kinds import MAX_LEVELS
from snnprof.results.values import SPREAD, Values

BINS = 8192  # fractions of denominators up to 64 are further apart than two of these


def read_on_host(rows: Rows, weights: Weights | None, unit: float, tier: Tier) -> Found:
    """Read everything, chunk by chunk; of a misfit only that is found."""
    counts = None if weights is None else weights.counts
    nonzeros = [0] * rows.groups
    events = levels = 0
    least, largest, negative, low, high = math.inf, 0.0, False, math.inf, 0.0
    with torch.inference_mode(False), torch.no_grad():
        for x in rows.chunks():
            found = _read_chunk(as_float(x), counts, unit, tier)
            if found.misfit:
                return found
            nonzeros = [a + b for a, b in zip(nonzeros, found.nonzeros, strict=True)]
            events, levels = events + found.events, levels + found.levels
            least, largest = min(least, found.least), _larger(largest, found.largest)
            low, high = min(low, found.low), max(high, found.high)
            negative = negative or bool(found.negative)
    return Found(nonzeros, events, levels, least, largest, negative, low, high)


def _read_chunk(x: Tensor, counts: Tensor | None, unit: float, tier: Tier) -> Found:
    if tier < Tier.REAL and unit == 1:
        # 0 and 1 are the only roots of x - x * x, and no other float rounds to +0.
        rest = torch.addcmul(x, x, x, value=-1)
        if not int(rest.view(torch.uint8).amax().numpy()):
            nonzeros, events = _sums(x, counts)
            seen = any(nonzeros)
            return Found(nonzeros, events, events, 1.0 if seen else math.inf, float(seen), False)
    active = (x != 0).to(x.dtype)
    nonzeros, events = _sums(active, counts)
    if tier is Tier.REAL:
        return Found(nonzeros, events, 0, math.inf, float(x.abs().amax().numpy()), False)
    magnitude = x.abs()
    largest = float(magnitude.amax().numpy())
    negative = bool((x < 0).any().numpy())
    if bool((magnitude == active * unit).all().numpy()):
        least = largest or math.inf
        return Found(nonzeros, events, events, least, largest, negative, least, largest)
    if tier is Tier.EXACT and largest <= MAX_LEVELS * unit:
        level = (magnitude / unit).round_()
        if bool((level * unit == magnitude).all().numpy()):
            levels = _sums(level, counts)[1]
            least = float(magnitude.masked_fill_(active == 0, math.inf).amin().numpy())
            return Found(nonzeros, events, levels, least, largest, negative)
    magnitude = magnitude.double()
    level = torch.where(active > 0, (magnitude / unit).round(), 1.0)
    most = 1 if tier is Tier.SPIKES else MAX_LEVELS
    slack = 2 * SPREAD if tier is Tier.ODD else 0.0
    fits = ((magnitude - level * unit).abs() <= slack * magnitude) & (level <= most)
    silent = active == 0
    misfit = float(magnitude.masked_fill(fits | silent, 0.0).amax().numpy())
    if misfit:
        return Found([], 0, 0, 0.0, 0.0, False, misfit=misfit)
    estimate = magnitude / level
    levels = _sums(level.masked_fill_(silent, 0.0), counts)[1]
    least = float(magnitude.masked_fill_(silent, math.inf).amin().numpy())
    high = float(estimate.amax().numpy())
    low = float(estimate.masked_fill_(silent, math.inf).amin().numpy())
    return Found(nonzeros, events, levels, least, largest, negative, low, high)


def _sums(x: Tensor, counts: Tensor | None) -> tuple[list[int], int]:
    """Whole numbers [outer, groups, R, P], their sums per group, and the sum of x * counts."""
    sums = x.sum(2).long()
    by_group = [int(n) for n in sums.sum((0, 2)).numpy()]
    if counts is None:
        return by_group, sum(by_group)
    return by_group, int((sums * _apart(counts, sums)).sum().numpy())


def _apart(counts: Tensor, sums: Tensor) -> Tensor:
    """Counts [G, P] for each of [outer, groups, P], or the one [1, P] for all."""
    return counts.view(-1, sums.shape[1], sums.shape[2]) if len(counts) > 1 else counts


def _larger(a: float, b: float) -> float:
    """The larger one; NaN if one is."""
    return a if a != a or a > b else b


class DeviceReading:
    """A record on a device, kept there: no number is fetched before the result.

    No branch may depend on a value, so the running divisor is found another way. Every magnitude
    is compared with the first one seen, in float64: their ratio is a fraction of a denominator of
    at most 64, or there is no unit. Which denominators there are is kept; the unit is the first
    magnitude over their least common multiple.
    """

    def __init__(self, device: torch.device, period: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._events = torch.zeros((), dtype=torch.int64, device=device)
            self._by_step = torch.zeros(period, dtype=torch.int64, device=device)
            self._first = torch.full((), math.inf, dtype=torch.float64, device=device)
            self._levels = torch.zeros((), dtype=torch.float64, device=device)
            self._seen = torch.zeros(MAX_LEVELS + 1, dtype=torch.bool, device=device)
            # Least magnitude, least estimate; largest of both; all of them.
            self._least = torch.full((2,), math.inf, dtype=torch.float64, device=device)
            self._largest = torch.zeros(2, dtype=torch.float64, device=device)
            # A value below 0, one that is not finite, one that is no fraction of the first.
            self._flags = torch.zeros(3, dtype=torch.bool, device=device)
        self._rounding = 0.0
        self.implementation, self.small = "torch", SMALL

    def read(self, rows: Rows, weights: Weights | None, first: int) -> Tensor:
        """See :class:`snnprof.counting.scan.Reading`."""
        counts = None if weights is None else weights.counts
        self._rounding = max(self._rounding, rounding(rows.x.dtype))
        with torch.inference_mode(False), torch.no_grad():
            return sum(
                (self._read(x, counts, first, rows.per_step) for x in rows.chunks()),
                torch.zeros_like(self._events),
            )

    def _read(self, x: Tensor, counts: Tensor | None, first: int, per_step: int) -> Tensor:
        active = x != 0
        sums = active.sum(2)
        by_step = sums.sum((0, 2)).view(-1, per_step).sum(1)
        add_steps(self._by_step, by_step, first)
        self._events += (sums if counts is None else sums * _apart(counts, sums)).sum()
        magnitude = as_float(x).abs().double()  # a tensor of ours
        largest = magnitude.amax()
        magnitude.masked_fill_(~active, math.inf)
        least = magnitude.amin()
        self._first = torch.where(self._first.isinf(), least, self._first)
        ratio = magnitude / self._first
        ratio.masked_fill_(~active, 1.0)
        part = (ratio - ratio.floor()).nan_to_num_(0.0, 0.0, 0.0)
        below = denominators(x.device)[(part * BINS).round_().long()]
        above = (ratio * below).round_()
        fits = (above >= 1) & (above <= MAX_LEVELS) & (below > 0)
        # Products of few bits are exact where a ratio is not: 1 / 49 * 49 is less than 1.
        estimate = magnitude * below / (self._first * above)
        estimate.masked_fill_(~active, 1.0)
        fits &= (estimate - 1).abs() <= 2 * SPREAD
        # Where a value is no such fraction it counts as the first: the result is REAL.
        estimate.masked_fill_(~fits, 1.0)
        below.masked_fill_(~fits, 1)
        levels = (above / below.clamp(min=1)).masked_fill_(~(active & fits), 0.0)
        sums = levels.sum(2)
        self._levels += (sums if counts is None else sums * _apart(counts, sums)).sum()
        self._seen[below.flatten()] = True
        self._least = torch.minimum(self._least, torch.stack((least, estimate.amin())))
        self._largest = torch.maximum(self._largest, torch.stack((largest, estimate.amax())))
        self._flags |= torch.stack(((x < 0).any(), ~largest.isfinite(), ~fits.all()))
        return by_step.sum()

    def result(self) -> tuple[int, Values, list[int]]:
        """See :class:`snnprof.counting.scan.Reading`."""
        first, (least, low) = float(self._first), self._least.tolist()
        largest, high = self._largest.tolist()
        negative, not_finite, misfit = self._flags.tolist()
        scale = math.lcm(*(q for q, seen in enumerate(self._seen.tolist()) if q and seen))
        if not_finite:  # NaN is no number to join others with
            least, largest = 0.0, math.inf
        values = Values(least, largest, negative, not not_finite, rounding=self._rounding)
        if largest == 0:
            values = Values()
        elif not (misfit or not_finite or scale > MAX_LEVELS):
            low, high = low * first / scale, high * first / scale
            if high <= low * (1 + SPREAD) and largest <= (MAX_LEVELS + 0.5) * low:
                values = Values(
                    *(least, largest, negative, True, low, high),
                    levels=round(float(self._levels) * scale),
                    rounding=self._rounding,
                )
        return int(self._events), values, [int(n) for n in self._by_step.tolist()]


@lru_cache(maxsize=8)
def denominators(device: torch.device) -> Tensor:
    """The denominator of the fraction in each bin of [0, 1]; 0 where there is none."""
    found = [0] * (BINS + 1)
    for q in range(MAX_LEVELS, 0, -1):
        for p in range(q + 1):
            if math.gcd(p, q) == 1:
                found[round(p / q * BINS)] = q
    with torch.inference_mode(False):
        return torch.tensor(found, device=device)

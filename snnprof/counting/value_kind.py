"""The kind of values that a layer receives, judged over a whole measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from snnprof.counting.scratch import Scratch, on_host, rounding
from snnprof.results.kinds import MAX_LEVELS, Kind
from snnprof.results.values import Values

# Steps of which sums are exact: whole numbers and binary fractions, coarse to fine.
_EXACT_STEPS = tuple(2.0**-power for power in range(11))
_ROUNDINGS = 4  # times the relative rounding of one number: that of a sum
_FINEST = 1e-12
_HALF = 1e-4  # relative rounding of every half precision is above this


@dataclass(frozen=True)
class ValueKind:
    """The kind of the values that a layer received.

    Attributes:
        kind: the narrowest that all fit.
        step: they are multiples of it; the height of BINARY and TERNARY ones, NaN of REAL ones.
        finite: False where NaN or infinity was among them.
    """

    kind: Kind
    step: float
    finite: bool = True

    def unrolled(
        self, events: float, magnitude_sum: float, magnitude_sum_in_steps: float
    ) -> int | None:
        """Events, an integer k being k of them; None for REAL values.

        Args:
            events: number of them, however large.
            magnitude_sum: sum of their magnitudes.
            magnitude_sum_in_steps: the same, each as :meth:`ValueKindRecord.in_steps` makes it.
        """
        if self.kind == Kind.REAL:
            return None
        if self.kind != Kind.INTEGER:
            return int(events)
        exact = self.step in _EXACT_STEPS
        return round((magnitude_sum if exact else magnitude_sum_in_steps) / self.step)


class ValueKindRecord:
    """A running record of the values in a stream of tensors, kept on their device.

    On the host a number can be read at once, and passes that a chunk does not need are left
    out. On any other device no number is read before :meth:`read`, which waits for it.
    """

    def __init__(self, x: Tensor) -> None:
        # Sums of float64 are not as exact as its numbers: many are added one after the other.
        self._eps = max(rounding(x.dtype), _FINEST)
        device, host = x.device, on_host(x)
        self._lowest: float | Tensor = math.inf
        self._highest: float | Tensor = -math.inf
        self._least: float | Tensor = math.inf
        if not host:
            full = partial(torch.full, (), dtype=torch.float64, device=device)
            self._lowest, self._highest, self._least = (
                full(math.inf),
                full(-math.inf),
                full(math.inf),
            )
        self._surely_real = False  # whatever comes
        self._rows = 0
        self._weighted: dict[int, Tensor] = {}  # by width

    def observe(self, x: Tensor, scratch: Scratch) -> Sums:
        """Count one chunk.

        Args:
            x: float32 or float64, shape [K, R, P], K * R at most ``CHUNK_ROWS``.
            scratch: work buffers.
        """
        if not on_host(x):
            return self._observe_on_device(x, x.amin(), x.amax(), scratch)
        return self._observe_on_host(x, *scratch.extremes(x), scratch)

    def observe_spikes(self, x: Tensor, scratch: Scratch) -> Tensor | None:
        """Count one chunk if it is all zeros and ones: the number of its non-zeros is its sum.

        Returns:
            Non-zeros per time step and position, [K, P]; None where x holds other values or is
            not on the host: :meth:`observe` counts it then.
        """
        if self._surely_real or not on_host(x) or not scratch.all_zero_or_one(x):
            return None
        by_step = x.sum(1)
        self._lowest = min(float(self._lowest), 0.0)
        self._highest = max(float(self._highest), 0.0)
        if not (float(self._least) <= 1.0 <= float(self._highest)) and by_step.numpy().any():
            self._highest = max(float(self._highest), 1.0)
            self._least = min(float(self._least), 1.0)
        return by_step

    def _observe_on_host(self, x: Tensor, lowest: float, highest: float, scratch: Scratch) -> Sums:
        work = scratch.like(x)
        largest = max(-lowest, highest)
        self._note_extremes(lowest, highest)
        if self._surely_real:
            return Sums.of(torch.ne(x, 0, out=work))
        magnitude_sum = (torch.abs(x, out=work) if lowest < 0 else x).sum((0, 1))
        sums = Sums.of(torch.ne(x, 0, out=work), magnitude_sum)
        # No magnitude exceeds the largest: a sum of n of them is n times the largest only
        # if each of them is (to within the rounding of the sum).
        if not (magnitude_sum.numpy() == (sums.active * largest).numpy()).all():
            least = float(self._least_of(torch.abs(x, out=work)).numpy())
            self._least = min(float(self._least), least)
        elif largest > 0:
            self._least = min(float(self._least), largest)
        # The step is at most the least value: more than MAX_LEVELS of them, whatever follows.
        self._surely_real = largest > MAX_LEVELS * float(self._least)
        return sums

    def _note_extremes(self, lowest: float, highest: float) -> None:
        if math.isfinite(lowest) and math.isfinite(highest):
            self._lowest = min(float(self._lowest), lowest)
            self._highest = max(float(self._highest), highest)
        else:
            self._lowest = self._highest = math.nan

    def _observe_on_device(
        self, x: Tensor, lowest: Tensor, highest: Tensor, scratch: Scratch
    ) -> Sums:
        work = scratch.like(x)
        magnitude_sum = torch.abs(x, out=work).sum((0, 1))
        sums = Sums.of(torch.ne(x, 0, out=work), magnitude_sum)
        least = self._least_of(torch.abs(x, out=work))
        assert isinstance(self._least, Tensor)
        assert isinstance(self._lowest, Tensor)
        assert isinstance(self._highest, Tensor)
        self._least = torch.minimum(self._least, least)
        self._lowest = torch.minimum(self._lowest, lowest)
        self._highest = torch.maximum(self._highest, highest)
        return sums

    def _least_of(self, magnitude: Tensor) -> Tensor:
        """The least non-zero magnitude; overwrites what it is given.

        On the way the rows are summed once more, each with another weight, for :meth:`read`.
        """
        rows = magnitude.flatten(0, 1)
        weights = _row_weights(self._rows, len(rows), rows)
        self._rows += len(rows)
        # No matrix product: autocast would have it in half precision.
        found, width = (rows * weights.unsqueeze(1)).sum(0).double(), rows.shape[1]
        self._weighted[width] = self._weighted.get(width, 0) + found
        return torch.threshold_(magnitude, 0.0, math.inf).amin()

    def in_steps(self, magnitude_sum: Tensor) -> Tensor:
        """Sums of magnitudes, float64, made multiples of the least value so far if they nearly are.

        0.3 and 0.9 are no numbers of float32: what is there instead are nearly such multiples,
        and the little that is missing would add up. A sum that is none is left as it is, since
        a smaller value may follow that it is a multiple of.
        """
        if self._surely_real:
            return magnitude_sum
        least = torch.as_tensor(self._least, dtype=torch.float64, device=magnitude_sum.device)
        levels = magnitude_sum / least
        whole = levels.round()
        near = (levels - whole).abs() <= self._slack(levels)
        # Before the first non-zero value the least is infinite, and whole is 0.
        return torch.where(near & (whole > 0), whole * least, magnitude_sum)

    def _slack(self, levels: Tensor) -> Tensor:
        """Rounding of sums of so many levels."""
        return (_ROUNDINGS * self._eps * levels).clamp(max=0.25)

    def values(self, found: ValueKind, levels: int | None) -> Values:
        """What was seen, to be joined with other measurements."""
        largest = max(-float(self._lowest), float(self._highest), 0.0)
        largest = largest if math.isfinite(largest) else math.inf
        real = found.kind == Kind.REAL
        step = 0.0 if real or not largest else found.step
        return Values(
            # Of REAL values the least is not followed to the end.
            least=largest if real else float(self._least),
            largest=largest,
            negative=float(self._lowest) < 0,
            finite=found.finite,
            low=step,
            high=step,
            levels=levels or 0,
            rounding=self._eps,
        )

    def read(self, magnitude_sums: Sequence[Tensor], in_steps: Sequence[Tensor]) -> ValueKind:
        """The narrowest kind that all values fit. Synchronises.

        If all values are whole multiples of a step, so are their sums, weighted or not.
        Numbers that are not would have to cancel in both, at every single position.

        Args:
            magnitude_sums: sums of magnitudes per input position, [P], of everything observed.
            in_steps: the same, chunk by chunk as :meth:`in_steps` makes them.
        """
        lowest, highest, least = float(self._lowest), float(self._highest), float(self._least)
        largest = max(-lowest, highest)
        if self._surely_real or not math.isfinite(largest):
            return ValueKind(Kind.REAL, math.nan, finite=math.isfinite(largest))
        if largest == 0 or least == largest:
            return ValueKind(Kind.TERNARY if lowest < 0 else Kind.BINARY, largest)
        extremes = torch.tensor([least, largest], dtype=torch.float64)
        # Rounding grows with the weights: they are for the steps without any.
        exact = (extremes, *magnitude_sums, *self._weighted.values())
        for step in _EXACT_STEPS:
            if largest <= MAX_LEVELS * step and all(_whole(sums / step) for sums in exact):
                return ValueKind(Kind.INTEGER, step)
        # Half precision is too coarse to tell a multiple of another step from what is near it.
        if self._eps < _HALF and largest <= MAX_LEVELS * least:
            odd = (sums / least for sums in (extremes, *in_steps))
            if all(_whole(levels, self._slack(levels)) for levels in odd):
                return ValueKind(Kind.INTEGER, least)
        return ValueKind(Kind.REAL, math.nan)


def _whole(levels: Tensor, slack: Tensor | float = 0.0) -> bool:
    """True if all are whole numbers, up to the rounding of their summands."""
    return bool(((levels - levels.round()).abs() <= slack).all())


def _row_weights(first: int, count: int, like: Tensor) -> Tensor:
    """Scrambled whole numbers from 1 to 61, row by row; no generator is drawn from."""
    rows = torch.arange(first, first + count, device=like.device)
    return (rows * 2654435761 // 128 % 61 + 1).to(like.dtype)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over one chunk [K, R, P].

    Attributes:
        active: [P], how many values are non-zero.
        magnitude_sum: [P]; without meaning once the values are REAL whatever follows.
        by_step: [K, P], ``active`` per time step.
    """

    active: Tensor
    magnitude_sum: Tensor
    by_step: Tensor

    @staticmethod
    def of(mask: Tensor, magnitude_sum: Tensor | None = None) -> Sums:
        """From a mask of ones, [K, R, P], and the sum of magnitudes."""
        by_step = mask.sum(1)
        active = by_step.sum(0)
        return Sums(active, active if magnitude_sum is None else magnitude_sum, by_step)

"""Counting products of two activations, as in attention.

SOPs = number of pairs (non-zero a, non-zero b) that meet
     = sum over the shared indices k of nnz(a[..., :, k]) * nnz(b[..., k, :]).

The masks are summed over the indices that one operand has alone; what is left of them is
multiplied element by element, so that no second product runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snnprof.counting.products import Index, Product
from snnprof.counting.scratch import CHUNK_ELEMENTS, CHUNK_ROWS, EXACT_ROWS, Scratch, as_float
from snnprof.counting.value_kind import Levels, Spectrum
from snnprof.counting.weight_kind import WeightJudge
from snnprof.results import LayerCount
from snnprof.results.kinds import Kind, operation

_MIN_WIDTH = 256  # positions told apart where the kind of an operand is judged


@dataclass(frozen=True)
class Laid:
    """An operand without repetition: diagonals taken, expanded dimensions cut down to 1.

    Attributes:
        x: float32 or float64, its dimensions in the order they lie in memory.
        index: a letter for each dimension, none twice.
        numel: elements before the expanded dimensions were cut down.
    """

    x: Tensor
    index: Index
    numel: int

    @staticmethod
    def out(x: Tensor, index: Index) -> Laid:
        for letter in dict.fromkeys(index):
            while index.count(letter) > 1:
                first = index.index(letter)
                second = index.index(letter, first + 1)
                x = x.diagonal(0, first, second)
                rest = index[:first] + index[first + 1 : second] + index[second + 1 :]
                index = (*rest, letter)
        numel = x.numel()
        for dim, stride in enumerate(x.stride()):
            if stride == 0:
                x = x.narrow(dim, 0, 1)
        order = sorted(range(x.dim()), key=x.stride, reverse=True)
        return Laid(as_float(x.permute(order)), tuple(index[dim] for dim in order), numel)

    @property
    def repeats(self) -> int:
        return self.numel // self.x.numel()

    def nonzeros(self, shared: Index, scratch: Scratch) -> Tensor:
        """Number of non-zero elements for each value of the shared indices, float64."""
        mask = torch.ne(self.x, 0, out=scratch.like(self.x))
        return self._summed(mask, shared, EXACT_ROWS)

    def mass(self, shared: Index, scratch: Scratch) -> Tensor:
        """Sum of magnitudes for each value of the shared indices, float64."""
        magnitude = torch.abs(self.x, out=scratch.like(self.x))
        return self._summed(magnitude, shared, CHUNK_ROWS)

    def _summed(self, x: Tensor, shared: Index, exact: int) -> Tensor:
        """Sum over what is not shared; float32 up to ``exact`` summands."""
        own = [dim for dim, letter in enumerate(self.index) if letter not in shared]
        if own:
            few = math.prod(x.shape[dim] for dim in own) <= exact
            x = x.sum(own, dtype=x.dtype if few else torch.float64)
        else:
            x = x.clone()  # else it would be a work buffer
        left = [letter for letter in self.index if letter in shared]
        return x.double().permute([left.index(letter) for letter in shared])


class Watch:
    """What values an operand holds over a measurement."""

    def __init__(self, x: Tensor) -> None:
        self._spectrum = Spectrum(x)
        # By width: sums of magnitudes, and the same in whole steps, [2, P].
        self._masses: dict[int, Tensor] = {}

    def observe(self, x: Tensor, scratch: Scratch) -> None:
        """Look at x, its dimensions in the order they lie in memory."""
        width, dims = 1, list(x.shape)
        while dims and width < _MIN_WIDTH:
            width *= dims.pop()
        rows = x.reshape(-1, width)
        for chunk in rows.split(max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // width))):
            piece = chunk.unsqueeze(0)
            spikes = self._spectrum.observe_spikes(piece, scratch)
            mass = self._spectrum.observe(piece, scratch).mass if spikes is None else spikes[0]
            mass = mass.double()
            found = torch.stack((mass, self._spectrum.in_steps(mass)))
            self._masses[width] = self._masses.get(width, 0) + found

    def in_steps(self, mass: Tensor) -> Tensor:
        """See :meth:`Spectrum.in_steps`."""
        return self._spectrum.in_steps(mass)

    def read(self) -> Levels:
        """The kind and the step. Synchronises."""
        masses, in_steps = zip(*self._masses.values(), strict=True)
        return self._spectrum.read(masses, in_steps)


class ProductTally:
    """Counts of one product over a measurement.

    Args:
        name: the row's name.
        product: the first call's.
        of_parameter: True where b is a parameter of the model: its kind is judged per output
            channel, like a weight's.
        period: T where it is known, else None.
        scratch: work buffers shared by the counter's layers.
    """

    def __init__(
        self,
        name: str,
        product: Product,
        of_parameter: bool,
        period: int | None,
        scratch: Scratch,
    ) -> None:
        self.name = name
        self._op = product.op
        self._period = period
        self._scratch = scratch
        self._calls = 0
        self._inputs = 0
        self._nominal_macs = 0
        self._steps_known = period is not None
        self._root_call = 0
        with torch.inference_mode(False), torch.no_grad():
            device = product.a.device
            self._events = torch.zeros(5, dtype=torch.float64, device=device)
            self._by_step = torch.zeros(period or 1, dtype=torch.float64, device=device)
            self._a = None if product.note else Watch(product.a)
            self._b = None if of_parameter else Watch(product.b)
            self._weights = WeightJudge(device)

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._calls == 0

    def add(self, product: Product, at: tuple[int, int], root_call: int) -> None:
        """Count one call; ``at`` and ``root_call`` as of :meth:`Tally.add`, of operand a."""
        nominal = product.nominal_macs
        with torch.inference_mode(False), torch.no_grad():
            a = Laid.out(product.a.detach(), product.a_index)
            b = Laid.out(product.b.detach(), product.b_index)
            if self._a is not None:
                self._a.observe(a.x, self._scratch)
            self._count(a, b, nominal)
            if self._b is not None:
                self._b.observe(b.x, self._scratch)
            else:
                channels = _by_output_channel(b, product.summed)
                self._weights.observe(channels, self._scratch)
            self._book_steps(product.a, at, root_call)
        self._calls += 1
        self._inputs += a.numel
        self._nominal_macs += nominal

    def _count(self, a: Laid, b: Laid, nominal: int) -> None:
        shared = tuple(letter for letter in a.index if letter in b.index)
        active, there = a.nonzeros(shared, self._scratch), b.nonzeros(shared, self._scratch)
        # Indices along which both only repeat themselves.
        seen = dict(zip(b.index, b.x.shape, strict=True))
        for letter, size in zip(a.index, a.x.shape, strict=True):
            seen[letter] = max(size, seen.get(letter, 1))
        repeats = nominal // math.prod(seen.values())
        pairs = (active * there).sum() * repeats
        mass_pairs = in_steps = pairs
        if self._a is not None:
            mass = a.mass(shared, self._scratch)
            mass_pairs = (mass * there).sum() * repeats
            in_steps = (self._a.in_steps(mass) * there).sum() * repeats
        nonzeros = active.sum() * a.repeats
        width = nominal // a.numel
        self._events += torch.stack((pairs, mass_pairs, in_steps, nonzeros, nonzeros * width))

    def _book_steps(self, a: Tensor, at: tuple[int, int], root_call: int) -> None:
        """Add a's non-zero elements to their time steps, as far as these are known."""
        first, steps = at
        # Seen again in the same call of the root, it may well hold one step each time.
        if steps == 0 or (steps > 1 and root_call == self._root_call):
            self._steps_known = False
        self._root_call = root_call
        if self._period is not None and self._steps_known:
            nonzeros = (a != 0).reshape(steps, -1).sum(1, dtype=torch.float64)
            where = torch.arange(first, first + steps, device=a.device) % self._period
            self._by_step.index_add_(0, where, nonzeros)

    def settle(self) -> None:
        """Nothing to look at again: every call was counted with the operands it had."""

    def let_go(self) -> None:
        """Nothing is held."""

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all operands were finite, and no remark. Synchronises."""
        unseen = Levels(Kind.REAL, math.nan)
        a = unseen if self._a is None else self._a.read()
        b = Levels(self._weights.kind(), 1.0) if self._b is None else self._b.read()
        synops, *masses, nonzeros, nnz_synops = self._events.tolist()
        by_step = None
        if self._period is not None and self._steps_known:
            counted = self._by_step.tolist()
            by_step = tuple(n * self._period / self._inputs for n in counted)
        count = LayerCount(
            name=self.name,
            op=self._op,
            input_kind=a.kind.value,
            weight_kind=b.kind.value,
            operation=operation(a.kind, b.kind).value,
            stem=False,
            calls=self._calls,
            firing_rate=nonzeros / self._inputs,
            synops=int(synops),
            unrolled_synops=a.unrolled(synops, *masses),
            rate_synops=nonzeros * self._nominal_macs / self._inputs,
            nominal_macs=self._nominal_macs,
            dense_macs=self._nominal_macs,
            nonzeros=int(nonzeros),
            inputs=self._inputs,
            firing_rate_by_step=by_step,
            nnz_synops=int(nnz_synops),
        )
        return count, a.finite and b.finite, None


def _by_output_channel(weight: Laid, summed: frozenset[str]) -> Tensor:
    """The weight as [indices of the output, indices summed over]."""
    kept = [dim for dim, letter in enumerate(weight.index) if letter not in summed]
    rest = [dim for dim, letter in enumerate(weight.index) if letter in summed]
    channels = math.prod(weight.x.shape[dim] for dim in kept)
    return weight.x.permute(kept + rest).reshape(channels, -1)

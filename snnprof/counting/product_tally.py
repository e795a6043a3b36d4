"""The counts of products of two activations, as in attention.

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

from snnprof.counting.output_gradients import GradientTally
from snnprof.counting.products import Index, Product
from snnprof.counting.scan import new_reading
from snnprof.counting.scan_rows import Rows, Weights
from snnprof.counting.time_steps import ModelCall, Steps, TimeSteps
from snnprof.counting.weight_kind import WeightKindRecord
from snnprof.results import LayerCount
from snnprof.results.counts import rate_synops
from snnprof.results.kinds import Kind, operation
from snnprof.results.values import ValueKind

_MOST_PAIRS = 1 << 56  # times 64 levels they are below 2^63
_EXACT = 1 << 24  # ones that float32 counts without rounding
_SHORT = 16  # elements of a row that are too few for a loop


@dataclass(frozen=True)
class CompactOperand:
    """An operand without repetition: diagonals taken, expanded dimensions cut down to 1.

    Attributes:
        x: contiguous, its dimensions in the order of memory.
        index: a letter for each dimension, none twice.
        numel: elements before the expanded dimensions were cut down.
    """

    x: Tensor
    index: Index
    numel: int

    @staticmethod
    def of(x: Tensor, index: Index) -> CompactOperand:
        """The operand x, whose dimensions run with these letters."""
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
        x = x.permute(order).contiguous()
        return CompactOperand(x, tuple(index[dim] for dim in order), numel)

    def begins_as(self, x: Tensor, index: Index) -> bool:
        """True if the first two dimensions, which may hold time, are x's, or x has a diagonal."""
        alike = self.index[:2] == index[:2] and self.x.shape[:2] == x.shape[:2]
        return alike or len({*index}) < len(index)

    def size(self, letter: str) -> int:
        """How far an index runs here."""
        return self.x.shape[self.index.index(letter)]

    @property
    def repeats(self) -> int:
        """How often each element of x stands in the operand."""
        return self.numel // self.x.numel()

    def nonzeros(self, shared: Index) -> Tensor:
        """Number of non-zero elements for each value of the shared indices, int64."""
        own = [dim for dim, letter in enumerate(self.index) if letter not in shared]
        left = [letter for letter in self.index if letter in shared]
        few = math.prod(self.x.shape[dim] for dim in own) <= _EXACT
        found = (self.x != 0).to(torch.float32 if few else torch.float64)
        found = found.sum(own) if own else found
        return found.long().permute([left.index(letter) for letter in shared])

    def rows(self, shared: Index, counts: Tensor, steps: Steps | None) -> tuple[Rows, Weights]:
        """The operand as rows, and what each element of a row counts as.

        Args:
            shared: indices, in the order in which they run here.
            counts: for each value of these.
            steps: time steps, if the first index here runs over them and nothing before.
        """
        own = [dim for dim, letter in enumerate(self.index) if letter not in shared]
        shape, (_, length, outer) = self.x.shape, steps or Steps(0, 1)
        # The elements of one count are often rows: groups, own indices, then a row.
        first, last = (own[0], own[-1] + 1) if own else (0, 0)
        groups, width = math.prod(shape[:first]), math.prod(shape[last:])
        apart = [shape[dim] for dim in range(len(shape)) if not own or not first <= dim < last]
        if width < _SHORT or own != list(range(first, last)) or groups % (outer * length):
            for dim in own:
                counts = counts.unsqueeze(dim)
            groups, apart = outer * length, list(shape)
            width = self.x.numel() // groups
        counts = counts.expand(apart).reshape(-1, width)
        if len(counts) != groups:  # one row without own indices
            counts = counts.reshape(groups, -1)
        return Rows(self.x, outer, groups // outer, width, groups // (outer * length)), Weights(
            counts
        )


class ProductTally:
    """Counts of one product over a measurement.

    Args:
        name: the row's name.
        product: the first call's.
        of_parameter: True where b is a parameter of the model: its kind is judged per output
            channel, like a weight's.
        timesteps: T where it is known, else None.
        gradient: of the product's outputs; None where it is not looked at.

    Attributes:
        time_steps: how the time steps reach the product's first operand.
        gradient: as given.
    """

    def __init__(
        self,
        name: str,
        product: Product,
        of_parameter: bool,
        timesteps: int | None,
        gradient: GradientTally | None = None,
    ) -> None:
        self.name = name
        self.gradient = gradient
        self._op = product.op
        self.time_steps = TimeSteps(timesteps)
        self._calls = 0
        self._inputs = 0
        self._b_inputs = 0
        self._nominal_macs = 0
        self._kind_of_a = not product.note
        self._repeated: int | Tensor = 0  # non-zeros of a, as often as they stand in the operand
        self._nnz_synops: int | Tensor = 0
        self._b_nonzeros: int | Tensor = 0  # likewise of b
        self._a = new_reading(product.a, self.time_steps.period)
        self._b = None if of_parameter else new_reading(product.b, 1)
        self._b_weight = WeightKindRecord()

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._calls == 0

    @property
    def scan(self) -> str:
        """What reads the operands: "c", "triton" or "torch"."""
        return self._a.implementation

    def add(self, product: Product, model_call: ModelCall) -> None:
        """Count one call, part of that call of the model."""
        nominal = product.nominal_macs
        if nominal >= _MOST_PAIRS:
            raise OverflowError(f"{nominal} pairs of elements are more than 64 bits can count")
        steps = self.time_steps.locate(product.a.shape, model_call) if product.a.dim() else None
        if steps is None or len({*product.a_index}) < len(product.a_index):
            self.time_steps.known = False
        with torch.inference_mode(False), torch.no_grad():
            a = CompactOperand.of(product.a.detach(), product.a_index)
            if self.time_steps.known and not a.begins_as(product.a, product.a_index):
                a = CompactOperand(product.a.detach().contiguous(), product.a_index, a.numel)
            b = CompactOperand.of(product.b.detach(), product.b_index)
            self._count(a, b, nominal, steps if self.time_steps.known else None)
            if self._b is not None:
                self._b.read(Rows(b.x, 1, 1, b.x.numel()), None, 0)
            else:
                self._b_weight.observe(_by_output_channel(b, product.summed))
        self._calls += 1
        self._inputs += a.numel
        self._b_inputs += b.numel
        self._nominal_macs += nominal

    def _count(
        self, a: CompactOperand, b: CompactOperand, nominal: int, steps: Steps | None
    ) -> None:
        shared = tuple(letter for letter in a.index if letter in b.index)
        counts = b.nonzeros(shared)
        self._b_nonzeros = self._b_nonzeros + counts.sum() * b.repeats
        # Along the other indices both operands only repeat themselves.
        seen = dict(zip(b.index, b.x.shape, strict=True))
        for dim, letter in enumerate(shared):
            if a.size(letter) == 1:  # a repeats itself along an index of b
                counts = counts.sum(dim, keepdim=True)
        for letter, size in zip(a.index, a.x.shape, strict=True):
            seen[letter] = max(size, seen.get(letter, 1))
        counts = counts * (nominal // math.prod(seen.values()))
        rows, weights = a.rows(shared, counts, steps)
        nonzeros = self._a.read(rows, weights, steps.first if steps else 0) * a.repeats
        self._repeated = self._repeated + nonzeros
        self._nnz_synops = self._nnz_synops + nonzeros * (nominal // a.numel)

    def verify_weight(self) -> None:
        """Do nothing: every call was counted with the operands it had."""

    def release_weight(self) -> None:
        """Do nothing: no operand is held."""

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all operands were finite, and no remark. Synchronises."""
        synops, values, by_step = self._a.result()
        a = values.kind() if self._kind_of_a else ValueKind(Kind.REAL, math.nan, None)
        if self._b is None:
            b, b_values = ValueKind(self._b_weight.kind(), 1.0, None), None
        else:
            b_values = self._b.result()[1]
            b = b_values.kind()
        nonzeros = int(self._repeated)
        first = nonzeros, self._inputs
        second = (None, None) if self._b is None else (int(self._b_nonzeros), self._b_inputs)
        count = LayerCount(
            name=self.name,
            op=self._op,
            input_kind=a.kind.value,
            weight_kind=b.kind.value,
            operation=operation(a.kind, b.kind).value,
            stem=False,
            calls=self._calls,
            input_density=nonzeros / self._inputs,
            synops=synops,
            unrolled_synops=a.levels,
            rate_synops=rate_synops((a.kind, b.kind), first, second, self._nominal_macs),
            nominal_macs=self._nominal_macs,
            dense_macs=self._nominal_macs,
            nonzeros=nonzeros,
            inputs=self._inputs,
            input_density_by_step=self.time_steps.rates(by_step, self._inputs),
            nnz_synops=int(self._nnz_synops),
            values=values.settled() if self._kind_of_a else None,
            second_nonzeros=second[0],
            second_inputs=second[1],
            second_values=None if b_values is None else b_values.settled(),
            gradient=None if self.gradient is None else self.gradient.read(),
        )
        return count, a.finite and b.finite, None


def _by_output_channel(weight: CompactOperand, summed: frozenset[str]) -> Tensor:
    """The weight as [indices of the output, indices summed over]."""
    kept = [dim for dim, letter in enumerate(weight.index) if letter not in summed]
    rest = [dim for dim, letter in enumerate(weight.index) if letter in summed]
    channels = math.prod(weight.x.shape[dim] for dim in kept)
    return weight.x.permute(kept + rest).reshape(channels, -1)

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

from snnprof.counting.products import Index, Product
from snnprof.counting.scratch import CHUNK_ELEMENTS, CHUNK_ROWS, EXACT_ROWS, Scratch, as_float
from snnprof.counting.time_steps import ModelCall, TimeSteps, add_steps
from snnprof.counting.value_kind import ValueKind, ValueKindRecord
from snnprof.counting.weight_kind import WeightKindRecord
from snnprof.results import LayerCount
from snnprof.results.counts import rate_synops
from snnprof.results.kinds import Kind, operation
from snnprof.results.values import Values

_MIN_WIDTH = 256  # positions summed apart, at least, to find the kind of an operand


@dataclass(frozen=True)
class CompactOperand:
    """An operand without repetition: diagonals taken, expanded dimensions cut down to 1.

    Attributes:
        x: float32 or float64, its dimensions in the order of memory.
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
        return CompactOperand(as_float(x.permute(order)), tuple(index[dim] for dim in order), numel)

    @property
    def repeats(self) -> int:
        """How often each element of x stands in the operand."""
        return self.numel // self.x.numel()

    def nonzeros(self, shared: Index, scratch: Scratch) -> Tensor:
        """Number of non-zero elements for each value of the shared indices, float64."""
        mask = torch.ne(self.x, 0, out=scratch.like(self.x))
        return self._summed(mask, shared, EXACT_ROWS)

    def magnitude_sum(self, shared: Index, scratch: Scratch) -> Tensor:
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


class OperandKindRecord:
    """The running record of the values of one operand."""

    def __init__(self, x: Tensor) -> None:
        self._values = ValueKindRecord(x)
        # By width: sums of magnitudes, and the same in whole steps, [2, P].
        self._magnitude_sums: dict[int, Tensor] = {}

    def observe(self, x: Tensor, scratch: Scratch) -> None:
        """Read x, its dimensions in the order of memory."""
        width, dims = 1, list(x.shape)
        while dims and width < _MIN_WIDTH:
            width *= dims.pop()
        rows = x.reshape(-1, width)
        for chunk in rows.split(max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // width))):
            piece = chunk.unsqueeze(0)
            spikes = self._values.observe_spikes(piece, scratch)
            if spikes is None:
                magnitude_sum = self._values.observe(piece, scratch).magnitude_sum.double()
            else:
                magnitude_sum = spikes[0].double()
            found = torch.stack((magnitude_sum, self._values.in_steps(magnitude_sum)))
            self._magnitude_sums[width] = self._magnitude_sums.get(width, 0) + found

    def in_steps(self, magnitude_sum: Tensor) -> Tensor:
        """See :meth:`ValueKindRecord.in_steps`."""
        return self._values.in_steps(magnitude_sum)

    def values(self, found: ValueKind, levels: int | None) -> Values:
        """See :meth:`ValueKindRecord.values`."""
        return self._values.values(found, levels)

    def read(self) -> ValueKind:
        """The kind and the step. Synchronises."""
        magnitude_sums, in_steps = zip(*self._magnitude_sums.values(), strict=True)
        return self._values.read(magnitude_sums, in_steps)


class ProductTally:
    """Counts of one product over a measurement.

    Args:
        name: the row's name.
        product: the first call's.
        of_parameter: True where b is a parameter of the model: its kind is judged per output
            channel, like a weight's.
        timesteps: T where it is known, else None.
        scratch: work buffers shared by the counter's layers.

    Attributes:
        time_steps: how the time steps reach the product's first operand.
    """

    def __init__(
        self,
        name: str,
        product: Product,
        of_parameter: bool,
        timesteps: int | None,
        scratch: Scratch,
    ) -> None:
        self.name = name
        self._op = product.op
        self.time_steps = TimeSteps(timesteps)
        self._scratch = scratch
        self._calls = 0
        self._inputs = 0
        self._b_inputs = 0
        self._nominal_macs = 0
        with torch.inference_mode(False), torch.no_grad():
            device = product.a.device
            self._events = torch.zeros(6, dtype=torch.float64, device=device)
            self._by_step = torch.zeros(self.time_steps.period, dtype=torch.float64, device=device)
            self._a = None if product.note else OperandKindRecord(product.a)
            self._b = None if of_parameter else OperandKindRecord(product.b)
            self._b_weight = WeightKindRecord(device)

    @property
    def empty(self) -> bool:
        """True as long as no call was counted to its end."""
        return self._calls == 0

    def add(self, product: Product, model_call: ModelCall) -> None:
        """Count one call, part of that call of the model."""
        nominal = product.nominal_macs
        with torch.inference_mode(False), torch.no_grad():
            a = CompactOperand.of(product.a.detach(), product.a_index)
            b = CompactOperand.of(product.b.detach(), product.b_index)
            if self._a is not None:
                self._a.observe(a.x, self._scratch)
            self._count(a, b, nominal)
            if self._b is not None:
                self._b.observe(b.x, self._scratch)
            else:
                channels = _by_output_channel(b, product.summed)
                self._b_weight.observe(channels, self._scratch)
            self._add_time_steps(product.a, model_call)
        self._calls += 1
        self._inputs += a.numel
        self._b_inputs += b.numel
        self._nominal_macs += nominal

    def _count(self, a: CompactOperand, b: CompactOperand, nominal: int) -> None:
        shared = tuple(letter for letter in a.index if letter in b.index)
        a_nonzeros = a.nonzeros(shared, self._scratch)
        b_nonzeros = b.nonzeros(shared, self._scratch)
        # Along the other indices both operands only repeat themselves.
        seen = dict(zip(b.index, b.x.shape, strict=True))
        for letter, size in zip(a.index, a.x.shape, strict=True):
            seen[letter] = max(size, seen.get(letter, 1))
        repeats = nominal // math.prod(seen.values())
        pairs = (a_nonzeros * b_nonzeros).sum() * repeats
        magnitudes = in_steps = pairs
        if self._a is not None:
            magnitude_sum = a.magnitude_sum(shared, self._scratch)
            magnitudes = (magnitude_sum * b_nonzeros).sum() * repeats
            in_steps = (self._a.in_steps(magnitude_sum) * b_nonzeros).sum() * repeats
        nonzeros = a_nonzeros.sum() * a.repeats
        width = nominal // a.numel
        sums = (pairs, magnitudes, in_steps, b_nonzeros.sum() * b.repeats, nonzeros)
        self._events += torch.stack((*sums, nonzeros * width))

    def _add_time_steps(self, a: Tensor, model_call: ModelCall) -> None:
        """Add a's non-zero elements to their time steps, as far as these are known."""
        steps = self.time_steps.locate(a.shape, model_call) if a.dim() else None
        if steps is None:
            self.time_steps.known = False
        elif self.time_steps.known:
            nonzeros = (
                steps.time_major(a != 0).reshape(steps.length, -1).sum(1, dtype=torch.float64)
            )
            add_steps(self._by_step, nonzeros, steps.first)

    def verify_weight(self) -> None:
        """Do nothing: every call was counted with the operands it had."""

    def release_weight(self) -> None:
        """Do nothing: no operand is held."""

    def read(self) -> tuple[LayerCount, bool, str | None]:
        """The counts so far, whether all operands were finite, and no remark. Synchronises."""
        unseen = ValueKind(Kind.REAL, math.nan)
        a = unseen if self._a is None else self._a.read()
        b = ValueKind(self._b_weight.kind(), 1.0) if self._b is None else self._b.read()
        synops, *magnitudes, b_nonzeros, nonzeros, nnz_synops = self._events.tolist()
        unrolled = a.unrolled(synops, *magnitudes)
        first = int(nonzeros), self._inputs
        second = (None, None) if self._b is None else (int(b_nonzeros), self._b_inputs)
        count = LayerCount(
            name=self.name,
            op=self._op,
            input_kind=a.kind.value,
            weight_kind=b.kind.value,
            operation=operation(a.kind, b.kind).value,
            stem=False,
            calls=self._calls,
            input_density=nonzeros / self._inputs,
            synops=int(synops),
            unrolled_synops=unrolled,
            rate_synops=rate_synops((a.kind, b.kind), first, second, self._nominal_macs),
            nominal_macs=self._nominal_macs,
            dense_macs=self._nominal_macs,
            nonzeros=int(nonzeros),
            inputs=self._inputs,
            input_density_by_step=self.time_steps.rates(self._by_step.tolist(), self._inputs),
            nnz_synops=int(nnz_synops),
            values=None if self._a is None else self._a.values(a, unrolled),
            second_nonzeros=second[0],
            second_inputs=second[1],
            second_values=None if self._b is None else self._b.values(b, None),
        )
        return count, a.finite and b.finite, None


def _by_output_channel(weight: CompactOperand, summed: frozenset[str]) -> Tensor:
    """The weight as [indices of the output, indices summed over]."""
    kept = [dim for dim, letter in enumerate(weight.index) if letter not in summed]
    rest = [dim for dim, letter in enumerate(weight.index) if letter in summed]
    channels = math.prod(weight.x.shape[dim] for dim in kept)
    return weight.x.permute(kept + rest).reshape(channels, -1)

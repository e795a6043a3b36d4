"""Synaptic operations, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, TypeVar

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import gathered
from snnprof.results.base import Numbered
from snnprof.results.gradients import GradientCount, join
from snnprof.results.kinds import Kind, operation, spiking_operand
from snnprof.results.values import Values

# The product of softmax weights and values in scaled_dot_product_attention.
SOFTMAX_PRODUCT = "sdpa.av"
# Reasons of "not counted" that no longer hold where another measurement saw more of the layer.
NEVER_CALLED = "never called"
NOTHING_COUNTED = (
    "no synaptic operation was counted in it: 0 is what was seen, not what ran; register what it "
    "runs (snnprof.extend.linear_operation)"
)
NO_OPERATION = "called, but no convolution or linear operation was seen in it"

_Row = TypeVar("_Row", "LayerCount", "NeuronRate")


@dataclass(frozen=True)
class LayerCount:
    """Raw totals of one layer over a whole measurement (all samples, all time steps).

    Attributes:
        name: the layer's name in the model, wrappers' prefixes stripped.
        op: the linear operation: ``"linear"``, ``"conv2d"``, ``"conv_transpose1d"``, ...
        input_kind: BINARY, TERNARY, INTEGER or REAL, the widest seen.
        weight_kind: likewise, judged per output channel.
        operation: AC or MAC, the work of one synaptic event of this layer.
        stem: True for the first counted layer when its input is REAL (the image).
        calls: how often the operation ran.
        input_density: share of non-zero elements in the input, that of a product's first operand.
        synops: synaptic events, sum over inputs of 1[x != 0] * fan-out; exact.
        unrolled_synops: sum of abs(x) / step * fan-out, as if value k were k spikes;
            equal to ``synops`` for BINARY and TERNARY inputs, None for REAL ones.
        nnz_synops: of a product of two activations, the events if b had no zero: non-zero
            elements of a times the output columns that each feeds; None for other layers.
        rate_synops: input_density * nominal_macs (the Spikformer paper's formula); of a product of
            two activations with the density of the operand that is spikes, the first if both are.
        nominal_macs: textbook multiply-accumulates, padded taps included (as fvcore).
        dense_macs: events if every input had been active: padded taps and zero weights
            left out.
        nonzeros: non-zero input elements.
        inputs: input elements.
        values: what is known of every value of the input; None where they were not seen. Counts
            of several measurements are joined by it.
        second_nonzeros, second_inputs, second_values: the same of the second operand, where it is
            an activation and no weight.
        input_density_by_step: input density of each time step, where T is known.
        gradient: what came back to the outputs in backward passes; None where it was not looked at.
    """

    name: str
    op: str
    input_kind: str
    weight_kind: str
    operation: str
    stem: bool
    calls: int
    input_density: float
    synops: int
    unrolled_synops: int | None
    rate_synops: float
    nominal_macs: int
    dense_macs: int
    nonzeros: int
    inputs: int
    input_density_by_step: tuple[float, ...] | None = None
    nnz_synops: int | None = None
    # Not compared: of REAL values a reader may stop early, and see other extremes.
    values: Values | None = field(default=None, compare=False)
    second_nonzeros: int | None = None
    second_inputs: int | None = None
    second_values: Values | None = field(default=None, compare=False)
    gradient: GradientCount | None = None

    @property
    def gradient_density(self) -> float | None:
        """Non-zero gradients per output element, over all time steps; None: not looked at."""
        return None if self.gradient is None else self.gradient.density

    def merge(self, other: LayerCount) -> LayerCount:
        """The counts of the same layer in both measurements; kinds are judged of all values.

        Raises:
            SnnprofError: another operation, or counts that do not say which values were seen.
        """
        if self.op != other.op:
            raise SnnprofError(
                f"{self.name} is {self.op} in one result and {other.op} in the other: merge counts "
                "of one model"
            )
        values = _join(self.values, other.values)
        input_kind, levels = _kind(self.name, values, self.input_kind, other.input_kind)
        second = _join(self.second_values, other.second_values)
        weight_kind = _widest(self.weight_kind, other.weight_kind)
        if second is not None:
            weight_kind = second.kind().kind.value
        sums: dict[str, Any] = {name: _sum(self, other, name) for name in _SUMS}
        return replace(
            self,
            **sums,
            input_kind=input_kind,
            weight_kind=weight_kind,
            operation=operation(input_kind, weight_kind).value,
            unrolled_synops=levels,
            input_density=sums["nonzeros"] / sums["inputs"],
            input_density_by_step=_join_rates(
                (self.input_density_by_step, self.inputs),
                (other.input_density_by_step, other.inputs),
            ),
            rate_synops=rate_synops(
                (input_kind, weight_kind),
                (sums["nonzeros"], sums["inputs"]),
                (sums["second_nonzeros"], sums["second_inputs"]),
                sums["nominal_macs"],
            ),
            values=values,
            second_values=second,
            gradient=join(self.gradient, other.gradient),
        )


_SUMS = (
    *("calls", "synops", "nnz_synops", "nominal_macs", "dense_macs", "nonzeros", "inputs"),
    *("second_nonzeros", "second_inputs"),
)


def rate_synops(
    kinds: tuple[str, str],
    first: tuple[int, int],
    second: tuple[int | None, int | None],
    nominal_macs: int,
) -> float:
    """Density of the spiking operand * nominal MACs: Zhou et al., Spikformer, ICLR 2023, Eq. 11.

    Args:
        kinds: of the two operands.
        first: non-zero and all elements of the first.
        second: likewise; None of a weight, which is no operand that spikes.
        nominal_macs: of all calls.
    """
    nonzeros, inputs = first
    if second[0] is not None and second[1] is not None and spiking_operand(*kinds) == 1:
        nonzeros, inputs = second[0], second[1]
    return nonzeros * nominal_macs / inputs


COUNT_COLUMNS = (
    "synops",
    "unrolled_synops",
    "nnz_synops",
    "rate_synops",
    "nominal_macs",
    "dense_macs",
)


@dataclass(frozen=True)
class NeuronRate:
    """Raw totals of one layer of neurons over a whole measurement, read off its outputs.

    Attributes:
        name: the layer's name in the model, wrappers' prefixes stripped.
        firing_rate: share of non-zero elements in the output.
        firing_rate_by_step: firing rate of each time step, where T and its place are known.
        outputs: output elements: neurons * time steps * samples.
        nonzeros: non-zero output elements: spikes.
        calls: how often the layer ran.
        gradient: what came back to the inputs in backward passes; None where it was not looked at.
    """

    name: str
    firing_rate: float
    firing_rate_by_step: tuple[float, ...] | None
    outputs: int
    nonzeros: int
    calls: int
    gradient: GradientCount | None = None

    def merge(self, other: NeuronRate) -> NeuronRate:
        """The rates of the same layer in both measurements."""
        outputs, nonzeros = self.outputs + other.outputs, self.nonzeros + other.nonzeros
        return NeuronRate(
            name=self.name,
            firing_rate=nonzeros / outputs,
            firing_rate_by_step=_join_rates(
                (self.firing_rate_by_step, self.outputs), (other.firing_rate_by_step, other.outputs)
            ),
            outputs=outputs,
            nonzeros=nonzeros,
            calls=self.calls + other.calls,
            gradient=join(self.gradient, other.gradient),
        )


@dataclass(frozen=True)
class CountResult(Numbered):
    """Synaptic operations of a model over a measurement.

    Attributes:
        rows: one :class:`LayerCount` per layer, in order of first call.
        samples: samples that went through the model.
        timesteps: T, or None where it is not known.
        not_counted: (name, reason) of every module and operation that was not counted.
        non_finite: names of the layers that received NaN or infinity.
        neurons: one :class:`NeuronRate` per layer of neurons that is known, in order of first call.
        scan: what read the operands, "c" (the extension), "triton" or "torch"; None where nothing
            did. No part of the count: all find the same.
    """

    rows: tuple[LayerCount, ...]
    samples: int
    timesteps: int | None = None
    not_counted: tuple[tuple[str, str], ...] = ()
    non_finite: tuple[str, ...] = ()
    neurons: tuple[NeuronRate, ...] = ()
    scan: str | None = field(default=None, compare=False)

    def total(self, column: str) -> Any:
        """Raw sum of a column over the layers that have a value; None if none has."""
        values = [getattr(row, _column(column)) for row in self.rows]
        present = [value for value in values if value is not None]
        return sum(present) if present or not values else None

    def per_sample(self, column: str) -> float | None:
        """``total`` divided by the number of samples; None without samples."""
        total = self.total(column)
        return None if total is None or not self.samples else total / self.samples

    def by_layer(self) -> dict[str, LayerCount]:
        """The rows by name."""
        return {row.name: row for row in self.rows}

    @property
    def firing_rate(self) -> float | None:
        """Share of non-zero elements in the outputs of all neurons; None if none is known."""
        outputs = sum(row.outputs for row in self.neurons)
        return sum(row.nonzeros for row in self.neurons) / outputs if outputs else None

    @property
    def input_density(self) -> float | None:
        """Share of non-zero elements in the inputs of all layers; None if none was counted.

        The stem's input, which is no spike, and softmax weights, which are not seen, are
        left out.
        """
        spiking = [row for row in self.rows if not row.stem and row.op != SOFTMAX_PRODUCT]
        inputs = sum(row.inputs for row in spiking)
        return sum(row.nonzeros for row in spiking) / inputs if inputs else None

    def merge(self, other: CountResult) -> CountResult:
        """Both measurements of one model as one, as if they had been counted together.

        Sums and samples add up. The kind of an input is judged of all values that were seen; a
        layer that only one of them saw is kept.

        Raises:
            SnnprofError: no counts, another T, another operation in a layer, or a layer whose
                counts do not say which values were seen (made by hand).
        """
        if not isinstance(other, CountResult):
            raise SnnprofError(f"merge takes a CountResult, not a {type(other).__name__}")
        if not self.samples or not other.samples:
            return self if self.samples else other
        if self.timesteps != other.timesteps:
            raise SnnprofError(
                f"counts of T={self.timesteps} and of T={other.timesteps} cannot be merged: their "
                "samples are of different length; count both with the same layout and T"
            )
        rows = _merged(self.rows, other.rows)
        # A first row that is REAL and no stem stands behind a layer that could not be counted.
        is_first = all(
            row.stem or row.input_kind != Kind.REAL for row in (*self.rows, *other.rows)[:1]
        )
        return CountResult(
            rows=tuple(
                replace(row, stem=is_first and place == 0 and row.input_kind == Kind.REAL)
                for place, row in enumerate(rows)
            ),
            samples=self.samples + other.samples,
            timesteps=self.timesteps,
            not_counted=tuple(_not_counted(self.not_counted, other.not_counted)),
            non_finite=tuple(dict.fromkeys((*self.non_finite, *other.non_finite))),
            neurons=tuple(_merged(self.neurons, other.neurons)),
            scan=_readers(self.scan, other.scan),
        )

    def all_reduce(self, group: Any = None) -> CountResult:
        """The counts of all processes of a torch.distributed group merged, on each of them.

        Every process must call it, with the counts of its own samples. Outside a distributed run
        these are all there are.

        Args:
            group: None: all processes.

        Raises:
            SnnprofError: as :meth:`merge`.
        """
        return merge_all(gathered(self, group))


def merge_all(results: Iterable[CountResult]) -> CountResult:
    """All of them merged, the first first."""
    return reduce(CountResult.merge, results)


def _merged(ours: Sequence[_Row], theirs: Sequence[_Row]) -> list[_Row]:
    """Rows of one name as one, the others as they are."""
    found: dict[str, _Row] = {row.name: row for row in ours}
    for row in theirs:
        held = found.get(row.name)
        found[row.name] = row if held is None else held.merge(row)
    return list(found.values())


def _sum(one: LayerCount, other: LayerCount, name: str) -> int | None:
    """Their sum; that of the one that has a value, where the other has none."""
    values = [value for row in (one, other) if (value := getattr(row, name)) is not None]
    return sum(values) if values else None


def _join(one: Values | None, other: Values | None) -> Values | None:
    return None if one is None or other is None else one.join(other).settled()


def _widest(one: str, other: str) -> str:
    return max(one, other, key=lambda kind: list(Kind).index(Kind(kind)))


def _kind(name: str, values: Values | None, *kinds: str) -> tuple[str, int | None]:
    """The kind of the joined values, and the sum of their levels."""
    if values is not None:
        found = values.kind()
        return found.kind.value, found.levels
    if Kind.REAL in kinds:  # values that no one sees: softmax weights
        return Kind.REAL.value, None
    raise SnnprofError(
        f"{name}: its counts do not say which values were seen, so that the kind of all of them "
        "is not known: merge counts of SopCounter, of this version"
    )


_Rates = tuple[tuple[float, ...] | None, int]


def _join_rates(one: _Rates, other: _Rates) -> tuple[float, ...] | None:
    """Rates per time step of both, of (rates, elements); None where either is not known."""
    (ours, size), (theirs, other_size) = one, other
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    steps = len(ours)
    # The numbers behind the rates are whole: rounding gives them back exactly, below 2^50.
    counts = (
        round(a * size / steps) + round(b * other_size / steps)
        for a, b in zip(ours, theirs, strict=True)
    )
    return tuple(count * steps / (size + other_size) for count in counts)


_Reasons = tuple[tuple[str, str], ...]


def _not_counted(ours: _Reasons, theirs: _Reasons) -> Iterator[tuple[str, str]]:
    """What either lists; that a layer was not seen running, only where neither saw it."""
    less: Mapping[str, set[str]] = {
        NEVER_CALLED: {NEVER_CALLED},
        NO_OPERATION: {NEVER_CALLED, NO_OPERATION},
        NOTHING_COUNTED: {NOTHING_COUNTED},
    }
    listed = set(ours), set(theirs)
    for name, reason in dict.fromkeys((*ours, *theirs)):
        weaker = less.get(reason)
        if weaker is None or all(any((name, r) in found for r in weaker) for found in listed):
            yield name, reason


def _readers(*scans: str | None) -> str | None:
    """What read the operands of either."""
    return ", ".join(sorted({name for scan in scans if scan for name in scan.split(", ")})) or None


def _column(name: str) -> str:
    numbers = {"calls", "nonzeros", "inputs", *COUNT_COLUMNS}
    if name not in numbers:
        raise ValueError(f"unknown count column {name!r}; known: {', '.join(sorted(numbers))}")
    return name

"""Counts in, joules out, under a named convention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real

from snnprof.core.errors import SnnprofError, known
from snnprof.energy.conventions import (
    FORMULAS,
    Bill,
    Convention,
    convention_names,
    find_convention,
    formula,
)
from snnprof.results import CountResult, EnergyResult, EnergyRow, LayerCount
from snnprof.results.energy import TRAINING
from snnprof.results.kinds import Kind, Operation, is_unrolled, operation

# The HD-LIF paper divides the energy of its 4-bit rows by 8, and does not say why (32 bits of a
# float / 4 bits, perhaps).
_FOUR_BIT_SHARE = 1 / 8


@formula("operands", ("mac", "ac"))
def _operands(row: LayerCount, convention: Convention, integer: str, counts: CountResult) -> Bill:
    """E = E_AC * events or E_MAC * events, by the kinds of the layer's operands."""
    if operation(row.input_kind, row.weight_kind, integer) == Operation.MAC:
        return Operation.MAC, row.synops, _joules(convention, "mac_j")
    if is_unrolled(row.input_kind, row.weight_kind, integer):
        assert row.unrolled_synops is not None
        return Operation.AC, row.unrolled_synops, _joules(convention, "ac_j")
    return Operation.AC, row.synops, _joules(convention, "ac_j")


@formula("spikformer", ("mac", "ac"), of_spikes=True)
def _spikformer(row: LayerCount, convention: Convention, integer: str, counts: CountResult) -> Bill:
    """E = E_MAC * FLOPs of the stem + E_AC * sum of (rate * FLOPs): Spikformer, Eq. 11-12."""
    if row.stem:
        return Operation.MAC, row.nominal_macs, _joules(convention, "mac_j")
    return Operation.AC, row.rate_synops, _joules(convention, "ac_j")


@formula("dense", ("mac",))
def _dense(row: LayerCount, convention: Convention, integer: str, counts: CountResult) -> Bill:
    """E = E_MAC * nominal MACs: what a dense network of this architecture costs."""
    return Operation.MAC, row.nominal_macs, _joules(convention, "mac_j")


@formula("events", ("ac",), of_spikes=True)
def _events(row: LayerCount, convention: Convention, integer: str, counts: CountResult) -> Bill:
    """E = E_event * exact SOPs of every layer; a spike of value k is k events on any weights."""
    events = row.synops
    if row.input_kind == Kind.INTEGER:
        assert row.unrolled_synops is not None
        events = row.unrolled_synops
    return "event", events, _joules(convention, "ac_j")


@formula("hd-lif", ("ac",), of_spikes=True)
def _hd_lif(
    row: LayerCount, convention: Convention, integer: str, counts: CountResult
) -> Bill | None:
    """E = E_AC * exact SOPs of the 2-d convolutions, stem left out; / 8 with 4-bit spikes.

    A real-valued input (the shortcuts') is billed like a spike, and with 4-bit spikes divided
    by 8 like the rest: the paper multiplies one sum of SOPs.
    """
    if not _is_billed_by_hd_lif(row):
        return None
    share = _FOUR_BIT_SHARE if _has_four_bit_spikes(counts) else 1.0
    return Operation.AC, row.synops, _joules(convention, "ac_j") * share


@formula("sata", ("mac", "ac"), of_spikes=True, training=True)
def _sata(
    row: LayerCount, convention: Convention, integer: str, counts: CountResult
) -> list[Bill] | None:
    """E = ((1 - s) * (1 + g) * E_SOP + (1 - s_du) * E_MAC) * MACs * T: Yin et al., SATA.

    s and s_du are the shares of zeros in the input and in the gradient of the output, the latter
    over all T steps; g is the share of the steps that have a backward pass, 1 in the paper. Of a
    product of two activations the weight's gradient is that of the second operand.
    """
    if row.gradient is None:
        return None
    ac, mac = _joules(convention, "ac_j"), _joules(convention, "mac_j")
    return [
        ("forward AC", row.rate_synops, ac),
        ("backward MAC", row.gradient.density * row.nominal_macs, mac),
        ("weight update AC", row.rate_synops * row.gradient.reached_share, ac),
    ]


def _is_billed_by_hd_lif(row: LayerCount) -> bool:
    """Their monitor watches Conv2d and its quantised forms alone, not SECA's Conv1d."""
    return row.op == "conv2d" and not row.stem


def _has_four_bit_spikes(counts: CountResult) -> bool:
    """True where most of the convolutions receive integers.

    Not all do: those of the shortcuts receive currents. And where few do, the integers are means
    of binary spikes, behind the average poolings of a VGG.
    """
    kinds = [row.input_kind for row in counts.rows if _is_billed_by_hd_lif(row)]
    return 2 * kinds.count(Kind.INTEGER) > len(kinds)


def _joules(convention: Convention, constant: str) -> float:
    joules: float | None = getattr(convention, constant)
    if joules is None:
        raise SnnprofError(
            f"energy convention {convention.name!r} has no {constant}, which the formula "
            f"{convention.formula!r} bills"
        )
    return joules


def price(counts: CountResult, table: str = "operands", *, integer: str = "ac") -> EnergyResult:
    """Price counts under a named convention.

    Args:
        counts: of a :class:`~snnprof.SopCounter`.
        table: name of the convention (``snnprof energy-tables`` lists them), at a precision as
            ``"operands+int8"``, or a TOML file that holds one.
        integer: billing under ``operands`` of an INTEGER input on a REAL weight: ``"ac"`` (a
            value k is k accumulates) or ``"mac"`` (it is one multiply-accumulate).

    Returns:
        Joules per sample, per layer and in total; no total where no layer is billed. Of training,
        where the convention bills that.

    Raises:
        SnnprofError: unknown convention, another ``integer``, no samples counted, a formula
            that bills what the convention has no energy of, one that bills training and counts
            without gradients, or a bill that is none.
    """
    names = convention_names(table)
    if len(names) > 1:
        raise SnnprofError(f"energy file {table!r} holds {', '.join(names)}: name one of them")
    chosen = find_convention(names[0])
    if integer not in ("ac", "mac"):
        raise known("meaning of integer=", integer, ("ac", "mac"))
    if counts.samples < 1:
        raise SnnprofError("no samples were counted: there is no energy per sample")
    if chosen.of_training and all(row.gradient is None for row in counts.rows):
        raise SnnprofError(
            f"energy convention {chosen.name!r} bills training, and these counts have no "
            "gradients: count a training step in SopCounter(model, gradients=True), or let "
            f"snnprof run --energy {chosen.name} do it"
        )
    rows = (*_rows(counts, chosen, integer), *_neuron_rows(counts, chosen))
    billed = {row.name for row in rows}
    missing = [row.name for row in counts.rows if row.name not in billed]
    if chosen.neuron_j is not None and not counts.neurons:
        missing.append("updates of neurons (no neuron layer was seen)")
    return EnergyResult(
        table=chosen.name,
        rows=rows,
        total_j=sum(row.energy_j for row in rows) if rows else None,
        description=chosen.description,
        source=chosen.cited,
        leaves_out=chosen.leaves_out,
        phase=TRAINING if chosen.of_training else None,
        not_billed=tuple(missing),
        not_counted=counts.not_counted,
    )


def _rows(counts: CountResult, chosen: Convention, integer: str) -> Iterator[EnergyRow]:
    for row in counts.rows:
        bills = FORMULAS.find(chosen.formula).bill(row, chosen, integer, counts)
        for bill in bills if isinstance(bills, list) else filter(None, [bills]):
            kind, events, joules = _checked(bill, chosen, row)
            per_sample = events / counts.samples
            yield EnergyRow(row.name, kind, per_sample, per_sample * joules)


def _checked(bill: Bill, chosen: Convention, row: LayerCount) -> Bill:
    """The bill, which may be of somebody's own function."""
    named = isinstance(bill, tuple) and len(bill) == 3 and isinstance(bill[0], str)
    if named and all(isinstance(x, Real) and 0 <= x < math.inf for x in bill[1:]):
        return bill
    raise SnnprofError(
        f"energy convention {chosen.name!r} bills {bill!r} for layer {row.name!r}: its function "
        "must give an operation, the number of events and the joules of each (both finite, none "
        "below 0), or None"
    )


def _neuron_rows(counts: CountResult, chosen: Convention) -> Iterator[EnergyRow]:
    """E = E_update * neurons * T, where the convention prices updates of neurons.

    Those of the backward pass are the ones whose input a gradient came to.
    """
    for neuron in counts.neurons:
        reached = None if neuron.gradient is None else neuron.gradient.reached
        for kind, updates, joules in (
            ("update", neuron.outputs, chosen.neuron_j),
            ("gradient", reached, chosen.neuron_gradient_j),
        ):
            if updates is not None and joules is not None:
                per_sample = updates / counts.samples
                yield EnergyRow(neuron.name, kind, per_sample, per_sample * joules)

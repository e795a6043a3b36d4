"""Counts in, joules out, under a named convention."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from snnprof.core.errors import SnnprofError, known
from snnprof.core.registry import Registry
from snnprof.results import CountResult, EnergyResult, EnergyRow, LayerCount
from snnprof.results.kinds import Kind, Operation, is_unrolled, operation


@dataclass(frozen=True)
class Convention:
    """A named way to price counts.

    Attributes:
        name: as given to :func:`price` and ``--energy``.
        formula: key in :data:`FORMULAS`.
        mac_j: joules per multiply-accumulate, None where the convention has none.
        ac_j: joules per accumulate.
        description, leaves_out, source: printed with every figure.
    """

    name: str
    formula: str
    mac_j: float | None
    ac_j: float
    description: str
    leaves_out: str
    source: str


# What one layer is billed for: the operation, raw events over the measurement, joules each.
Bill = tuple[Operation, float, float]
Formula = Callable[[LayerCount, Convention, str], Bill | None]
# The HD-LIF paper divides the energy of its 4-bit rows by 8, and does not say why (32 bits of a
# float / 4 bits, perhaps).
_FOUR_BIT_SHARE = 1 / 8
FORMULAS: Registry[Formula] = Registry("energy formula")


@FORMULAS.register("operands")
def _operands(row: LayerCount, convention: Convention, integer: str) -> Bill:
    """E = E_AC * events or E_MAC * events, by the kinds of the layer's operands."""
    assert convention.mac_j is not None
    if operation(row.input_kind, row.weight_kind, integer) == Operation.MAC:
        return Operation.MAC, row.synops, convention.mac_j
    if is_unrolled(row.input_kind, row.weight_kind, integer):
        assert row.unrolled_synops is not None
        return Operation.AC, row.unrolled_synops, convention.ac_j
    return Operation.AC, row.synops, convention.ac_j


@FORMULAS.register("spikformer")
def _spikformer(row: LayerCount, convention: Convention, integer: str) -> Bill:
    """E = E_MAC * FLOPs of the stem + E_AC * sum of (rate * FLOPs): Spikformer, Eq. 11-12."""
    assert convention.mac_j is not None
    if row.stem:
        return Operation.MAC, row.nominal_macs, convention.mac_j
    return Operation.AC, row.rate_synops, convention.ac_j


@FORMULAS.register("hd-lif")
def _hd_lif(row: LayerCount, convention: Convention, integer: str) -> Bill | None:
    """E = E_AC * exact SOPs of the convolutions, stem left out; / 8 for 4-bit (integer) spikes."""
    if row.stem or not row.op.startswith("conv"):
        return None
    share = _FOUR_BIT_SHARE if row.input_kind == Kind.INTEGER else 1.0
    return Operation.AC, row.synops, convention.ac_j * share


@cache
def conventions() -> dict[str, Convention]:
    """All conventions of ``tables.toml`` by name."""
    text = resources.files("snnprof.energy").joinpath("tables.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    constants = {name: row["value_j"] for name, row in tables["constants"].items()}
    return {
        name: Convention(
            name=name,
            formula=row["formula"],
            mac_j=constants[row["mac"]] if "mac" in row else None,
            ac_j=constants[row["ac"]],
            description=row["description"],
            leaves_out=row["leaves_out"],
            source=row["source"],
        )
        for name, row in sorted(tables["conventions"].items())
    }


def convention(name: str) -> Convention:
    """One convention; an unknown name raises SnnprofError with the known ones."""
    if name not in conventions():
        raise known("energy convention", name, conventions())
    return conventions()[name]


def price(counts: CountResult, table: str = "operands", *, integer: str = "ac") -> EnergyResult:
    """Price counts under a named convention.

    Args:
        counts: of a :class:`~snnprof.SopCounter`.
        table: name of the convention; ``snnprof energy-tables`` lists them.
        integer: what an event of an INTEGER input on a REAL weight is under ``operands``:
            ``"ac"`` (value k is k accumulates) or ``"mac"`` (one multiply-accumulate).

    Returns:
        Joules per sample, per layer and in total.

    Raises:
        SnnprofError: unknown convention, another ``integer``, or no samples counted.
    """
    chosen = convention(table)
    if integer not in ("ac", "mac"):
        raise known("meaning of integer=", integer, ("ac", "mac"))
    if counts.samples < 1:
        raise SnnprofError("no samples were counted: there is no energy per sample")
    rows = tuple(_rows(counts, chosen, integer))
    billed = {row.name for row in rows}
    return EnergyResult(
        table=chosen.name,
        rows=rows,
        total_j=sum(row.energy_j for row in rows),
        description=chosen.description,
        source=chosen.source,
        leaves_out=chosen.leaves_out,
        not_billed=tuple(row.name for row in counts.rows if row.name not in billed),
        not_counted=counts.not_counted,
    )


def _rows(counts: CountResult, chosen: Convention, integer: str) -> Iterator[EnergyRow]:
    for row in counts.rows:
        bill = FORMULAS.find(chosen.formula)(row, chosen, integer)
        if bill is not None:
            kind, events, joules = bill
            per_sample = events / counts.samples
            yield EnergyRow(row.name, kind, per_sample, per_sample * joules)

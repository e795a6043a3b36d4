"""Energy conventions: named constants, with their source and what each leaves out."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

from snnprof.core.registry import Registry
from snnprof.results import CountResult, LayerCount

# A layer's operation ("AC" or "MAC"), raw events over the measurement, and joules per event.
Bill = tuple[str, float, float]


@dataclass(frozen=True)
class Convention:
    """A named way to price counts.

    Attributes:
        name: as given to :func:`~snnprof.price` and ``--energy``.
        formula: key in :data:`FORMULAS`.
        mac_j: joules per multiply-accumulate, None where the formula needs none.
        ac_j: joules per accumulate, likewise.
        description, leaves_out, source: printed with every figure.
    """

    name: str
    formula: str
    mac_j: float | None
    ac_j: float | None
    description: str
    leaves_out: str
    source: str


# A layer's bill from its counts, the convention, the meaning of INTEGER spikes ("ac" or "mac",
# see price), and the counts of the whole network; None where the layer is not billed.
Formula = Callable[[LayerCount, Convention, str, CountResult], Bill | None]
BillLayer = Callable[[LayerCount], Bill | None]

FORMULAS: Registry[Formula] = Registry("energy formula")
CONVENTIONS: Registry[Convention] = Registry("energy convention")


def energy_convention(
    name: str, *, description: str, leaves_out: str, source: str
) -> Callable[[BillLayer], BillLayer]:
    """Decorator that adds a convention; price(), run(energy=...) and ``--energy`` then know it.

    It stands above a function of a :class:`~snnprof.LayerCount` that returns the layer's
    operation ("AC" or "MAC"), the raw events over the measurement and the joules per event, or
    None for a layer that it does not bill.

    Args:
        name: not taken yet.
        description: the convention in one line.
        leaves_out: costs that it does not bill.
        source: where its constants and its formula come from.

    Raises:
        ValueError: a name that is taken, by a convention or a formula.
    """

    def add(bill: BillLayer) -> BillLayer:
        made = Convention(name, name, None, None, description, leaves_out, source)
        CONVENTIONS.register(name)(made)
        FORMULAS.register(name)(lambda row, convention, integer, counts: bill(row))
        return bill

    return add


def _read(text: str) -> Iterator[Convention]:
    """The conventions of a TOML file, by name."""
    tables = tomllib.loads(text)
    constants = {name: row["value_j"] for name, row in tables["constants"].items()}
    for name, row in sorted(tables["conventions"].items()):
        yield Convention(
            name=name,
            formula=row["formula"],
            mac_j=constants[row["mac"]] if "mac" in row else None,
            ac_j=constants[row["ac"]],
            description=row["description"],
            leaves_out=row["leaves_out"],
            source=row["source"],
        )


for _shipped in _read(
    resources.files("snnprof.energy").joinpath("conventions.toml").read_text("utf-8")
):
    CONVENTIONS.register(_shipped.name)(_shipped)

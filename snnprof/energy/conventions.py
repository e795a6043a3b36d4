"""Energy conventions: named constants, with their source and what each leaves out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry
from snnprof.results import LayerCount


@dataclass(frozen=True)
class Convention:
    """A named way to price counts.

    Attributes:
        name: as given to :func:`~snnprof.price` and ``--energy``.
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


# A layer's operation ("AC" or "MAC"), raw events over the measurement, and joules per event.
Bill = tuple[str, float, float]
# A layer's bill from its counts, the convention, and the meaning of INTEGER spikes ("ac" or
# "mac", see price); None where the convention does not bill the layer.
Formula = Callable[[LayerCount, Convention, str], Bill | None]

FORMULAS: Registry[Formula] = Registry("energy formula")
CONVENTIONS: Registry[Convention] = Registry("energy convention")


def energy_convention(
    name: str,
    *,
    ac_j: float,
    mac_j: float | None = None,
    formula: str = "operands",
    description: str,
    leaves_out: str,
    source: str,
) -> Convention:
    """Add a convention; from then on price(), run(energy=...) and ``--energy`` know its name.

    Args:
        name: not taken yet.
        ac_j: joules per accumulate.
        mac_j: joules per multiply-accumulate; only formulas that bill none can do without.
        formula: ``"operands"``, ``"spikformer"``, ``"hd-lif"``, or one that was added to
            :data:`FORMULAS`.
        description: the convention in one line.
        leaves_out: what it does not bill.
        source: where its constants and its formula come from.

    Raises:
        SnnprofError: unknown formula, an energy below 0, or one that is not finite.
        ValueError: a name that is taken.
    """
    FORMULAS.find(formula)
    for constant, joules in (("ac_j", ac_j), ("mac_j", mac_j)):
        if joules is not None and not 0 <= joules < math.inf:
            raise SnnprofError(
                f"energy convention {name!r}: {constant}={joules} must be joules, 0 or more"
            )
    made = Convention(name, formula, mac_j, ac_j, description, leaves_out, source)
    return CONVENTIONS.register(name)(made)


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

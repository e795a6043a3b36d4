"""A spiking network beside a dense one: what the dense row is priced under, and the break-even."""

from __future__ import annotations

from collections.abc import Sequence

from snnprof.energy.conventions import CONVENTIONS, FORMULAS, find_convention
from snnprof.energy.pricing import price
from snnprof.results import CountResult, EnergyResult, LayerCount
from snnprof.results.kinds import Kind

DENSE = "dense"
# Share of non-zero elements from which REAL inputs are currents. A zero in them is chance, or a
# dead channel; floating-point spikes (HD-LIF) are REAL too, and zero wherever nothing fires.
_CURRENTS = 0.95


def price_dense(counts: CountResult, names: Sequence[str]) -> tuple[EnergyResult, ...]:
    """The counts of a dense network, under ``dense`` and what else prices real numbers.

    An integer input is no number of spikes here: it is multiplied.

    Args:
        counts: of the dense network.
        names: conventions that were asked for. At the precision of each (``"operands+int8"``) it
            is priced under ``dense`` too.
    """
    priced = [name for name in names if not is_of_spikes(name)]
    tables = dict.fromkeys((*map(dense_beside, names), *priced))
    return tuple(price(counts, name, integer="mac") for name in tables)


def is_of_spikes(name: str) -> bool:
    """True for a convention that bills real-valued inputs as spikes."""
    return FORMULAS.find(find_convention(name).formula).of_spikes


def dense_beside(name: str) -> str:
    """The convention of the dense row beside another: ``"dense+int8"`` to ``"operands+int8"``."""
    if name in CONVENTIONS:  # a name of somebody's may have a + of its own
        return DENSE
    _, plus, precision = name.partition("+")
    return f"{DENSE}{plus}{precision}"


def break_even_rate(counts: CountResult, energy: EnergyResult, dense_j: float) -> float | None:
    """Firing rate at which a spiking network costs what a dense one does.

    All rates are taken to change by one factor, r / r0, and the events of a layer with them::

        E(r) = E_fixed + (E - E_fixed) * r / r0
        E(r*) = E_dense:  r* = r0 * (E_dense - E_fixed) / (E - E_fixed)

    E and the firing rate r0 are as measured, E over all T time steps: T is in it. E_fixed does not
    change with the rate: the first layer's energy (its input is the image), that of layers driven
    by currents (REAL inputs of which 95 % or more are not zero), and the neurons' updates. A
    network of binary spikes without a
    first layer of its own has r* = E_MAC / (T * E_AC), as in Yan et al., arXiv 2409.08290.

    Args:
        counts: of the spiking network.
        energy: these counts, priced.
        dense_j: joules per sample of the dense network.

    Returns:
        The rate. Above 1: the spiking network is cheaper whatever its rate; 0: at no rate, the
        fixed part alone costs as much. None where no rate is known, or nothing depends on it.
    """
    rate = counts.firing_rate
    driven = {row.name for row in counts.rows[1:] if not _is_of_currents(row)}
    joules = sum(row.energy_j for row in energy.rows if row.name in driven)
    if not rate or not joules or energy.total_j is None:
        return None
    fixed = energy.total_j - joules
    return max(0.0, rate * (dense_j - fixed) / joules)


def _is_of_currents(row: LayerCount) -> bool:
    return row.input_kind == Kind.REAL and row.nonzeros >= _CURRENTS * row.inputs

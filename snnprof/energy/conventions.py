"""Energy conventions: named constants, with their source and what each leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from snnprof.core.errors import SnnprofError, known
from snnprof.core.registry import Registry
from snnprof.energy.price_files import SUFFIX, Constant, PricedAs, read, read_file
from snnprof.results import CountResult, LayerCount

# What a layer is billed for ("AC", "MAC", "event", or words of one's own), raw events over the
# measurement, and joules per event.
Bill = tuple[str, float, float]
_OF_LAYERS = ("mac", "ac")  # prices that formulas multiply; neurons are billed beside them
Bills = Bill | list[Bill] | None  # several where its events have several prices
_PRECISION = "+"  # "operands+int8"


@dataclass(frozen=True)
class Convention:
    """A named way to price counts.

    Attributes:
        name: as given to :func:`~snnprof.price` and ``--energy``.
        formula: key in :data:`FORMULAS`.
        mac_j: joules per multiply-accumulate, None where the formula needs none.
        ac_j: joules per accumulate or synaptic event, likewise.
        description, leaves_out, source: printed with every figure.
        neuron_j: joules per update of a neuron; None where they are not billed.
        neuron_gradient_j: joules per update of a neuron in a backward pass, likewise.
        stated: what a file says of it, its constants one by one; None for one made in Python.
        file: that it was read from; None for ours and those made in Python.
    """

    name: str
    formula: str
    mac_j: float | None
    ac_j: float | None
    description: str
    leaves_out: str
    source: str
    neuron_j: float | None = None
    neuron_gradient_j: float | None = None
    stated: PricedAs | None = None
    file: str | None = None

    @property
    def constants(self) -> Mapping[str, Constant]:
        """By what they price ("mac", "ac", "neuron"), as far as they were stated."""
        return {} if self.stated is None else self.stated.constants

    @property
    def cited(self) -> str:
        """The source, and in few words how the constants are known: what a table's note says."""
        known_by = {use: constant.known_by for use, constant in self.constants.items()}
        if not known_by:
            return self.source
        alike = len(set(known_by.values())) == 1
        each = [f"{use}: {how}" for use, how in known_by.items()]
        return f"{self.source} ({known_by.popitem()[1] if alike else '; '.join(each)})"

    @property
    def of_training(self) -> bool:
        """True if it bills training on a sample, backward passes included; False: inference."""
        return FORMULAS.find(self.formula).training

    @property
    def suited_to(self) -> str:
        """Which table it is for; empty where that was not said."""
        return "" if self.stated is None else self.stated.suited_to


# A layer's bill from its counts, the convention, the meaning of INTEGER spikes ("ac" or "mac",
# see price), and the counts of the whole network; None where the layer is not billed.
BillUnder = Callable[[LayerCount, Convention, str, CountResult], Bills]
BillLayer = Callable[[LayerCount], Bills]


@dataclass(frozen=True)
class Formula:
    """How layers are billed, and what that takes.

    Attributes:
        bill: of one layer.
        prices: those of "mac" and "ac" that it multiplies: a convention states these and no other.
        of_spikes: it takes every event for a spike's: of a dense network's real numbers it says
            nothing.
        training: it bills a training step, with the gradients of SopCounter.
    """

    bill: BillUnder
    prices: tuple[str, ...] = ()
    of_spikes: bool = False
    training: bool = False


FORMULAS: Registry[Formula] = Registry("energy formula")
CONVENTIONS: Registry[Convention] = Registry("energy convention")


def formula(
    name: str, prices: tuple[str, ...], *, of_spikes: bool = False, training: bool = False
) -> Callable[[BillUnder], BillUnder]:
    """Decorator that adds a formula; its arguments are those of :class:`Formula`."""

    def add(bill: BillUnder) -> BillUnder:
        FORMULAS.register(name)(Formula(bill, prices, of_spikes, training))
        return bill

    return add


def energy_convention(
    name: str,
    *,
    description: str,
    leaves_out: str,
    source: str,
    of_spikes: bool = False,
    training: bool = False,
) -> Callable[[BillLayer], BillLayer]:
    """Decorator that adds a convention; price(), run(energy=...) and ``--energy`` then know it.

    It stands above a function of a :class:`~snnprof.LayerCount` that returns the layer's
    operation ("AC", "MAC" or other words), the raw events over the measurement and the joules of
    each (a list of such bills where several are due), or None for a layer that it does not bill.

    Args:
        name: not taken yet.
        description: the convention in one line.
        leaves_out: costs that it does not bill.
        source: where its constants and its formula come from.
        of_spikes: it takes every event for a spike's: a dense row is not priced under it.
        training: it bills training on a sample: the counts are of a training step, with the
            gradients of :class:`~snnprof.SopCounter` (``row.gradient``), and the figure is never
            put beside that of inference.

    Raises:
        ValueError: a name that is taken, by a convention or a formula.
    """

    def add(bill: BillLayer) -> BillLayer:
        made = Convention(name, name, None, None, description, leaves_out, source)
        CONVENTIONS.register(name)(made)
        formula(name, (), of_spikes=of_spikes, training=training)(
            lambda row, convention, integer, counts: bill(row)
        )
        return bill

    return add


def convention_names(given: str) -> tuple[str, ...]:
    """The names of conventions that were asked for: one, or all of a TOML file.

    Args:
        given: ``"operands"``, ``"operands+int8"`` (the same at another precision), or a path that
            ends in ``.toml``.

    Raises:
        SnnprofError: an unknown convention or precision, or a file that is no price file.
    """
    if given.endswith(SUFFIX) and given not in CONVENTIONS:
        return _of_file(given)
    find_convention(given)
    return (given,)


def of_training(names: Sequence[str]) -> tuple[str, ...]:
    """Those of these conventions that bill training."""
    return tuple(name for name in names if find_convention(name).of_training)


def of_inference(names: Sequence[str]) -> tuple[str, ...]:
    """Those of these conventions that bill inference."""
    return tuple(name for name in names if not find_convention(name).of_training)


def check_of_inference(names: Sequence[str], what: str) -> None:
    """Raise SnnprofError for a convention that bills training, where there is none.

    Args:
        names: of conventions.
        what: has no backward pass.
    """
    for name in of_training(names):
        raise SnnprofError(
            f"energy {name!r} is of training, and {what} has no backward pass: snnprof run "
            f"--energy {name} measures one; here give another convention"
        )


def at_precision(names: Sequence[str], precision: str) -> tuple[str, ...]:
    """The names of the same conventions, priced at a precision.

    Raises:
        SnnprofError: a convention that has no prices at it.
    """
    found = tuple(
        name if _PRECISION in name else f"{name}{_PRECISION}{precision}" for name in names
    )
    for name in found:
        find_convention(name)
    return found


def find_convention(name: str) -> Convention:
    """The convention of that name, at the precision that follows a ``+``.

    Raises:
        SnnprofError: an unknown convention, or a precision that it has no prices at.
    """
    plain, plus, precision = name.partition(_PRECISION)
    chosen = CONVENTIONS.find(name if name in CONVENTIONS else plain)
    if name in CONVENTIONS or not plus:
        return chosen
    constants = {use: _alike(own, precision) for use, own in chosen.constants.items()}
    found = {use: constant for use, constant in constants.items() if constant is not None}
    if chosen.stated is None or len(found) < len(constants) or not found:
        raise SnnprofError(
            f"energy convention {plain!r} has no prices at {precision!r}: {_precisions(chosen)}"
        )
    return _made(replace(chosen.stated, name=name, constants=found), chosen.file)


def _precisions(chosen: Convention) -> str:
    """At which precisions there are prices, in words."""
    known = {other.precision for other in CONSTANTS.values() if other.precision is not None}
    own = chosen.constants.values()
    at = {name for name in known if own and all(_alike(each, name) for each in own)}
    others = at - {constant.precision for constant in own}
    return f"it has them at {', '.join(sorted(at))}" if others else "ask for it without a precision"


def _alike(own: Constant, precision: str) -> Constant | None:
    """Our constant for the same operation at another precision: it differs in its name's end."""
    if own.precision is None:
        return None
    return CONSTANTS.get(f"{own.name.removesuffix(own.precision)}{precision}")


def _of_file(path: str) -> tuple[str, ...]:
    """The names of the conventions of a file, which are known from now on."""
    stated = _read(path)
    file = str(Path(path).resolve())
    found = [_made(each, file) for each in stated]
    for made in found:
        there = CONVENTIONS.get(made.name)
        if there is not None and there.file != made.file:
            whose = "one of ours" if there.file is None else f"of {there.file!r}"
            raise SnnprofError(
                f"energy file {path!r}: the name of conventions.{made.name} is taken, by "
                f"{whose}: give another"
            )
    for made in found:  # read again, a file that was edited counts as it is now
        CONVENTIONS[made.name] = made
    return tuple(made.name for made in found)


def _read(path: str) -> list[PricedAs]:
    stated = read_file(path, CONSTANTS)
    for each in stated:
        if each.formula not in FORMULAS:
            error = known("energy formula", each.formula, FORMULAS)
            raise SnnprofError(f"energy file {path!r}: conventions.{each.name}: {error}")
        if (wrong := _wrong_prices(each)) is not None:
            raise SnnprofError(f"energy file {path!r}: conventions.{each.name}{wrong}")
    return stated


def _wrong_prices(stated: PricedAs) -> str | None:
    """What the formula has no price of, or a price that it would not look at."""
    needed = FORMULAS[stated.formula].prices
    for use in _OF_LAYERS:
        if use in needed and use not in stated.constants:
            return f" has no {use!r}, which formula {stated.formula!r} bills: name a constant"
        if use in stated.constants and use not in needed:
            return f".{use}: formula {stated.formula!r} does not bill it: leave it out"
    return None


def _made(stated: PricedAs, file: str | None = None) -> Convention:
    prices = {use: constant.value_j for use, constant in stated.constants.items()}
    description = stated.description
    for use, joules in prices.items():
        description = description.replace(f"{{{use}}}", shown(joules))
    return Convention(
        name=stated.name,
        formula=stated.formula,
        mac_j=prices.get("mac"),
        ac_j=prices.get("ac"),
        description=description,
        leaves_out=stated.leaves_out,
        source=stated.source,
        neuron_j=prices.get("neuron"),
        neuron_gradient_j=prices.get("neuron_gradient"),
        stated=stated,
        file=file,
    )


def shown(joules: float) -> str:
    """``"4.6 pJ"``, ``"13.3 nJ"``."""
    return f"{joules * 1e9:g} nJ" if joules >= 1e-9 else f"{joules * 1e12:g} pJ"


CONSTANTS, _shipped = read(
    resources.files("snnprof.energy").joinpath("conventions.toml").read_text("utf-8")
)
for _stated in _shipped:
    CONVENTIONS.register(_stated.name)(_made(_stated))

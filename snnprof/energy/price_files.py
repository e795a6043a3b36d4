"""Energy conventions from TOML: ours, and files of one's own. Every key is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from snnprof.core.errors import SnnprofError
from snnprof.core.toml_files import parse_toml, read_text

SUFFIX = ".toml"
UNSTATED = "unstated"
_PER_OP = "per_op"  # of any other scope memory and neurons are in the figure, or may be
_EVIDENCE = ("measured", "simulated", "assumed", UNSTATED)
_SCOPE = (_PER_OP, "all_in", UNSTATED)
_BILLED_PER = {
    "mac": ("op",),
    "ac": ("op", "event"),
    "neuron": ("update",),
    "neuron_gradient": ("update",),
}
_PRICES = tuple(_BILLED_PER)
_PER = ("op", "event", "update")
_UNITS = {"value_j": 1.0, "value_nj": 1e-9, "value_pj": 1e-12, "value_fj": 1e-15}
_NEURON_PRICES = ("neuron", "neuron_gradient")
_LARGEST = 1e300  # of a number; above are infinity, and whole numbers that no float holds
_LONGEST = 80  # letters of a wrong value in an error

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Constant:
    """A physical figure, and how it is known.

    Attributes:
        name: as conventions refer to it.
        value_j: joules per ``per``.
        per: "op", "event" or "update" (of a neuron).
        evidence: "measured", "simulated" or "assumed"; "unstated" where its source does not say.
        scope: "per_op"; "all_in" where memory and neurons are in the figure; "unstated".
        leaves_out, source: printed with the convention.
        node_nm: technology, where it is stated.
        precision: "fp32", "int8", ...; None where it has none.
        second_hand: read where others quote it, not in the source itself.
    """

    name: str
    value_j: float
    per: str
    evidence: str
    scope: str
    leaves_out: str
    source: str
    node_nm: float | None = None
    precision: str | None = None
    second_hand: bool = False

    @property
    def known_by(self) -> str:
        """``"simulated, quoted second-hand"``: how the figure is known."""
        evidence = f"evidence {UNSTATED}" if self.evidence == UNSTATED else self.evidence
        return f"{evidence}, quoted second-hand" if self.second_hand else evidence


@dataclass(frozen=True)
class PricedAs:
    """A convention as a file states it: a formula, and the constants that it multiplies.

    Attributes:
        name, formula: see :class:`~snnprof.energy.conventions.Convention`.
        constants: by what they price: "mac", "ac", "neuron", "neuron_gradient".
        description, leaves_out, source, suited_to: printed with every figure.
    """

    name: str
    formula: str
    constants: Mapping[str, Constant]
    description: str
    leaves_out: str
    source: str
    suited_to: str


def read_file(path: str | Path, shipped: Mapping[str, Constant]) -> list[PricedAs]:
    """The conventions of a TOML file, which may use our constants by name.

    Raises:
        SnnprofError: the file cannot be read, or says something that is no convention: the file,
            the table and the key are named.
    """
    where = f"energy file {str(path)!r}"
    text = read_text(path, where)
    try:
        _, found = read(text, shipped)
    except SnnprofError as error:
        raise SnnprofError(f"{where}: {error}") from error
    if not found:
        raise SnnprofError(
            f"{where} holds no table [conventions.NAME]: docs/energy-conventions.md has an example"
        )
    return found


def read(
    text: str, shipped: Mapping[str, Constant] | None = None
) -> tuple[dict[str, Constant], list[PricedAs]]:
    """Constants and conventions of a TOML text.

    Args:
        text: of the file.
        shipped: constants that it may use beside its own.

    Raises:
        SnnprofError: no TOML, an unknown key, one that is missing, or a wrong value.
    """
    tables = parse_toml(text)
    _only(tables, ("constants", "conventions"), "the file")
    constants = {name: _constant(name, row) for name, row in _rows(tables, "constants").items()}
    for name in constants.keys() & (shipped or {}).keys():
        raise SnnprofError(f"constants.{name}: the name is one of ours: give another")
    known = {**(shipped or {}), **constants}
    rows = sorted(_rows(tables, "conventions").items())
    return constants, [_convention(name, row, known) for name, row in rows]


def _rows(tables: Mapping[str, Any], kind: str) -> Mapping[str, Mapping[str, Any]]:
    rows = tables.get(kind, {})
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise SnnprofError(f"{kind!r} must be tables, [{kind}.NAME]")
    return rows


def _constant(name: str, row: Mapping[str, Any]) -> Constant:
    where = f"constants.{name}"
    texts = ("per", "evidence", "scope", "leaves_out", "source", "precision")
    if "value" in row or not (units := [key for key in _UNITS if key in row]):
        raise SnnprofError(f"{where} has no value with its unit: one of {', '.join(_UNITS)}")
    _only(row, (*_UNITS, *texts, "node_nm", "second_hand"), where)
    if len(units) > 1:
        raise SnnprofError(f"{where} has both {units[0]} and {units[1]}: leave one out")
    return Constant(
        name=name,
        value_j=_number(row, units[0], where, _UNITS[units[0]]),
        per=_one_of(row, "per", _PER, where),
        evidence=_one_of(row, "evidence", _EVIDENCE, where),
        scope=_one_of(row, "scope", _SCOPE, where),
        leaves_out=_text(row, "leaves_out", where),
        source=_text(row, "source", where),
        node_nm=_number(row, "node_nm", where) if "node_nm" in row else None,
        precision=_text(row, "precision", where) if "precision" in row else None,
        second_hand=_truth(row, "second_hand", where) if "second_hand" in row else False,
    )


def _convention(name: str, row: Mapping[str, Any], known: Mapping[str, Constant]) -> PricedAs:
    where = f"conventions.{name}"
    if "+" in name or name.endswith(SUFFIX):
        raise SnnprofError(f"{where}: a convention's name has no '+' and no {SUFFIX!r} at its end")
    texts = ("formula", "description", "leaves_out", "source", "suited_to")
    _only(row, (*_PRICES, *texts), where)
    constants = dict(_constants(row, known, where))
    whole = [constant for constant in constants.values() if constant.scope != _PER_OP]
    twice = [key for key in _NEURON_PRICES if key in constants]
    if whole and twice:
        raise SnnprofError(
            f"{where}: constant {whole[0].name!r} is of scope {whole[0].scope!r}: neurons are in "
            f"it, or may be, and are not billed again: leave {twice[0]!r} out"
        )
    description = _text(row, "description", where)
    for key in _PRICES:
        if f"{{{key}}}" in description and key not in constants:
            raise SnnprofError(f"{where}.description says {{{key}}}, and {key!r} has no price")
    return PricedAs(
        name=name,
        formula=_text(row, "formula", where),
        constants=constants,
        description=description,
        leaves_out=_text(row, "leaves_out", where),
        source=_text(row, "source", where),
        suited_to=_text(row, "suited_to", where) if "suited_to" in row else "",
    )


def _constants(
    row: Mapping[str, Any], known: Mapping[str, Constant], where: str
) -> Iterator[tuple[str, Constant]]:
    for key in _PRICES:
        if key in row:
            named = _text(row, key, where)
            if named not in known:
                raise SnnprofError(
                    f"{where}.{key}: there is no constant {named!r}; known: "
                    f"{', '.join(sorted(known))}"
                )
            if known[named].per not in _BILLED_PER[key]:
                raise SnnprofError(
                    f"{where}.{key}: constant {named!r} is per {known[named].per}, and {key!r} is "
                    f"billed per {' or '.join(_BILLED_PER[key])}: name another"
                )
            yield key, known[named]


def _only(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [key for key in row if key not in keys]
    if unknown:
        raise SnnprofError(f"{where} has an unknown key {unknown[0]!r}; known: {', '.join(keys)}")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    return str(_checked(row, key, where, "a text", lambda value: isinstance(value, str) and value))


def _number(row: Mapping[str, Any], key: str, where: str, unit: float = 1.0) -> float:
    def positive(value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # In the unit too: the least of all floats times 1e-12 is 0.
        return number and 0 < value < _LARGEST and value * unit > 0  # type: ignore[operator]

    return float(_checked(row, key, where, "a positive number", positive)) * unit


def _truth(row: Mapping[str, Any], key: str, where: str) -> bool:
    return bool(_checked(row, key, where, "true or false", lambda value: isinstance(value, bool)))


def _one_of(row: Mapping[str, Any], key: str, values: tuple[str, ...], where: str) -> str:
    what = f"one of {', '.join(values)}"
    return str(_checked(row, key, where, what, lambda value: value in values))


def _checked(
    row: Mapping[str, Any], key: str, where: str, what: str, fits: Callable[[Any], object]
) -> Any:
    if key not in row:
        raise SnnprofError(f"{where} has no {key!r}: {what}")
    if not fits(row[key]):
        raise SnnprofError(f"{where}.{key} is {_shown(row[key])}: must be {what}")
    return row[key]


def _shown(value: object) -> str:
    """A value in an error, cut short."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, thousands of tables in each other
        return f"a {type(value).__name__}"
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."

"""Frozen records out of what JSON made of them: every value is checked against its field's type."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

_WORDS = ("nan", "inf", "-inf")  # numbers that JSON cannot hold
_NUMBER = "number"


def not_finite(value: float) -> dict[str, str]:
    """NaN or infinity as JSON can hold it, and as no text looks: ``{"number": "nan"}``."""
    return {_NUMBER: str(value)}


def decode(expected: Any, value: Any, where: str) -> Any:
    """A dataclass, tuple, dict or leaf of the type, from the dicts, lists and leaves of JSON.

    Args:
        expected: the type.
        value: of JSON.
        where: its place, for messages: ``"result.rows[0]"``.

    Raises:
        ValueError: a field that is missing or unknown, or a value of another type.
    """
    if dataclasses.is_dataclass(expected):
        return _record(expected, value, where)
    return _BY_ORIGIN.get(get_origin(expected), _leaf)(expected, value, where)


def _record(expected: Any, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), value, "a table of fields", where)
    fields = _fields(expected)
    for name in value:
        if name not in fields:
            raise ValueError(f"{where} has an unknown field {name!r:.80}")
    # A file from before a field was added lacks it: not measured, no notes.
    for name, (_, needed) in fields.items():
        if needed and name not in value:
            raise ValueError(f"{where} has no {name!r}")
    return expected(
        **{name: decode(fields[name][0], item, f"{where}.{name}") for name, item in value.items()}
    )


@cache
def _fields(record: Any) -> dict[str, tuple[Any, bool]]:
    """Type of each field, and whether every file has it."""
    hints = get_type_hints(record)
    return {
        field.name: (hints[field.name], not _may_lack(field))
        for field in dataclasses.fields(record)
    }


def _may_lack(field: dataclasses.Field[Any]) -> bool:
    """True where the default says nothing: None, (), or an empty dict, made anew."""
    made = field.default_factory is not dataclasses.MISSING
    return made or field.default in (None, ())


def _union(expected: Any, value: Any, where: str) -> Any:
    kinds = [kind for kind in get_args(expected) if kind is not types.NoneType]
    if float in kinds:
        value = _as_number(value)
    if value is None and len(kinds) < len(get_args(expected)):
        return None
    if len(kinds) == 1:
        return decode(kinds[0], value, where)
    words = " or ".join(_LEAVES[kind][0] for kind in kinds)
    _check(any(_LEAVES[kind][1](value) for kind in kinds), value, words, where)
    return value


def _as_number(value: Any) -> Any:
    """The number that :func:`not_finite` wrote; anything else as it is."""
    is_one = isinstance(value, dict) and [*value] == [_NUMBER] and value[_NUMBER] in _WORDS
    return float(value[_NUMBER]) if is_one else value


def _tuple(expected: Any, value: Any, where: str) -> tuple[Any, ...]:
    _check(isinstance(value, list), value, "a list", where)
    kinds = get_args(expected)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    _check(len(kinds) == len(value), value, f"a list of {len(kinds)}", where)
    pairs = zip(kinds, value, strict=True)
    return tuple(decode(kind, item, f"{where}[{n}]") for n, (kind, item) in enumerate(pairs))


def _dict(expected: Any, value: Any, where: str) -> dict[str, Any]:
    _check(isinstance(value, dict), value, "a table", where)
    of_names, of_items = get_args(expected)
    return {
        decode(of_names, name, where): decode(of_items, item, f"{where}[{name!r:.80}]")
        for name, item in value.items()
    }


def _leaf(expected: Any, value: Any, where: str) -> Any:
    words, fits = _LEAVES[expected]
    if expected is float:
        value = _as_number(value)
    _check(fits(value), value, words, where)
    return float(value) if expected is float and isinstance(value, str) else value


def _check(fits: bool, value: Any, words: str, where: str) -> None:
    if not fits:
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"{where:.200} is {kind}, and must be {words}")


def _is_text(value: Any) -> bool:
    """True for text that a file can hold, or that names a file: no half of a surrogate pair.

    Python has the bytes of a file's name that are no UTF-8 as U+DC80 to U+DCFF (PEP 383).
    """
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, str):  # as files of before had it
        return value in _WORDS
    return isinstance(value, int | float) and not isinstance(value, bool)


# By the type of a field: in words, and what fits.
_LEAVES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", _is_text),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", _is_number),
    Any: ("anything", lambda value: True),
}
_BY_ORIGIN: dict[Any, Callable[[Any, Any, str], Any]] = {
    Union: _union,
    types.UnionType: _union,
    tuple: _tuple,
    dict: _dict,
}

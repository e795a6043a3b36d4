"""JSON in which everything is what it says: no key twice, no number that no float can hold."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_MOST_DIGITS = 40  # of a whole number: more than any count of ours, fewer than a float holds


def parse(text: str | bytes) -> Any:
    """What the text says.

    Raises:
        ValueError: no JSON, brackets too deep, a key twice in one object, NaN or infinity, or a
            number too large.
    """
    try:
        return json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_number,
            object_pairs_hook=_once_each,
        )
    except RecursionError:
        raise ValueError("its brackets are too deep") from None


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.{_MOST_DIGITS}} is more than a number can be")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.80} is there twice")
    return found

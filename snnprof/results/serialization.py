"""Results to JSON and back, without loss."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from snnprof.core.errors import SnnprofError
from snnprof.results import (
    SCHEMA_VERSION,
    Result,
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Result)}


def to_json(result: Result) -> str:
    """A result as JSON text with its kind and the schema version inside."""
    document = {
        "snnprof_schema": SCHEMA_VERSION,
        "kind": type(result).__name__,
        "result": _strict(dataclasses.asdict(result)),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _strict(value: Any) -> Any:
    """The same with infinity and NaN, which are no JSON, as words."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(text: str) -> Result:
    """The result that :func:`to_json` wrote.

    Raises:
        SnnprofError: not JSON, not one of our results, or another schema version.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise SnnprofError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or str(document.get("kind")) not in _KINDS:
        raise SnnprofError(f"not a snnprof result; known kinds: {', '.join(sorted(_KINDS))}")
    version = document.get("snnprof_schema")
    if version != SCHEMA_VERSION:
        raise SnnprofError(
            f"schema version {version}: this snnprof reads version {SCHEMA_VERSION}; use the "
            "snnprof that wrote the file"
        )
    try:
        result: Result = _decode(_KINDS[document["kind"]], dict(document["result"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SnnprofError(f"a damaged snnprof result: {error!r}") from error
    return result


def _is_made(field: dataclasses.Field[Any]) -> bool:
    """True where the default is made anew: an empty dict."""
    return field.default_factory is not dataclasses.MISSING


def _decode(expected: Any, value: Any) -> Any:
    """Rebuild nested frozen dataclasses and tuples from what JSON made of them."""
    if value is None:
        return None
    if expected is float and isinstance(value, str):
        return float(value)
    if dataclasses.is_dataclass(expected):
        hints = get_type_hints(expected)
        # A file from before a field was added lacks it: not measured, no notes.
        names = [
            field.name
            for field in dataclasses.fields(expected)
            if field.name in value or not (field.default in (None, ()) or _is_made(field))
        ]
        return expected(**{name: _decode(hints[name], value[name]) for name in names})  # type: ignore[operator]
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _decode(inner, value)
    if origin is tuple:
        if arguments[-1] is ...:
            return tuple(_decode(arguments[0], item) for item in value)
        return tuple(_decode(kind, item) for kind, item in zip(arguments, value, strict=True))
    return value

"""Results to JSON and back, without loss."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from typing import Any, get_args

from snnprof.core import strict_json
from snnprof.core.errors import SnnprofError
from snnprof.results import (
    SCHEMA_VERSION,
    Result,
)
from snnprof.results.decoding import decode, not_finite

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Result)}
_SCHEMA, _KIND, _RESULT, _SUM = "snnprof_schema", "kind", "result", "crc32"


def to_json(result: Result) -> str:
    """A result as JSON text with its kind, the schema version and a checksum inside."""
    document = {
        _SCHEMA: SCHEMA_VERSION,
        _KIND: type(result).__name__,
        _RESULT: _strict(dataclasses.asdict(result)),
    }
    return json.dumps({**document, _SUM: _checksum(document)}, indent=1, allow_nan=False)


def _strict(value: Any) -> Any:
    """The same with infinity and NaN, which are no JSON, as ``{"number": "nan"}``."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return not_finite(value) if isinstance(value, float) and not math.isfinite(value) else value


def _checksum(document: dict[str, Any]) -> str:
    """CRC-32 of what the document says, whatever its layout."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def from_json(text: str) -> Result:
    """The result that :func:`to_json` wrote.

    Raises:
        SnnprofError: not JSON, not one of our results, another schema version, a value of another
            type than its field's, or a file that was changed after it was written.
    """
    try:
        document = strict_json.parse(text)
    except ValueError as error:
        raise SnnprofError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or str(document.get(_KIND)) not in _KINDS:
        raise SnnprofError(f"not a snnprof result; known kinds: {', '.join(sorted(_KINDS))}")
    version = document.get(_SCHEMA)
    if type(version) is not int or version != SCHEMA_VERSION:
        raise SnnprofError(
            f"schema version {version!r:.80}: this snnprof reads version {SCHEMA_VERSION}; use the "
            "snnprof that wrote the file"
        )
    checksum = document.pop(_SUM, None)
    try:
        _check_names(document)
        result: Result = decode(_KINDS[document[_KIND]], document[_RESULT], _RESULT)
    except ValueError as error:
        raise SnnprofError(f"a damaged snnprof result: {error}") from error
    if checksum is not None and checksum != _checksum(document):
        raise SnnprofError(
            "damaged, or changed after it was saved: its checksum is of other figures; to read it "
            f"as it is, take the line {_SUM!r} out"
        )
    return result


def _check_names(document: dict[str, Any]) -> None:
    names = (_SCHEMA, _KIND, _RESULT)
    if set(document) != set(names):
        raise ValueError(f"it holds {', '.join(sorted(document)):.80} beside {_SUM}")

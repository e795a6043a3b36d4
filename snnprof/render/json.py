"""Results as JSON: everything that was measured, to be read again."""

from __future__ import annotations

from snnprof.render.output_formats import output_format
from snnprof.results import Layers, Result
from snnprof.results.serialization import to_json


@output_format(".json")
def json(result: Result | Layers) -> str:
    """The whole result, raw; :func:`snnprof.load` reads it."""
    return to_json(result.report if isinstance(result, Layers) else result)

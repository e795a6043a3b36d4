"""Tables as CSV: raw values in base units, for programs."""

from __future__ import annotations

from snnprof.render.output_formats import output_format
from snnprof.render.table import frame
from snnprof.results import Result


@output_format(".csv")
def csv(result: Result) -> str:
    """The raw values, units in the headings; a value that was not measured is empty."""
    text: str = frame(result).to_csv(index=False)
    return text

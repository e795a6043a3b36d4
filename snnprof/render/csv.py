"""Tables as CSV: raw values in base units, for programs."""

from __future__ import annotations

from typing import Any

from snnprof.core.visible_text import visible
from snnprof.render.output_formats import output_format
from snnprof.render.table import frame
from snnprof.results import Result

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001


@output_format(".csv")
def csv(result: Result) -> str:
    """The raw values, units in the headings; a value that was not measured is empty.

    Text is on one line (:func:`~snnprof.core.visible_text.visible`), and what a spreadsheet would
    take for a formula has an apostrophe in front, as OWASP advises ("CSV injection").
    """
    table = frame(result)
    text: str = table.map(inert_cell).rename(columns=inert_cell).to_csv(index=False)
    return text


def inert_cell(value: Any) -> Any:
    """Text without a formula in it; anything else as it is."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if value.lstrip().startswith(_FORMULA) or value != value.lstrip() else shown

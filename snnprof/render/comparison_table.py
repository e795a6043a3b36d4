"""What changed from one report to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from snnprof.render.number_format import Figure
from snnprof.render.quantities import COUNT, JOULES, MEMORY, NUMBER, SECONDS, SHARE, SIZE
from snnprof.render.table import View, records, view
from snnprof.results import Comparison
from snnprof.results.comparison import Compared

_QUANTITIES = {
    "accuracy": SHARE,
    "firing rate": SHARE,
    "SOPs": COUNT,
    "NOPs": COUNT,
    "size": SIZE,
    "peak memory": MEMORY,
    "step time": SECONDS,
}


@records.register
def _(result: Comparison) -> list[dict[str, Any]]:
    return [asdict(figure) for figure in result.figures]


@view.register
def _(result: Comparison) -> View:
    columns = ("row", "figure", "base", "new", "ratio", "interval", "verdict")
    rows = tuple(
        (
            each.row,
            each.figure,
            *_values(each),
            "" if each.ratio is None else Figure(f"{each.ratio:.4g}x", f"{each.ratio:.4g}"),
            _interval(each),
            each.verdict,
        )
        for each in result.figures
    )
    return View("What changed: new / base", columns, rows, (*_notes(result), *result.notes))


def _notes(result: Comparison) -> list[str]:
    if not any(each.figure == "step time" for each in result.figures):
        return []
    return [
        "Step time: medians, and the ratio's interval from the 5th and 95th percentiles of both; "
        "overlapping ones are no change. The two were measured at different moments: a machine "
        "that was busier in one of them looks like a change."
    ]


def _values(each: Compared) -> list[str]:
    """Both values, in one unit."""
    usual = NUMBER if each.convention is None else JOULES
    quantity = _QUANTITIES.get(each.figure, usual)
    values = (each.base, each.new)
    factor, symbol = quantity.unit([value for value in values if value is not None])
    cells = ("" if value is None else quantity.cell([value], factor) for value in values)
    return [f"{cell} {symbol}".strip() if cell else "" for cell in cells]


def _interval(each: Compared) -> str:
    if each.low is None or each.high is None or each.low == each.high:
        return ""
    return f"{each.low:.4g}-{each.high:.4g}"

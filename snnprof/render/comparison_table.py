"""What changed from one report to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from snnprof.render.number_format import Figure, number, percent
from snnprof.render.table import MEGA, MIB, MILLI, View, records, view
from snnprof.results import Comparison
from snnprof.results.comparison import Compared

_UNITS = {
    "SOPs": (MEGA, "M"),
    "NOPs": (MEGA, "M"),
    "size": (MEGA, "MB"),
    "peak memory": (MIB, "MiB"),
    "step time": (MILLI, "ms"),
}
_SHARES = ("accuracy", "firing rate")


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
            _value(each, each.base),
            _value(each, each.new),
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


def _value(each: Compared, value: float | None) -> str:
    if value is None:
        return ""
    if each.figure in _SHARES:
        return f"{percent(value)} %"
    energy = (MILLI, "mJ") if each.convention is not None else (1.0, "")
    unit, name = _UNITS.get(each.figure, energy)
    return f"{number(value / unit)} {name}".strip()


def _interval(each: Compared) -> str:
    if each.low is None or each.high is None or each.low == each.high:
        return ""
    return f"{each.low:.4g}-{each.high:.4g}"

"""Time and memory of a training step over the number of time steps."""

from __future__ import annotations

import math
import textwrap
from itertools import groupby
from typing import Any

from snnprof.render.figures import COLUMN_WIDTH, label
from snnprof.render.table import MIB, MILLI
from snnprof.results import Report, ReportRow, quartiles
from snnprof.results.scaling import series, series_names

_MARKERS = "os^Dvpx*"
_LETTERS = 64  # that fit in the width


def is_over_time(report: Report) -> bool:
    """Whether steps of one network and mode were measured at several T.

    A dense row at T = 1 beside spiking ones at T = 4 is no growth.
    """
    lines = series(_drawn(report))
    return any(len({row.timesteps for row in rows}) > 1 for rows in lines)


def draw_scaling(report: Report, pyplot: Any) -> Any:
    """Peak memory and step time, one above the other, a line per network and mode.

    Seeds are taken together as in the table: all their steps, and the largest peak.
    """
    figure, (memory, time) = pyplot.subplots(
        2, 1, figsize=(COLUMN_WIDTH, 4.2), sharex=True, layout="constrained"
    )
    device = report.environment.get("device", "")
    lines = series(_drawn(report))
    for place, (name, rows) in enumerate(zip(series_names(lines), lines, strict=True)):
        style = {
            "marker": _MARKERS[place % len(_MARKERS)],
            "markersize": 3,
            "label": label(name),
        }
        by_steps = groupby(rows, key=lambda row: row.timesteps)
        points = [(t, [*of_t]) for t, of_t in by_steps]  # of several seeds, one point
        steps = [t for t, _ in points]
        peaks = [max((row.peak_bytes or 0) / MIB for row in of_t) for _, of_t in points]
        memory.plot(steps, peaks, **style)
        # A row that was not timed is a gap in its line.
        pooled = [[s for row in of_t for s in row.step_s] for _, of_t in points]
        spreads = [quartiles(seconds) or (math.nan,) * 3 for seconds in pooled]
        low, middle, high = zip(*spreads, strict=True)
        (line,) = time.plot(steps, [m / MILLI for m in middle], **style)
        time.fill_between(
            steps, [x / MILLI for x in low], [x / MILLI for x in high],
            color=line.get_color(), alpha=0.2, linewidth=0,
        )  # fmt: skip
    memory.set_ylabel("peak memory of a training step (MiB)")
    time.set_ylabel("time of a training step (ms)")
    ticks = sorted({row.timesteps or 0 for row in _drawn(report)})
    for axes in (memory, time):
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    time.set_xlabel("time steps T")
    handles, labels = memory.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    models = dict.fromkeys(row.model for row in _drawn(report))
    under = "; ".join(text for text in (*models, device) if text)
    said = textwrap.wrap(label(under if len(models) == 1 else device), _LETTERS)
    figure.supxlabel("\n".join(said), fontsize=6)
    return figure


def _drawn(report: Report) -> list[ReportRow]:
    """The measured rows, T ascending; those of which T is not known have no place."""
    measured = [r for r in report.rows if r.profile is not None and r.timesteps is not None]
    return sorted(measured, key=lambda row: row.timesteps or 0)

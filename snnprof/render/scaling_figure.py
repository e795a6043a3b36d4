"""Time and memory of a training step over the number of time steps."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.render.figures import drawn, picture
from snnprof.render.table import MIB, MILLI
from snnprof.results import Report, ReportRow, quartiles

_MARKERS = "os^Dvpx*"


@picture.register
def _(report: Report, suffix: str) -> bytes:
    if len({row.timesteps for row in report.rows if row.profile is not None}) < 2:
        raise SnnprofError(
            "a picture of time and memory over T needs steps measured at several T: "
            "--timesteps 1,2,4,8 --repeats 20"
        )
    return drawn(partial(_draw, report), suffix)


def _draw(report: Report, pyplot: Any) -> Any:
    figure, (memory, time) = pyplot.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    device = report.environment.get("device", "")
    for place, (name, rows) in enumerate(_series(report).items()):
        style = {"marker": _MARKERS[place % len(_MARKERS)], "markersize": 4, "label": name}
        steps = [row.timesteps for row in rows]
        memory.plot(steps, [(row.peak_bytes or 0) / MIB for row in rows], **style)
        # A row that was not timed is a gap in its line.
        spreads = [quartiles(row.step_s) or (math.nan,) * 3 for row in rows]
        low, middle, high = zip(*spreads, strict=True)
        (line,) = time.plot(steps, [m / MILLI for m in middle], **style)
        time.fill_between(
            steps, [x / MILLI for x in low], [x / MILLI for x in high],
            color=line.get_color(), alpha=0.2, linewidth=0,
        )  # fmt: skip
    memory.set_ylabel("peak memory of a training step (MiB)")
    time.set_ylabel("time of a training step (ms)")
    ticks = sorted({row.timesteps for row in report.rows})
    for axes in (memory, time):
        axes.set_xlabel("time steps T")
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    handles, labels = memory.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    figure.supxlabel(f"{report.rows[0].model}; {device}", fontsize=7)
    return figure


def _series(report: Report) -> dict[str, list[ReportRow]]:
    """The measured rows of each neuron and mode, T ascending."""
    neurons = {row.neuron for row in report.rows}
    found: dict[str, list[ReportRow]] = {}
    for row in sorted(report.rows, key=lambda row: row.timesteps):
        if row.profile is not None:
            name = row.mode if len(neurons) == 1 else f"{row.neuron}, {row.mode}"
            found.setdefault(name, []).append(row)
    return found

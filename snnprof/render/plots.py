"""Pictures, by suffix. They need matplotlib, the optional extra ``plots``."""

from __future__ import annotations

import importlib
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnprof.errors import SnnprofError
from snnprof.results import CoherenceResult, LayerCoherence

SUFFIXES = (".svg", ".png", ".pdf")
_INCH_PER_LAYER = 0.28
_HEIGHT = 4.4
_STYLE = {"svg.hashsalt": "snnprof", "svg.fonttype": "none", "font.size": 9}


def coherence_plot(results: Sequence[CoherenceResult] | CoherenceResult, path: str | Path) -> None:
    """Cosine of online and STBP gradients against depth and, with several T, against T.

    Solid lines are the membranes' gradients, dashed ones the weights', dotted ones the cosine
    that part (i) of Theorem 4.2 predicts for the membranes, where the identity is claimed for
    every layer. Against T it draws the median over the layers and the range between the least
    and the most coherent.

    Args:
        results: one, or several of the same layers at different T, or with different labels.
        path: .svg, .png or .pdf.

    Raises:
        SnnprofError: nothing to draw, an unknown suffix, no matplotlib, or the file cannot be
            written.
    """
    drawn = (results,) if isinstance(results, CoherenceResult) else tuple(results)
    if not any(row.cosine_membrane is not None for result in drawn for row in result.rows):
        raise SnnprofError("no cosine to draw: no layer of the results has gradients")
    target = check_picture(path)
    pyplot = _pyplot()
    by_time = len({result.timesteps for result in drawn}) > 1
    longest = max(drawn, key=lambda result: len(result.rows))
    width = max(3.6, 1.4 + _INCH_PER_LAYER * len(longest.rows))
    widths = [width, 3.2] if by_time else [width]
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(
            1,
            len(widths),
            figsize=(sum(widths), _HEIGHT),
            width_ratios=widths,
            squeeze=False,
            sharey=True,
            layout="constrained",
        )
        try:
            _against_depth(axes[0][0], drawn, longest, pyplot.colormaps["viridis"])
            if by_time:
                _against_time(axes[0][1], drawn)
            entries, labels = axes[0][0].get_legend_handles_labels()
            columns = max(2, int(sum(widths) / 1.4))
            figure.legend(
                entries, labels, loc="outside upper left", ncols=columns, fontsize=8, frameon=False
            )
            metadata = {"Date": None} if target.suffix.lower() == ".svg" else None
            figure.savefig(target, dpi=200, metadata=metadata)
        except OSError as error:
            raise SnnprofError(f"picture {str(path)!r}: {error.strerror or error}") from error
        finally:
            pyplot.close(figure)


def check_picture(path: str | Path) -> Path:
    """The path, if a picture can be written there.

    Raises:
        SnnprofError: unknown suffix, no such directory, a directory, or no permission.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise SnnprofError(
            f"picture {str(path)!r}: unknown suffix {target.suffix!r}; known: {', '.join(SUFFIXES)}"
        )
    if target.is_dir() or not target.parent.is_dir():
        raise SnnprofError(f"picture {str(path)!r}: name a file in a directory that exists")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise SnnprofError(f"picture {str(path)!r}: no permission to write there")
    return target


def _pyplot() -> Any:
    try:
        importlib.import_module("matplotlib").use("Agg")
    except ImportError as error:
        raise SnnprofError(
            "pictures need matplotlib: pip install 'snnprof[plots]', or ask for a table"
        ) from error
    return importlib.import_module("matplotlib.pyplot")


def _against_depth(
    axes: Any, results: Sequence[CoherenceResult], longest: CoherenceResult, colours: Any
) -> None:
    for place, result in enumerate(results):
        colour = colours(0.9 * place / max(1, len(results) - 1))
        name = f"T = {result.timesteps}" if result.label is None else result.label
        depth = range(1, len(result.rows) + 1)
        lines = {"-o": "cosine_membrane", "--s": "cosine_weight"}
        if all(row.identity_claimed for row in result.rows):
            lines[":"] = "ratio_predicted"
        for style, column in lines.items():
            label = name if column == "cosine_membrane" else None
            values = [_drawn(row, column) for row in result.rows]
            axes.plot(depth, values, style, color=colour, markersize=3.5, label=label)
    axes.set_xticks(range(1, len(longest.rows) + 1), [row.name for row in longest.rows])
    axes.tick_params(axis="x", labelrotation=90 if len(longest.rows) > 3 else 0)
    axes.set_xlabel("layer of neurons, from input to output")
    axes.set_ylabel("cosine of online and STBP gradient")
    claimed = any(row.identity_claimed for result in results for row in result.rows)
    for style, label in (
        ("-o", "membrane"),
        ("--s", "weight"),
        *([(":", "membrane, by (i)")] if claimed else []),
    ):
        axes.plot([], [], style, color="grey", markersize=3.5, label=label)
    axes.grid(alpha=0.3)


def _against_time(axes: Any, results: Sequence[CoherenceResult]) -> None:
    ordered = sorted(results, key=lambda result: result.timesteps)
    for column, style, colour in (
        ("cosine_membrane", "-o", "tab:blue"),
        ("cosine_weight", "--s", "tab:orange"),
    ):
        points = [
            (result.timesteps, sorted(found))
            for result in ordered
            if (found := [v for row in result.rows if (v := getattr(row, column)) is not None])
        ]
        times = [t for t, _ in points]
        middle = [statistics.median(found) for _, found in points]
        label = column.removeprefix("cosine_")
        axes.plot(times, middle, style, color=colour, markersize=3.5, label=label)
        lowest, highest = [v[0] for _, v in points], [v[-1] for _, v in points]
        axes.fill_between(times, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    times = sorted({result.timesteps for result in ordered})
    axes.set_xticks(times, [str(t) for t in times])
    axes.set_xlabel("time steps T")
    axes.set_title("median and range of the layers", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)


def _drawn(row: LayerCoherence, column: str) -> float:
    """The value; nan, which is a gap in a line, where there is none."""
    value: float | None = getattr(row, column)
    return float("nan") if value is None else value

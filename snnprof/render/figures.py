"""Results as pictures. They need matplotlib, the optional extra ``plots``."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable, Mapping
from functools import partial, singledispatch
from types import MappingProxyType
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.visible_text import visible
from snnprof.render.output_formats import FORMATS, output_format

SUFFIXES = (".svg", ".png", ".pdf")
_STYLE = {
    "svg.hashsalt": "snnprof",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.usetex": False,
}
# Of one column of a paper in two columns, in inches, and what can be read in it.
COLUMN_WIDTH = 3.4
COLUMN_STYLE = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
}
_DPI = 200
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}


def check_matplotlib() -> None:
    """Raise SnnprofError where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SnnprofError(
            "pictures need matplotlib: pip install 'snnprof[plots]', or ask for a table"
        )


def drawn(
    draw: Callable[[Any], Any], suffix: str, style: Mapping[str, object] = MappingProxyType({})
) -> bytes:
    """A picture as bytes, the same for the same results.

    Args:
        draw: makes a figure with matplotlib's pyplot.
        suffix: one of :data:`SUFFIXES`.
        style: matplotlib's settings beside ours.
    """
    check_matplotlib()
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    content = io.BytesIO()
    with pyplot.rc_context({**_STYLE, **style}):
        figure = draw(pyplot)
        try:
            figure.savefig(content, format=suffix[1:], dpi=_DPI, metadata=_UNDATED[suffix])
        finally:
            pyplot.close(figure)
    return content.getvalue()


def label(name: str) -> str:
    """A name as matplotlib shows it: no mathematics, and no underscore that hides a line."""
    shown = visible(name).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


@singledispatch
def picture(result: Any, suffix: str) -> bytes:
    """The picture of a result.

    Raises:
        SnnprofError: there is nothing to draw in it, or no matplotlib.
    """
    tables = ", ".join(suffix for suffix in FORMATS if suffix not in SUFFIXES)
    raise SnnprofError(f"there is no picture of a {type(result).__name__}: write {tables}")


for _suffix in SUFFIXES:
    output_format(_suffix, check=check_matplotlib)(partial(picture, suffix=_suffix))

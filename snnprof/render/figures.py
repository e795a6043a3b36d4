"""Results as pictures. They need matplotlib, the optional extra ``plots``."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.render.output_formats import FORMATS, output_format

SUFFIXES = (".svg", ".png", ".pdf")
_STYLE = {"svg.hashsalt": "snnprof", "svg.fonttype": "none", "font.size": 9}
_DPI = 200
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}


def check_matplotlib() -> None:
    """Raise SnnprofError where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SnnprofError(
            "pictures need matplotlib: pip install 'snnprof[plots]', or ask for a table"
        )


def drawn(draw: Callable[[Any], Any], suffix: str) -> bytes:
    """A picture as bytes, the same for the same results.

    Args:
        draw: makes a figure with matplotlib's pyplot.
        suffix: one of :data:`SUFFIXES`.
    """
    check_matplotlib()
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    content = io.BytesIO()
    with pyplot.rc_context(_STYLE):
        figure = draw(pyplot)
        try:
            figure.savefig(content, format=suffix[1:], dpi=_DPI, metadata=_UNDATED[suffix])
        finally:
            pyplot.close(figure)
    return content.getvalue()


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

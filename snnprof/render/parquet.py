"""Tables as Parquet: raw values in base units, with their types. Needs pyarrow (extra)."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.visible_text import visible
from snnprof.render.output_formats import output_format
from snnprof.render.table import frame


def check_pyarrow() -> None:
    """Raise SnnprofError where pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise SnnprofError("Parquet needs pyarrow: pip install 'snnprof[parquet]', or write a .csv")


@output_format(".parquet", check=check_pyarrow)
def parquet(result: Any) -> bytes:
    """The raw values, as in the CSV; text is on one line, and printable."""
    content = io.BytesIO()
    frame(result).map(_visible).rename(columns=visible).to_parquet(content, index=False)
    return content.getvalue()


def _visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value

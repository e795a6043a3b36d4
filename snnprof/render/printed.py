"""Results as ``print`` and notebooks show them."""

from __future__ import annotations

import io
from html import escape
from typing import Any

from snnprof.render.table import text_frame, view


def text(result: Any) -> str:
    """The table with its notes, as wide as it is."""
    from snnprof.render.terminal import show  # rich is loaded where something is printed

    printed = io.StringIO()
    show(result, printed, explain=True)
    return printed.getvalue().rstrip("\n")


def html(result: Any) -> str:
    """The table with its notes, all names escaped."""
    table = view(result)
    lines = (table.caption, *table.notes, *table.explained)
    notes = "".join(f"<li>{escape(line)}</li>" for line in lines if line)
    body = text_frame(table).to_html(index=False, border=0)
    return f"<p><b>{escape(table.title)}</b></p>{body}<ul>{notes}</ul>"

"""Tables in Markdown, with their notes as a list."""

from __future__ import annotations

import re

from snnprof.render.output_formats import output_format
from snnprof.render.table import text_frame, view
from snnprof.results import Result

# What begins a cell, code, a link, HTML, an entity, emphasis or mathematics.
_LIVE = re.compile(r"[\\|`\[\]<*~$]|&(?=#?\w+;)|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")


@output_format(".md", table=True)
def markdown(result: Result) -> str:
    """The formatted table, its title as a heading."""
    table = view(result)
    cells = text_frame(table).map(escaped).rename(columns=escaped)
    body = cells.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {escaped(note)}" for note in (*table.notes, *table.explained))
    caption = f"{escaped(table.caption)}\n\n" if table.caption else ""
    return f"# {escaped(table.title)}\n\n{caption}{body}\n\n{notes}\n"


def escaped(text: str) -> str:
    """The text with nothing of Markdown in it: a bar would begin the next cell."""
    return _LIVE.sub(lambda found: f"\\{found[0]}", text)

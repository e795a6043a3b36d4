"""Tables in Markdown, with their notes as a list."""

from __future__ import annotations

import re

from snnprof.render.output_formats import output_format
from snnprof.render.table import text_frame, view
from snnprof.results import Result

# What begins a cell, code, a link, HTML, an entity, emphasis, mathematics or an address.
_LIVE = re.compile(
    r"[\\|`\[\]<*~$]|&(?=#?\w+;)|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|:(?=//)|(?<=www)\.",
    re.IGNORECASE,
)
# What makes a line a heading, a list, a quotation or a rule: its first character, or that of "1.".
_BLOCK = re.compile(r"^[#>+=-]|^\d{1,9}[.)](?=\s|$)")
# GitHub takes a name behind it for somebody to be told, escaped or not.
_MENTION = re.compile(r"@(?=\w)")


@output_format(".md", table=True)
def markdown(result: Result) -> str:
    """The formatted table, its title as a heading."""
    table = view(result)
    cells = text_frame(table).map(escaped).rename(columns=escaped)
    body = cells.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {escaped_line(note)}" for note in (*table.notes, *table.explained))
    caption = f"{escaped_line(table.caption)}\n\n" if table.caption else ""
    return f"# {escaped(table.title)}\n\n{caption}{body}\n\n{notes}\n"


def escaped(text: str) -> str:
    """The text with nothing of Markdown in it: a bar would begin the next cell."""
    return _MENTION.sub("@&#8203;", _LIVE.sub(lambda found: f"\\{found[0]}", text))


def escaped_line(text: str) -> str:
    """:func:`escaped` for text that begins a line or an entry of a list."""
    return _BLOCK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", escaped(text.lstrip()))

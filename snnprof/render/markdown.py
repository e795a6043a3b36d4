"""Tables in Markdown, with their notes as a list."""

from __future__ import annotations

from snnprof.render.output_formats import output_format
from snnprof.render.table import text_frame, view
from snnprof.results import Result


@output_format(".md")
def markdown(result: Result) -> str:
    """The formatted table, its title as a heading."""
    table = view(result)
    cells = text_frame(table).map(_escape).rename(columns=_escape)
    body = cells.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in (*table.notes, *table.explained))
    caption = f"{table.caption}\n\n" if table.caption else ""
    return f"# {table.title}\n\n{caption}{body}\n\n{notes}\n"


def _escape(text: str) -> str:
    """A bar would begin the next cell."""
    return text.replace("|", r"\|")

"""Tables in Markdown, with their notes as a list."""

from __future__ import annotations

from snnprof.render.output_formats import output_format
from snnprof.render.table import text_frame, view
from snnprof.results import Result


@output_format(".md")
def markdown(result: Result) -> str:
    """The formatted table, its title as a heading."""
    table = view(result)
    body = text_frame(table).to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}\n"

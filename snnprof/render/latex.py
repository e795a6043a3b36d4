"""Tables in LaTeX, for a paper."""

from __future__ import annotations

from snnprof.render.output_formats import output_format
from snnprof.render.table import text_frame, view
from snnprof.results import Result

_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "%&_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


@output_format(".tex")
def latex(result: Result) -> str:
    """A tabular with the rules of booktabs, title and notes as comments above it."""
    table = view(result)
    style = text_frame(table).map(_escape).rename(columns=_escape).style.hide(axis="index")
    body: str = style.to_latex(hrules=True)
    notes = "".join(f"% {note}\n" for note in table.notes)
    return f"% {table.title}; needs \\usepackage{{booktabs}}\n{notes}{body}"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)

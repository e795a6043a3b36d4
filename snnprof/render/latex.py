r"""Tables in LaTeX, for a paper: booktabs' rules, siunitx' units."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from snnprof.render.number_format import Figure
from snnprof.render.output_formats import output_format
from snnprof.render.table import View, view

_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "%&_#${}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "µ": r"\textmu{}",
        "±": r"$\pm$",
        # Behind the two backslashes of the line before they would be its argument.
        "[": "{[}",
        "*": "{*}",
    }
)
_UNITS = {
    "%": r"\percent",
    "fJ": r"\femto\joule",
    "pJ": r"\pico\joule",
    "nJ": r"\nano\joule",
    "µJ": r"\micro\joule",
    "mJ": r"\milli\joule",
    "J": r"\joule",
    "µs": r"\micro\second",
    "ms": r"\milli\second",
    "s": r"\second",
}
# Of a page in two columns, its text 16 cm wide, as of LaTeX's article; letters of its footnotes.
_PAGE_PT, _LETTER_PT, _BETWEEN_PT = 455.0, 4.25, 5.0
_LETTERS = 8  # that a heading may be wide over narrower cells
_DIGITS = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?")  # what an S column lines up


@output_format(".tex", table=True)
def latex(result: object) -> str:
    """A tabular, with what it needs, its title and its notes as comments above it.

    Columns of numbers are siunitx' S columns, units stand in the header, and the best value of
    a column is bold. Of times only the medians are shown. Columns that nobody asked for and that
    a page in two columns has no room for are left out, and named in a comment.
    """
    whole = view(result)
    table = _fitting(whole)
    left_out = [heading for heading in whole.columns if heading not in table.columns]
    columns = [
        _column(table, place, cells) for place, cells in enumerate(zip(*table.rows, strict=True))
    ]
    kinds = "".join(kind for kind, _ in columns)
    lines = zip(*(cells for _, cells in columns), strict=True)
    comments = (
        f"{table.title}; needs \\usepackage{{booktabs,siunitx}}",
        *([table.caption] if table.caption else []),
        *([f"Left out, for the page: {', '.join(left_out)}"] if left_out else []),
        *table.notes,
        *table.explained,
    )
    body = [
        r"\footnotesize\setlength{\tabcolsep}{2.5pt}",  # of the environment that it stands in
        r"\begin{tabular}{@{}" + kinds + "@{}}",
        r"\toprule",
        *_header(table),
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join((*(f"% {_one_line(note)}" for note in comments), *body)) + "\n"


def _header(table: View) -> list[str]:
    """The names, on as many lines as they need to be no wider than their cells, and the units."""
    if not table.units:
        return [" & ".join(_braced(_escape(name)) for name in table.columns) + r" \\"]
    names = [
        textwrap.wrap(name, max(_LETTERS, width), break_long_words=False)
        for name, width in zip(_names(table), _widths(table), strict=True)
    ]
    most = max(map(len, names))
    lines = zip(*([""] * (most - len(parts)) + parts for parts in names), strict=True)
    rows = [" & ".join(_braced(_escape(part)) for part in line) + r" \\" for line in lines]
    if any(table.units):
        rows.append(" & ".join(_braced(_unit(symbol)) for symbol in table.units) + r" \\")
    return rows


def _names(table: View) -> tuple[str, ...]:
    return table.names or table.columns


def _widths(table: View) -> list[int]:
    """Letters of the widest cell of each column."""
    return [max(map(_letters, cells)) for cells in zip(*table.rows, strict=True)]


def _letters(cell: str) -> int:
    if isinstance(cell, Figure):
        return len(f"{cell.value}±{cell.deviation}" if cell.deviation else cell.value)
    return len(cell)


def _fitting(table: View) -> View:
    """The table without what a page in two columns has no room for, the least telling first."""
    for count in range(len(table.spare) + 1):
        fewer = table.without(table.spare[:count])
        longest = [max(map(len, name.split())) for name in _names(fewer)]
        letters = sum(map(max, _widths(fewer), longest))
        if letters * _LETTER_PT + len(longest) * _BETWEEN_PT <= _PAGE_PT:
            break
    return fewer


def _unit(symbol: str) -> str:
    if not symbol:
        return ""
    return f"(\\unit{{{_UNITS[symbol]}}})" if symbol in _UNITS else f"({_escape(symbol)})"


def _column(table: View, place: int, cells: tuple[str, ...]) -> tuple[str, list[str]]:
    """A column's letter, and its cells: of a column of numbers their values alone."""
    figures = [cell for cell in cells if isinstance(cell, Figure)]
    if len(figures) < sum(map(bool, cells)):
        return "l", [_escape(cell) for cell in cells]
    best = {line for line, column in table.best if column == place}
    letter = _letter(figures)
    return letter, [
        _number(cell, letter, line in best) if isinstance(cell, Figure) else ""
        for line, cell in enumerate(cells)
    ]


def _letter(figures: Sequence[Figure]) -> str:
    """``S[table-format=3.2]``: digits before and after the point; c where they do not line up."""
    found = [_DIGITS.fullmatch(figure.value) for figure in figures if not figure.deviation]
    parts = [digits for digits in found if digits is not None]
    if len(parts) < len(figures):
        return "c"
    sign = "-" if any(digits[0].startswith("-") for digits in parts) else ""
    before = max((len(digits[1]) for digits in parts), default=1)
    after = max((len(digits[2] or "") for digits in parts), default=0)
    return f"S[table-format={sign}{before}.{after}]"


def _number(figure: Figure, letter: str, is_best: bool) -> str:
    """The same digits in bold as without; an S column takes what it does not parse in braces."""
    if not is_best and letter != "c":
        return figure.value
    value = figure.value if figure.value[0] != "-" or letter != "c" else f"$-${figure.value[1:]}"
    bold = f"\\textbf{{{value}}}" if is_best else value
    shown = bold if letter == "c" else _braced(bold)
    return f"{shown}$\\pm${figure.deviation}" if figure.deviation else shown


def _braced(text: str) -> str:
    return f"{{{text}}}"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _one_line(text: str) -> str:
    return " ".join(text.split())

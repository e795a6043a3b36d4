r"""Tables in LaTeX, for a paper: booktabs' rules, siunitx' units."""

from __future__ import annotations

import re

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
_SPREAD = re.compile(r"(\S+) \(\S+-\S+\)")  # median (quartiles): a paper's cell is the median
_TIMES = re.compile(r"(?<=[0-9])x(?= |$)")  # 1.25x
_NUMBER = re.compile(r"[0-9][0-9,]*(\.[0-9]+)?(e[+-][0-9]+)?( ± [0-9.]+)?")


@output_format(".tex", table=True)
def latex(result: object) -> str:
    """A tabular, with what it needs, its title and its notes as comments above it.

    Columns of numbers are siunitx' S columns, units stand in the header, and the best value of
    a column is bold. Of times only the medians are shown.
    """
    table = view(result)
    columns = [
        _column(table, place, cells) for place, cells in enumerate(zip(*table.rows, strict=True))
    ]
    kinds = "".join(kind for kind, _ in columns)
    lines = zip(*(cells for _, cells in columns), strict=True)
    comments = (
        f"{table.title}; needs \\usepackage{{booktabs,siunitx}}",
        *([table.caption] if table.caption else []),
        *table.notes,
        *table.explained,
    )
    body = [
        r"\setlength{\tabcolsep}{3pt}",  # of the table environment that it stands in
        r"\begin{tabular}{@{}" + kinds + "@{}}",
        r"\toprule",
        *_header(table, kinds),
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join((*(f"% {_one_line(note)}" for note in comments), *body)) + "\n"


def _header(table: View, kinds: str) -> list[str]:
    """The names, on two lines where they have several words, and the units under them."""
    if not table.units:
        return [" & ".join(_braced(_escape(name)) for name in table.columns) + r" \\"]
    parts = [name.rpartition(" ")[::2] for name in table.names or table.columns]
    lines = (
        list(zip(*parts, strict=True))
        if any(first for first, _ in parts)
        else [tuple(last for _, last in parts)]
    )
    rows = [" & ".join(_braced(_escape(part)) for part in line) + r" \\" for line in lines]
    if any(table.units):
        rows.append(" & ".join(_braced(_unit(symbol)) for symbol in table.units) + r" \\")
    return rows


def _unit(symbol: str) -> str:
    if not symbol:
        return ""
    return f"(\\unit{{{_UNITS[symbol]}}})" if symbol in _UNITS else f"({_escape(symbol)})"


def _column(table: View, place: int, cells: tuple[str, ...]) -> tuple[str, list[str]]:
    """A column's letter, and its cells."""
    shown = [_TIMES.sub("", _SPREAD.sub(r"\1", cell)) for cell in cells]
    if not all(not cell or _NUMBER.fullmatch(cell) for cell in shown):
        return "l", [_escape(cell) for cell in cells]
    best = {line for line, column in table.best if column == place}
    return _digits(shown), [
        _bold(cell) if line in best else _plain(cell) for line, cell in enumerate(shown)
    ]


def _digits(cells: list[str]) -> str:
    """``S[table-format=3.2]``: digits before and after the point."""
    if any("e" in cell or "±" in cell for cell in cells):
        return "c"
    parts = [cell.replace(",", "").partition(".") for cell in cells if cell]
    before = max((len(whole) for whole, _, _ in parts), default=1)
    after = max((len(rest) for _, _, rest in parts), default=0)
    return f"S[table-format={before}.{after}]"


def _plain(cell: str) -> str:
    if "±" in cell or "e" in cell:
        return _escape(cell)
    return cell.replace(",", "")


def _bold(cell: str) -> str:
    mean, sign, deviation = cell.partition(" ± ")
    text = f"\\textbf{{{_escape(mean)}}}"
    return f"{{{text}}}" if not sign else f"{text} $\\pm$ {deviation}"


def _braced(text: str) -> str:
    return f"{{{text}}}"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _one_line(text: str) -> str:
    return " ".join(text.split())

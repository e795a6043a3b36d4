"""Tables: formatted for people and raw for programs, of every type of result."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from snnprof.core.visible_text import visible
from snnprof.render.number_format import Figure

if TYPE_CHECKING:
    import pandas as pd


MILLI, MIB = 1e-3, 2.0**20


@dataclass(frozen=True)
class View:
    """A formatted table. Its text is one line each, and printable, whatever names are in it.

    Attributes:
        title: one line.
        columns: headings.
        rows: cells, as text; those that are numbers are a :class:`Figure`.
        notes: sentences to print under it.
        explained: more of them, on what the columns mean.
        caption: one more line, of what is alike in every row; empty without.
        units: symbol of each column's unit; empty where there is none, or no column has any.
        names: headings without units, short ones for a narrow page; empty where they are the same.
        best: line and column of the cells that are the best of their column.
        tree: of a tree, the depth of each row; its first column is then of branches.
        spare: headings of columns that a narrow screen leaves out, the first first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    explained: tuple[str, ...] = ()
    caption: str = ""
    units: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    tree: tuple[int, ...] = ()
    spare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("title", "caption"):
            object.__setattr__(self, name, visible(getattr(self, name)))
        for name in ("columns", "notes", "explained", "units", "names", "spare"):
            object.__setattr__(self, name, tuple(map(visible, getattr(self, name))))
        rows = tuple(
            tuple(cell if isinstance(cell, Figure) else visible(cell) for cell in cells)
            for cells in self.rows
        )
        object.__setattr__(self, "rows", rows)

    def without(self, headings: Collection[str]) -> View:
        """The table without the columns of these headings."""
        kept = [n for n, heading in enumerate(self.columns) if heading not in headings]

        def of(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cells[place] for place in kept) if cells else cells

        return replace(
            self,
            columns=of(self.columns),
            rows=tuple(of(row) for row in self.rows),
            units=of(self.units),
            names=of(self.names),
            best=frozenset((n, kept.index(p)) for n, p in self.best if p in kept),
            spare=tuple(heading for heading in self.spare if heading not in headings),
        )


@singledispatch
def view(result: Any) -> View:
    """The table of a result."""
    raise TypeError(f"no table for {type(result).__name__}")


@singledispatch
def records(result: Any) -> list[dict[str, Any]]:
    """The raw values of a result's table, units in the names."""
    raise TypeError(f"no table for {type(result).__name__}")


def frame(result: Any) -> pd.DataFrame:
    """:func:`records` as a DataFrame."""
    import pandas as pd

    return pd.DataFrame(records(result))


def text_frame(table: View) -> pd.DataFrame:
    """The cells of a formatted table as a DataFrame of text."""
    import pandas as pd

    return pd.DataFrame(list(table.rows), columns=list(table.columns))

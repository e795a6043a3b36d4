"""Tables: formatted for people and raw for programs, of every type of result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


MEGA, MILLI, MIB = 1e6, 1e-3, 2.0**20


@dataclass(frozen=True)
class View:
    """A formatted table.

    Attributes:
        title: one line.
        columns: headings.
        rows: cells, as text.
        notes: sentences to print under it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


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

"""Views of results: the methods that every result has, and how they are handed in.

Results import nothing of ours but ``core``. The layer that makes tables and files hands its
functions down, once, through :func:`bind_views`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnprof.core.errors import SnnprofError
from snnprof.results.trace import OperatorTime

if TYPE_CHECKING:
    import pandas as pd

TraceTables = Callable[[Path, Mapping[str, Sequence[OperatorTime]]], None]


@dataclass(frozen=True)
class Views:
    """Functions that show a result.

    Attributes:
        frame: a result as a pandas DataFrame.
        save: writes a result to a path, in the format of its suffix.
        trace_tables: writes tables of a trace's operators, by name, into a folder.
        as_dict: the numbers of a result by name, flat (True) or nested.
        text: the table with its notes, as a terminal shows it.
        html: the same for a notebook.
    """

    frame: Callable[[Any], pd.DataFrame]
    save: Callable[[Any, str | Path], None]
    trace_tables: TraceTables
    as_dict: Callable[[Any, bool], dict[str, Any]]
    text: Callable[[Any], str]
    html: Callable[[Any], str]


_bound: Views | None = None


def bind_views(views: Views) -> None:
    """Hand the results the functions that show them."""
    global _bound
    _bound = views


def views() -> Views:
    """The functions that were handed in.

    Raises:
        SnnprofError: none were.
    """
    if _bound is None:
        raise SnnprofError("no tables or files of results yet: import snnprof.render first")
    return _bound


class Viewed:
    """The views that every result has."""

    __slots__ = ()

    def __str__(self) -> str:
        """The table, its notes under it."""
        return views().text(self)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return views().html(self)

    def to_frame(self: Any) -> pd.DataFrame:
        """The result as a pandas DataFrame: a row per layer, or per row of a report."""
        return views().frame(self)

    def save(self: Any, path: str | Path) -> None:
        """Write a table (.md, .csv, .tex, .parquet), everything (.json) or a picture, by suffix.

        Raises:
            SnnprofError: unknown suffix, or the file cannot be written.
        """
        views().save(self, path)


class Numbered(Viewed):
    """A result whose numbers can be logged."""

    __slots__ = ()

    def to_dict(self: Any, *, flat: bool = False) -> dict[str, Any]:
        """The numbers by name, units in the names; what was not measured is left out.

        Args:
            flat: one level, for W&B or MLflow: ``"<row>/<figure>"``, ``"layer/<name>/synops"``;
                else dicts by row or by layer.
        """
        return views().as_dict(self, flat)

"""What every result has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


class Viewed:
    """The views that every result has."""

    __slots__ = ()

    def to_frame(self: Any) -> pd.DataFrame:
        """The result as a pandas DataFrame, one row per layer or arm."""
        from snnprof.render import tables

        return tables.frame(self)

    def save(self: Any, path: str | Path) -> None:
        """Write .md, .csv, .tex or .json, chosen by suffix.

        Raises:
            SnnprofError: unknown suffix, or the file cannot be written.
        """
        from snnprof.render import output_files

        output_files.save(self, path)

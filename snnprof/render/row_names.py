"""Short names of a report's rows: what they differ in."""

from __future__ import annotations

from collections.abc import Sequence

from snnprof.results import ReportRow
from snnprof.results.identity import told_apart


def differing_names(rows: Sequence[ReportRow]) -> list[str]:
    """A name for each row: of what rows are, what is not alike in all.

    A single row's is its whole name.
    """
    return [words or row.name for words, row in zip(told_apart(rows), rows, strict=True)]

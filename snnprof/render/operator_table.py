"""Tables of operators and ranges: Markdown for people, CSV in base units for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from snnprof.core.visible_text import visible
from snnprof.render.csv import inert_cell
from snnprof.render.markdown import escaped
from snnprof.render.number_format import integer, scaled
from snnprof.results.trace import OperatorTime

ROWS_SHOWN = 50
MS, KIB = 1e-3, 1024
_CPU_COLUMNS = ("name", "calls", "self (ms)", "total (ms)", "self memory (KiB)")
_GPU_COLUMNS = ("GPU self (ms)", "GPU total (ms)", "GPU self memory (KiB)")


def write_tables(folder: Path, tables: Mapping[str, Sequence[OperatorTime]]) -> None:
    """Write each table as NAME.md and NAME.csv.

    Raises:
        OSError: the system refuses to write.
    """
    for name, rows in tables.items():
        (folder / f"{name}.md").write_text(to_markdown(name, rows), "utf-8")
        (folder / f"{name}.csv").write_text(to_csv(rows), "utf-8", newline="")


def to_csv(rows: Sequence[OperatorTime]) -> str:
    """Every row, in seconds and bytes; what was not traced is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(OperatorTime))
    writer.writerows(map(inert_cell, astuple(row)) for row in rows)
    return text.getvalue()


def to_markdown(title: str, rows: Sequence[OperatorTime]) -> str:
    """The longest rows, in milliseconds and KiB, and how many were left out."""
    gpu = any(row.device_self_s is not None for row in rows)
    columns = _CPU_COLUMNS + (_GPU_COLUMNS if gpu else ())
    lines = [
        f"# {title}",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
        *(f"| {' | '.join(_cells(row, gpu))} |" for row in rows[:ROWS_SHOWN]),
    ]
    if len(rows) > ROWS_SHOWN:
        lines += ["", f"{len(rows) - ROWS_SHOWN} more in the .csv."]
    return "\n".join([*lines, ""])


def _cells(row: OperatorTime, gpu: bool) -> list[str]:
    cells = [
        escaped(visible(row.name)),
        integer(row.calls),
        scaled(row.self_s, MS),
        scaled(row.total_s, MS),
        scaled(row.self_bytes, KIB),
    ]
    if gpu:
        cells += [
            scaled(row.device_self_s, MS),
            scaled(row.device_total_s, MS),
            scaled(row.device_self_bytes, KIB),
        ]
    return cells

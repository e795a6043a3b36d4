"""Results and progress on the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from snnprof.core.visible_text import visible
from snnprof.render.number_format import Figure, number
from snnprof.render.report_table import Presented
from snnprof.render.table import View, view
from snnprof.results import Layers, Result

# Enough for any table of ours where the output is a file or a pipe.
_PIPE_WIDTH = 400


def show(
    result: Result | Presented | Layers, file: IO[str] | None = None, explain: bool = False
) -> None:
    """Print a result's table and its notes.

    Where the terminal is too narrow for the table, few rows become columns; of many rows the
    columns that say least are left out, and named. No cell is cut.

    Args:
        result: any result.
        file: where to; None is standard output.
        explain: say what the columns mean, too.
    """
    show_view(view(result), file, explain)


def show_view(table: View, file: IO[str] | None = None, explain: bool = False) -> None:
    """:func:`show` for a table that is made already."""
    console = _console(file)
    wide = console.options.update_width(_PIPE_WIDTH)

    def fits(grid: Table) -> bool:
        return console.measure(grid, options=wide).maximum <= console.width

    console.print(Text(table.title, style="bold"))
    if table.caption:
        console.print(Text(table.caption))
    blocks, left_out = _blocks(table, fits)
    for place, block in enumerate(blocks):
        if place:
            console.print()
        console.print(block)
    if left_out:
        named = ", ".join(left_out)
        console.print(Text(f"- Too wide for this screen, so not shown: {named} (-o FILE has all)."))
    for note in (*table.notes, *(table.explained if explain else ())):
        console.print(Text(f"- {note}"))
    if table.explained and not explain:
        console.print(Text("- What size, NOPs and peak memory mean: --explain."))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table; its last column is folded where it does not fit."""
    grid = _grid(columns, rows)
    grid.columns[-1].no_wrap = False
    _console(None).print(grid)


def _console(file: IO[str] | None) -> Console:
    stream = file or sys.stdout
    return _Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH)


class _Console(Console):
    """A console that says that its pipe was closed, where rich's ends the process."""

    def on_broken_pipe(self) -> None:
        raise  # what is being handled


class RunningTable:
    """A table printed row by row, while it is measured.

    Args:
        columns: headings, printed before the first row; each as wide as its column.
        file: where to; None is standard output.
    """

    def __init__(self, columns: Sequence[str], file: IO[str] | None = None) -> None:
        self._columns = columns
        self._file = file
        self._begun = False

    def row(self, cells: Sequence[str]) -> None:
        """Print a row, at once also into a pipe."""
        if not self._begun:
            self._begun = True
            self._print(self._columns)
        self._print(cells)

    def _print(self, cells: Sequence[str]) -> None:
        pairs = zip(cells, self._columns, strict=True)
        line = " ".join(cell.rjust(len(heading)) for cell, heading in pairs)
        print(line, file=self._file or sys.stdout, flush=True)


class ProgressBar(Progress):
    """A progress bar on standard error; silent where that is no terminal.

    Args:
        label: shown left of the bar.
        shown: False for no bar at all.
    """

    def __init__(self, label: str, shown: bool = True) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._bar = self.add_task(label, total=None, status="")
        self._expected = 0

    def expect(self, total: int) -> None:
        """Announce steps to come, beside those that were announced before."""
        self._expected += total
        self.update(self._bar, total=self._expected)

    def step_done(self) -> None:
        self.advance(self._bar)

    def rename(self, label: str) -> None:
        """Show another label."""
        self.update(self._bar, description=label)

    def describe(self, loss: float | None, images_per_s: float) -> None:
        """Show the last loss and the speed behind the time that is left."""
        shown = "" if loss is None else f"loss {number(loss)}, "
        self.update(self._bar, status=f"{shown}{number(images_per_s)} images/s")


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading, cells in zip(columns, zip(*rows, strict=True), strict=True):
        grid.add_column(_folded(visible(heading)), justify=_side(cells), no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    return grid


def _blocks(table: View, fits: Callable[[Table], bool]) -> tuple[list[Table], tuple[str, ...]]:
    """What is printed, and the headings of columns that are left out of it."""
    if table.tree:
        branches = _branches([cells[0] for cells in table.rows], table.tree)
        rows = ((branch, *cells[1:]) for branch, cells in zip(branches, table.rows, strict=True))
        table = replace(table, rows=tuple(rows))
    whole = _grid(table.columns, table.rows)
    if fits(whole):
        return [whole], ()
    turned = [] if table.tree else list(_transposed(table, fits))
    if len(turned) == 1:
        return turned, ()
    for count in range(1, len(table.spare) + 1):
        fewer = table.without(table.spare[:count])
        whole = _grid(fewer.columns, fewer.rows)
        if fits(whole):
            return [whole], table.spare[:count]
    return (turned, ()) if turned else ([whole], table.spare)


def _branches(names: Sequence[str], depths: Sequence[int]) -> list[str]:
    """Each name behind its branch of a tree, of names below each other without what is above."""
    above: list[tuple[str, Tree]] = []
    for name, depth in zip(names, depths, strict=True):
        outer = above[depth - 1][0].partition(" ")[0] if depth > 1 else ""
        short = Text(name.removeprefix(f"{outer}.") if outer else name)
        node = above[depth - 1][1].add(short) if depth else Tree(short)
        above[depth:] = [(name, node)]
    page = io.StringIO()
    width = 2 * max(map(len, names)) + 4 * len(above) + 4 * max(depths)
    Console(width=width, file=page, color_system=None).print(above[0][1])
    return [line.rstrip() for line in page.getvalue().split("\n")[: len(names)]]


def _transposed(table: View, fits: Callable[[Table], bool]) -> Iterator[Table]:
    """Columns as rows, in blocks of as many as fit beside each other, and one at the least."""
    rest = list(table.rows)
    while rest:
        count = len(rest)
        while count > 1 and not fits(_transposed_block(table.columns, rest[:count])):
            count -= 1
        yield _transposed_block(table.columns, rest[:count])
        rest = rest[count:]


def _transposed_block(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    for _ in rows:
        grid.add_column(justify="right")
    for heading, cells in zip(columns, zip(*rows, strict=True), strict=True):
        grid.add_row(Text(heading), *(Text(cell) for cell in cells))
    return grid


def _folded(heading: str) -> Text:
    return Text(heading.replace(" ", "\n"))


def _side(cells: Sequence[str]) -> Literal["left", "right"]:
    numeric = all(not cell or isinstance(cell, Figure) or cell[0].isdigit() for cell in cells)
    return "right" if numeric else "left"

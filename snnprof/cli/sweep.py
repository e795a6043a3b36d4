"""``snnprof sweep``: parse, call, print."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import click

from snnprof.cli.options import OnceOnly, outputs_option, warnings_once
from snnprof.cli.outputs import output_files, saving, write_and_show
from snnprof.cli.run import end
from snnprof.cli.table_options import TableOptions, table_options
from snnprof.core.errors import SnnprofError
from snnprof.experiment.settings import Progress
from snnprof.experiment.sweep import Grid, joined, read_grid, states, sweep
from snnprof.experiment.sweep.cluster import EXECUTORS, LOCAL


@click.command("sweep", cls=OnceOnly)
@click.argument("file", metavar="FILE.toml")
@click.option("--folder", metavar="DIR", help="Folder for the rows. [default: FILE without .toml]")
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Rows at a time. [default: of the file; else 1 here, and with Slurm as many as it runs]",
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    help="Processes of this machine, or Slurm. [default: of the file; else local]",
)
@click.option("--retry", is_flag=True, help="Run rows again that failed.")
@click.option("--dry-run", is_flag=True, help="List the rows, and which are done; run nothing.")
@click.option("--show", is_flag=True, help="Print the table of the rows so far; run nothing.")
@table_options
@outputs_option()
def sweep_command(
    file: str,
    folder: str | None,
    jobs: int | None,
    executor: str | None,
    retry: bool,
    dry_run: bool,
    show: bool,
    outputs: tuple[str, ...],
    table: TableOptions,
) -> None:
    """Run a grid of rows, each in a process of its own, here or by Slurm.

    \b
    FILE.toml holds options of snnprof run by their names; a list is an axis:
      model = ["vgg5", "resnet18"]
      mode = ["stbp", "online"]
      seed = [0, 1, 2]
    Every row is saved when it is done, and is not run again: a sweep that was
    killed goes on where it was, and a setting that changed is another row. One
    that fails says why, and the others go on. docs/sweeps.md has all of it.

    \b
    Examples:
      snnprof sweep grid.toml --jobs 4 -o table.md
      snnprof sweep grid.toml --executor slurm
      snnprof sweep grid.toml --show
    """
    from snnprof.render.terminal import ProgressBar

    if sum((dry_run, show, retry)) > 1:
        raise SnnprofError("--dry-run, --show, --retry: give one of them")
    if dry_run:
        _list(_grid(file, folder, executor, jobs))
        return
    files = output_files(outputs)
    if show:
        report = joined(read_grid(file, folder))
    else:
        with warnings_once(), ProgressBar("rows") as bar:
            progress = Progress(bar.expect, bar.step_done)
            report = sweep(
                file, folder=folder, jobs=jobs, executor=executor, retry=retry, progress=progress
            )
    shown = table.present(report)
    write_and_show(saving(shown, files), partial(table.show, shown))
    if not show:
        end(report)


def _grid(file: str, folder: str | None, executor: str | None, jobs: int | None) -> Grid:
    grid = read_grid(file, folder)
    return replace(grid, cluster=grid.cluster.with_options(executor, jobs))


def _list(grid: Grid) -> None:
    """A line per row, and how many are done."""
    found = [*states(grid)]
    for state in found:
        how = "done" if state.done else "to run"
        named = " ".join((state.cell.name, *(f"{k} {v}" for k, v in state.cell.shown.items())))
        click.echo(f"{named}: {f'failed: {state.failure}' if state.failure else how}")
    failed = [state for state in found if state.failure is not None]
    done = sum(state.done for state in found) - len(failed)
    click.echo(
        f"rows in {str(grid.folder)!r}: {done} done, {len(failed)} failed"
        f"{' (--retry runs them again)' if failed else ''}, {len(found) - done - len(failed)} to "
        f"run, by {grid.cluster.executor}, {_at_a_time(grid)}"
    )


def _at_a_time(grid: Grid) -> str:
    if grid.cluster.jobs is not None:
        return f"{grid.cluster.jobs} at a time"
    return "one at a time" if grid.cluster.executor == LOCAL else "as many as it runs at a time"

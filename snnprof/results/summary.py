"""One model's modules with what was counted in them, and the layers of a whole report."""

from __future__ import annotations

from dataclasses import dataclass

from snnprof.core.errors import SnnprofError
from snnprof.results.base import Viewed
from snnprof.results.counts import CountResult
from snnprof.results.energy import EnergyResult
from snnprof.results.modules import MacCheck, ModuleRow
from snnprof.results.report import Report, ReportRow

DEPTH = 3  # of modules that a summary shows


@dataclass(frozen=True)
class ModelSummary(Viewed):
    """A model's modules, and what was counted in each.

    Attributes:
        name: of the model, or of the row of a report.
        modules: in the order of the model; empty where only counts are known.
        counts: synaptic operations and firing rates.
        energies: the counts priced, one per convention.
        check: nominal MACs against fvcore's; None where the model was not there to ask.
        notes: what has to be said of it.
        depth: modules deeper than this are folded into those around them; None for none.
    """

    name: str
    modules: tuple[ModuleRow, ...]
    counts: CountResult
    energies: tuple[EnergyResult, ...]
    check: MacCheck | None = None
    notes: tuple[str, ...] = ()
    depth: int | None = DEPTH

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 0:
            raise SnnprofError(f"depth={self.depth}: must be 0 (the model alone) or more")


@dataclass(frozen=True)
class Layers(Viewed):
    """Every row of a report, times every layer: a table for :meth:`save` and :meth:`to_frame`.

    Attributes:
        report: a .json is of all of it.

    Raises:
        SnnprofError: no row has counts.
    """

    report: Report

    def __post_init__(self) -> None:
        if not isinstance(self.report, Report):
            raise SnnprofError(f"layers of a {type(self.report).__name__}: give a Report")
        if not counted_rows(self.report):
            raise SnnprofError("no row of the report has counts: there are no layers to show")


def counted_rows(report: Report) -> list[ReportRow]:
    """The rows that were counted."""
    return [row for row in report.rows if row.counts is not None and row.counts.samples]


def summary_of_row(row: ReportRow, depth: int | None = DEPTH) -> ModelSummary:
    """The summary of a row of a report.

    Raises:
        SnnprofError: the row has no counts.
    """
    if row.counts is None or not row.counts.samples:
        raise SnnprofError(f"row {row.name!r} has no counts: there is nothing to summarise")
    return ModelSummary(row.name, row.modules, row.counts, row.energies, depth=depth)

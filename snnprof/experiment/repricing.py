"""A report under other prices, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snnprof.core.errors import SnnprofError
from snnprof.energy.conventions import of_inference, of_training
from snnprof.energy.dense_baseline import price_dense
from snnprof.energy.pricing import price
from snnprof.results import Report, ReportRow


def priced_anew(report: Report, names: Sequence[str]) -> Report:
    """The report with the energies of these conventions, and no others.

    Args:
        report: with counts.
        names: of conventions, at a precision as ``"operands+int8"``.

    Raises:
        SnnprofError: no row has the counts that a convention bills.
    """
    training = of_training(names)
    if not any(row.counts for row in report.rows):
        raise SnnprofError("the report has no counts: there is nothing to price")
    if training and not any(row.training_counts for row in report.rows):
        raise SnnprofError(
            f"the report has no counts of a training step, which {training[0]!r} bills: snnprof "
            f"run --energy {training[0]} takes them"
        )
    rows = tuple(_priced(row, of_inference(names), training) for row in report.rows)
    return replace(report, rows=rows)


def _priced(row: ReportRow, names: Sequence[str], training: Sequence[str]) -> ReportRow:
    energies, of_step = row.energies, row.training_counts
    if row.counts is not None:
        energies = tuple(price(row.counts, name) for name in names)
        if row.baseline_of is not None:
            energies = price_dense(row.counts, names)
    priced = () if of_step is None else tuple(price(of_step, name) for name in training)
    return replace(row, energies=energies, training_energies=priced)

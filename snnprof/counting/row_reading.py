"""The rows of a result, read off the tallies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from snnprof.core.errors import SnnprofError
from snnprof.counting.faults import failed
from snnprof.counting.layer_tally import LayerTally
from snnprof.counting.product_tally import ProductTally
from snnprof.results import LayerCount
from snnprof.results.kinds import Kind

_TOO_MANY = 1 << 63  # whole numbers of 64 bits end below


@dataclass(frozen=True)
class ReadRows:
    """What the tallies have counted.

    Attributes:
        rows: in the order in which they were first seen; the first is the stem if it is real.
        non_finite: names of rows that received NaN or infinity.
        remarks: name of a row, and what has to be said of it.
        unreadable: name of a row, and why its counts could not be read.
    """

    rows: tuple[LayerCount, ...]
    non_finite: tuple[str, ...]
    remarks: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]

    def warnings(self) -> Iterator[str]:
        """Sentences to warn with."""
        if self.non_finite:
            yield f"NaN or infinity in the input of {', '.join(self.non_finite)}: counted as events"
        for name, remark in self.remarks:
            yield f"{name}: {remark}"


def read_rows(tallies: Iterable[LayerTally | ProductTally], stem_failed: bool) -> ReadRows:
    """Read every tally that has counted something. Waits for the device.

    Args:
        tallies: in the order in which their layers ran.
        stem_failed: True where an operation before all of these could not be counted.

    Raises:
        SnnprofError: a count passes 2^63.
    """
    rows: list[LayerCount] = []
    non_finite: list[str] = []
    remarks: list[tuple[str, str]] = []
    unreadable: list[tuple[str, str]] = []
    for tally in tallies:
        if tally.empty:  # its first call failed
            stem_failed = stem_failed or not rows
            continue
        try:
            row, finite, remark = tally.read()
        except Exception as error:  # an instrument's own fault is never the user's crash
            unreadable.append((tally.name, failed(error, "reading its counts")))
            stem_failed = stem_failed or not rows
            continue
        _check_fits(row)
        if not rows and not stem_failed and row.input_kind == Kind.REAL:
            row = replace(row, stem=True)
        rows.append(row)
        if not finite:
            non_finite.append(row.name)
        if remark:
            remarks.append((row.name, remark))
    return ReadRows(tuple(rows), tuple(non_finite), tuple(remarks), tuple(unreadable))


def _check_fits(row: LayerCount) -> None:
    """Raise SnnprofError where a count may have wrapped around: none but these two is larger.

    Both are kept without a limit; on a device events and dense MACs are not.
    """
    for column, value in (
        ("nominal_macs", row.nominal_macs),
        ("unrolled_synops", row.unrolled_synops),
    ):
        if value is not None and value >= _TOO_MANY:
            raise SnnprofError(
                f"{row.name}: {column} is {value}, more than 64 bits hold: count fewer batches "
                "with one counter"
            )

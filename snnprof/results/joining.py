"""Several reports as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from snnprof.core.errors import SnnprofError
from snnprof.results.identity import without_seed
from snnprof.results.report import Report, ReportRow
from snnprof.results.scaling import growth

_MORE = " (Others like it differ in seeds or times alone.)"
_TIME = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?(?= (?:ms|s|times)\b)")


def merge(reports: Sequence[Report]) -> Report:
    """The rows of several reports in one, in their order.

    Where their environments differ, each row keeps its own, and no ratio and no growth over T
    joins it with rows of another.

    Raises:
        SnnprofError: no report, or two rows that are one and the same.
    """
    if not reports:
        raise SnnprofError("no reports to merge")
    common = set.intersection(*(set(report.environment.items()) for report in reports))
    alike = all(report.environment == reports[0].environment for report in reports)
    rows = [
        row if alike or row.environment else replace(row, environment=report.environment)
        for report in reports
        for row in report.rows
    ]
    _check_once(rows)
    notes = [note for report in reports for note in report.notes]
    if not alike:
        names = _differing(reports)
        notes.append(
            f"The rows come from machines or versions that differ ({', '.join(names)}): times and "
            "memory are compared only within one of them."
        )
    return Report(
        rows=tuple(rows),
        environment=reports[0].environment if alike else dict(sorted(common)),
        notes=tuple(_folded(dict.fromkeys(notes), tuple({f"{row.name}:" for row in rows}))),
        growth=tuple(growth(rows)),
        interrupted=any(report.interrupted for report in reports),
    )


def _folded(notes: Iterable[str], names: tuple[str, ...]) -> Iterator[str]:
    """The notes, those that differ in seeds and times alone as one; not what is said of one row.

    Another learning rate or checkpoint is another sentence: it may stand nowhere else.
    """
    alike: dict[str, list[str]] = {}
    folded: set[str] = set()
    for note in notes:
        plain = note.removesuffix(_MORE)
        key = note if note.startswith(names) else _TIME.sub("*", without_seed(plain))
        alike.setdefault(key, []).append(plain)
        folded |= {key} if plain != note else set()
    for key, (first, *others) in alike.items():
        yield first + _MORE if others or key in folded else first


def _differing(reports: Sequence[Report]) -> list[str]:
    """Names of what differs between the environments."""
    names = dict.fromkeys(name for report in reports for name in report.environment)
    return [name for name in names if len({report.environment.get(name) for report in reports}) > 1]


def _check_once(rows: Sequence[ReportRow]) -> None:
    for number, row in enumerate(rows):
        if row in rows[:number]:
            raise SnnprofError(
                f"{row.name} is in the reports twice, figure by figure: leave one out"
            )

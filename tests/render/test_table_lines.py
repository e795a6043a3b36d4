"""Lines of a table: rows that differ in their seed alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snnprof.render.table_lines import EACH, line_names, table_lines
from snnprof.results import ReportRow, StepProfile

STEP = StepProfile("stbp", "cpu", 8, 4, (), (), (), (0.1,), 1000, None, 400, 600, 1, 1)
ROW = ReportRow(
    "vgg5", "lif", "fp32", "stbp", 4, profile=STEP, batch_size=8, seed=0, data="digits",
    loss_name="sum", layout="step", environment={"torch": "2.13"},
)  # fmt: skip


def seeds_of(*rows: ReportRow, how: str = "mean") -> list[list[int | None]]:
    return [[row.seed for row in line] for line in table_lines(rows, how)]


def test_seeds_are_one_line() -> None:
    rows = [replace(ROW, seed=n, accuracy=n / 10) for n in (0, 1, 2)]
    assert seeds_of(*rows) == [[0, 1, 2]]
    assert seeds_of(*rows, how=EACH) == [[0], [1], [2]]
    assert seeds_of(rows[0], rows[0]) == [[0], [0]]  # twice the same seed: no two of them
    assert seeds_of(*(replace(row, seed=None) for row in rows)) == [[None]] * 3


@pytest.mark.parametrize(
    "other",
    [
        {"profile": replace(STEP, batch_size=16)},
        {"profile": replace(STEP, device="cuda")},
        {"environment": {"torch": "2.14"}},
        {"data": "cifar10"},
        {"image_size": 16},
        {"epochs": 5},
        {"loss_name": "step"},
        {"execution": "bf16"},
        {"checkpoint": "w.pt"},
        {"layout": "inside"},
        {"more": {"schedule": "cosine"}},
        {"baseline_of": "vgg5"},
    ],
)
def test_what_differs_in_more_than_the_seed_is_a_line_of_its_own(other: dict[str, Any]) -> None:
    rows = [replace(ROW, seed=0), replace(ROW, seed=1), replace(ROW, seed=2, **other)]
    assert seeds_of(*rows) == [[0, 1], [2]]
    assert line_names(table_lines(rows))[0] != line_names(table_lines(rows))[1]


def test_a_seed_that_failed_stands_with_the_others() -> None:
    failed = replace(ROW, seed=1, profile=None, layout=None, failure="out of memory")
    assert seeds_of(failed, replace(ROW, seed=0), replace(ROW, seed=2)) == [[1, 0, 2]]
    assert seeds_of(replace(failed, loss_name="step"), ROW) == [[1], [0]]
    assert seeds_of(failed, replace(failed, seed=2)) == [[1, 2]]

"""A line of several seeds: means, deviations, what is pooled, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snnprof.render.report_columns import Column, columns_of
from snnprof.render.table import view
from snnprof.results import InferenceProfile, Report, ReportRow, StepProfile

STEP = StepProfile("stbp", "cpu", 8, 4, (), (), (), (0.1,), 1000, 3000, 400, 600, 1, 1)
ROW = ReportRow("net", mode="stbp", timesteps=4, parameters=1234, size_bytes=5000.0)


def seeds(*accuracies: float | None, **given: Any) -> list[ReportRow]:
    return [replace(ROW, seed=n, accuracy=a, **given) for n, a in enumerate(accuracies)]


def cells(*rows: ReportRow) -> dict[str, tuple[str, ...]]:
    table = view(Report(rows))
    return dict(zip(table.columns, zip(*table.rows, strict=True), strict=True))


def notes(*rows: ReportRow) -> tuple[str, ...]:
    return view(Report(rows)).notes


def column(key: str, *rows: ReportRow) -> Column:
    return next(each for each in columns_of(Report(rows)) if each.key == key)


def test_the_note_says_which_seeds_and_which_deviation() -> None:
    assert notes(*seeds(0.5, 0.6, 0.7))[0] == (
        "Mean ± standard deviation over seeds 0, 1, 2 (n = 3), that of a sample: squares over n - "
        "1; step times are the median and quartiles of all their steps, peak memory is the largest."
    )
    two = [replace(row, mode="online") for row in seeds(0.5, 0.6)]
    said = "over seeds 0, 1, 2 (n = 3) or seeds 0, 1 (n = 2), that of a sample"
    assert said in notes(*seeds(0.5, 0.6, 0.7), *two)[0]


def test_a_seed_that_failed_is_said_with_the_figures_it_lacks() -> None:
    failed = replace(seeds(0.5, None)[1], failure="diverged", seed=2)
    rows = (*seeds(0.5, 0.6), failed)
    assert cells(*rows)["accuracy (%)"] == ("55.00 ± 7.07",)  # sqrt(2 * 5^2 / (2 - 1))
    assert "Not of all seeds: 2 of 3 of net stbp T4: accuracy." in notes(*rows)
    one = (rows[0], failed)
    assert cells(*one)["accuracy (%)"] == ("50.00",)
    assert "Not of all seeds: 1 of 2 of net stbp T4: accuracy." in notes(*one)
    assert not any("Not of all seeds" in note for note in notes(*seeds(0.5, 0.6)))


def test_equal_figures_have_a_deviation_and_settings_have_none() -> None:
    found = cells(*seeds(0.9917, 0.9917))
    assert found["accuracy (%)"] == ("99.17 ± 0.00",)
    assert found["parameters"] == ("1,234",)
    assert found["size (kB)"] == ("5.000",)


def test_own_columns_are_settings_where_no_seed_changes_them() -> None:
    rows = [replace(row, more={"lr": 0.1, "k": 3}) for row in seeds(0.5, 0.6)]
    assert (cells(*rows)["lr"], cells(*rows)["k"]) == (("0.1000",), ("3",))
    other = [
        replace(row, mode="online", more={"lr": x, "k": 3})
        for row, x in zip(rows, (1, 3), strict=True)
    ]
    assert cells(*rows, *other)["lr"] == ("0.1000 ± 0.0000", "2.0 ± 1.4")


def test_an_own_column_that_is_no_number_anywhere() -> None:
    rows = [
        replace(row, more={"x": x})
        for row, x in zip(seeds(0.5, 0.6), (float("nan"), 1), strict=True)
    ]
    assert cells(*rows)["x"] == ("nan",)


def test_peaks_are_the_largest() -> None:
    rows = [
        replace(row, profile=replace(STEP, peak_bytes=peak, reserved_bytes=peak))
        for row, peak in zip(seeds(0.5, 0.6), (2048, 1024), strict=True)
    ]
    for heading in ("peak memory, CPU (KiB)", "memory as SLTT's authors print it (KiB)"):
        assert cells(*rows)[heading] == ("2.000",)


def test_samples_per_second_are_those_of_all_calls() -> None:
    # 8 samples in 1 s and in 4 s: 2.5 s is the middle, 8 / 2.5 = 3.2
    rows = [
        replace(row, inference=InferenceProfile("cpu", 8, (s,), 1000))
        for row, s in zip(seeds(0.5, 0.6), (1.0, 4.0), strict=True)
    ]
    assert cells(*rows)["latency, CPU (s)"][0].startswith("2.500 (")
    assert cells(*rows)["inference (samples/s)"] == ("3.200",)
    assert cells(rows[1])["inference (samples/s)"] == ("2.000",)
    none = replace(rows[0], inference=InferenceProfile("cpu", 8, (0.0,), 1000))
    assert "inference (samples/s)" not in cells(none)


@pytest.mark.parametrize(("seconds", "middle"), [((1.0, 2.0, 3.0, 4.0), 2.5), ((3.0, 1.0), 2.0)])
def test_times_are_compared_by_the_median_that_is_shown(
    seconds: tuple[float, ...], middle: float
) -> None:
    row = replace(ROW, profile=replace(STEP, step_s=seconds))
    assert column("step_time", row).merit([row]) == middle


def test_what_is_no_number_is_never_the_best() -> None:
    rows = [replace(ROW, accuracy=0.5), replace(ROW, mode="online", accuracy=float("nan"))]
    other = replace(ROW, mode="ottt", accuracy=0.4)
    table = view(Report((*rows, other)))
    place = table.columns.index("accuracy (%)")
    assert {cell for cell in table.best if cell[1] == place} == {(0, place)}


def test_losses_of_one_name_are_told_apart() -> None:
    one, two = seeds(0.5, 0.6, epochs=3)
    rows = (replace(one, loss_name="sum"), replace(two, loss_name="step"))
    (note,) = (note for note in notes(*rows) if note.startswith("Loss: "))
    assert note.startswith("Loss: net stbp T4 (seed 0): cross-entropy of the outputs summed")
    assert "; net stbp T4 (seed 1): mean over time" in note

"""Which dense row a row is held against."""

from __future__ import annotations

from dataclasses import replace

import pytest

import snnprof
from snnprof.render.dense_comparison import baseline_notes, energy_ratio
from snnprof.results import CountResult, LayerCount, Report, ReportRow


def counts(macs: int) -> CountResult:
    """One sample, one layer: so many nominal MACs, and a tenth of them events."""
    layer = LayerCount(
        "a", "linear", "BINARY", "REAL", "AC", False, 1, 0.1, macs // 10, macs // 10, macs / 10,
        macs, macs, 1, 10,
    )  # fmt: skip
    return CountResult((layer,), samples=1)


def spiking(macs: int = 100, **given: object) -> ReportRow:
    priced = (snnprof.price(counts(macs), "dense"),)
    return replace(ReportRow("net", mode="stbp", energies=priced, data="digits"), **given)  # type: ignore[arg-type]


def dense(macs: int, **given: object) -> ReportRow:
    return spiking(macs, mode="dense", baseline_of="net", **given)


def ratios(*rows: ReportRow) -> list[float | None]:
    report = Report(rows)
    return [energy_ratio(row, report, "dense") for row in rows if row.baseline_of is None]


def unclear(*rows: ReportRow) -> list[str]:
    return [note for note in baseline_notes(Report(rows)) if note.startswith("No ratio")]


def test_images_of_two_sizes_have_a_dense_row_each() -> None:
    rows = (
        spiking(100, image_size=8), dense(400, image_size=8),
        spiking(400, image_size=16), dense(1600, image_size=16),
    )  # fmt: skip
    assert ratios(*rows) == pytest.approx([0.25, 0.25])
    assert ratios(*rows[:3]) == [pytest.approx(0.25), None]
    assert unclear(*rows) == []


def test_where_several_of_other_prices_fit_there_is_no_ratio_and_it_is_said() -> None:
    rows = (spiking(), dense(400), dense(1600))
    assert ratios(*rows) == [None]
    (note,) = unclear(*rows)
    assert note.startswith("No ratio to dense for net stbp, net dense: several dense rows of other")
    alike = (spiking(), dense(400), dense(400, accuracy=0.5))
    assert ratios(*alike) == pytest.approx([0.25])
    assert unclear(*alike) == []


def test_each_seed_is_held_against_its_own() -> None:
    rows = (
        dense(400, seed=0), dense(1000, seed=1), spiking(seed=0), spiking(seed=1), spiking(seed=2)
    )  # fmt: skip
    assert ratios(*rows) == [pytest.approx(0.25), pytest.approx(0.1), None]


def test_words_of_a_column_tell_which() -> None:
    small, large = {"size": "8x8"}, {"size": "16x16"}
    rows = (
        dense(400, more=small), dense(1600, more=large),
        spiking(more=small), spiking(more=large), spiking(more={"size": "32x32"}),
    )  # fmt: skip
    assert ratios(*rows) == [pytest.approx(0.25), pytest.approx(0.0625), None]


def test_prices_that_differ_by_rounding_are_one() -> None:
    # The same 400 MACs per sample, counted on 1 and on 3 samples.
    of_three = CountResult((replace(counts(400).rows[0], nominal_macs=1200),), samples=3)
    rounded = replace(snnprof.price(of_three, "dense"), total_j=400 * 4.6e-12 * (1 + 1e-15))
    assert ratios(spiking(), dense(400), dense(1, energies=(rounded,))) == pytest.approx([0.25])

"""Pictures, by suffix."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest

import snnprof
from snnprof.render.scaling_figure import draw_scaling, is_over_time
from snnprof.results import (
    CoherenceResult,
    CoherenceSweep,
    LayerCoherence,
    Report,
    ReportRow,
    StepProfile,
)


def result(timesteps: int) -> CoherenceResult:
    rows = tuple(
        LayerCoherence(
            name=f"layer.{n}",
            neuron="hdlif",
            identity_claimed=True,
            reason=None,
            fired=0.25,
            cosine_membrane=None if n == 2 else 0.9 - 0.1 * n / timesteps,
            cosine_weight=0.95,
            ratio_predicted=0.99,
        )
        for n in range(4)
    )
    return CoherenceResult(rows, timesteps, 2, "sum", "sum", "float32", "cpu", True)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_picture_by_suffix(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    path = tmp_path / f"picture{suffix}"
    CoherenceSweep((result(4), result(8))).save(path)
    heads = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(heads[suffix])


def test_the_svg_has_its_labels_and_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    for name in ("a.svg", "b.svg"):
        CoherenceSweep((result(4), replace(result(8), label="epoch 3"))).save(tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for label in ("layer.3", "time steps T", "T = 4", "epoch 3", "weight"):
        assert re.search(re.escape(label), text), label
    result(4).save(tmp_path / "one.svg")  # a single T: against depth only
    assert "time steps T" not in (tmp_path / "one.svg").read_text()


def test_mistakes(tmp_path: Path) -> None:
    for path, message in (("x.gif", "unknown suffix"), ("no/x.svg", "there is no directory")):
        with pytest.raises(snnprof.SnnprofError, match=message):
            result(4).save(tmp_path / path)
    empty = replace(result(4), rows=())
    with pytest.raises(snnprof.SnnprofError, match="no cosine to draw"):
        empty.save(tmp_path / "x.svg")


def test_without_matplotlib_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(snnprof.SnnprofError, match=r"snnprof\[plots\]"):
        result(4).save(tmp_path / "x.svg")


def sweep(*timesteps: int) -> Report:
    def row(mode: str, t: int) -> ReportRow:
        step_s = (0.1 * t, 0.1 * t, 0.11 * t)
        peak = t * 2**20 if mode == "stbp" else 2**20
        profile = StepProfile(
            mode, "cpu", 8, t, step_s, step_s, step_s, step_s, peak, None, 5, 6, 1, 1
        )
        return ReportRow("vgg5", "lif", "fp32", mode, t, profile=profile)

    rows = [row(mode, t) for t in timesteps for mode in ("stbp", "online")]
    failed = ReportRow("vgg5", "lif", "fp32", "stbp", 64, failure="out of memory")
    return Report((*rows, failed), {"device": "CPU, test"})


def test_a_step_that_was_not_timed_is_a_gap(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    report = sweep(1, 2, 4)
    (first, second, *rest), gap = report.rows, {"failure": "out of memory beside the others"}

    def untimed(row: ReportRow) -> ReportRow:
        assert row.profile is not None
        return replace(row, profile=replace(row.profile, step_s=()), **gap)

    some = replace(report, rows=(untimed(first), second, *rest))
    none = replace(report, rows=tuple(map(untimed, report.rows[:-1])))
    for partly in (some, none):
        partly.save(tmp_path / "x.svg")
        assert "peak memory of a training step (MiB)" in (tmp_path / "x.svg").read_text()


def test_time_and_memory_over_t(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    sweep(1, 2, 4).save(tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    for label in (
        "stbp",
        "online",
        "time steps T",
        "peak memory of a training step (MiB)",
        "time of a training step (ms)",
    ):
        assert f">{label}<" in text
    with pytest.raises(snnprof.SnnprofError, match="several T"):
        sweep(4).save(tmp_path / "y.svg")
    assert not (tmp_path / "y.svg").exists()
    profile = sweep(4).rows[0].profile
    assert profile is not None
    with pytest.raises(snnprof.SnnprofError, match="no picture of a StepProfile"):
        profile.save(tmp_path / "y.png")


def test_a_dense_row_at_one_step_is_no_growth() -> None:
    spiking, dense = sweep(1, 4).rows[-1], sweep(1, 4).rows[0]
    assert is_over_time(sweep(1, 4))
    beside = dataclasses.replace(dense, neuron="relu", mode="dense")
    assert not is_over_time(Report((spiking, beside)))


def test_seeds_are_one_point_of_a_line() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="pictures need the extra 'plots'")

    def seeded(seed: int, peak: int, step_s: tuple[float, ...], row: ReportRow) -> ReportRow:
        assert row.profile is not None
        profile = dataclasses.replace(row.profile, peak_bytes=peak * 2**20, step_s=step_s)
        return dataclasses.replace(row, seed=seed, profile=profile)

    one, two = (row for row in sweep(1, 2).rows if row.mode == "stbp" and row.profile)
    rows = (
        seeded(0, 3, (0.001, 0.003), one),
        seeded(0, 5, (0.004,), two),
        seeded(1, 4, (0.005,), one),
        seeded(1, 2, (0.006,), two),
    )
    figure = draw_scaling(Report(rows), pyplot)
    memory, time = (axes.lines for axes in figure.axes)
    pyplot.close(figure)
    assert [line.get_xdata().tolist() for line in (*memory, *time)] == [[1, 2], [1, 2]]
    assert memory[0].get_ydata().tolist() == [4, 5]  # the largest of both seeds, MiB
    assert time[0].get_ydata().tolist() == [3, 5]  # medians of (1, 3, 5) and (4, 6) ms

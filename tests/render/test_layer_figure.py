"""Pictures of layers."""

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import snnprof
from snnprof.render.layer_figure import figures_of_rows
from snnprof.results import CountResult, LayerCount, Layers, NeuronRate, Report, ReportRow

pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")


@pytest.fixture
def counted(counts: CountResult) -> CountResult:
    neurons = (
        NeuronRate("lif", 0.3, (0.2, 0.4), 40, 12, 2),
        NeuronRate("lif_2", 0.1, None, 40, 4, 2),
    )
    return replace(counts, neurons=neurons)


def drawn(result: object, path: Path) -> list[str]:
    """The words in a picture, and a check that it is one column wide: 3.4 in = 244.8 pt."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, where there is no room
        snnprof.save(result, path)  # type: ignore[arg-type]
    text = path.read_text()
    assert 'width="244.8pt"' in text
    return re.findall(r">([^<>\n]+)</t(?:ext|span)>", text)


def test_counts_have_a_heat_map_and_bars(counted: CountResult, tmp_path: Path) -> None:
    words = drawn(counted, tmp_path / "x.svg")
    for word in ("firing rate (%)", "time step", "lif", "lif_2", "stem", "fc_1"):
        assert word in words
    # 400 and 100 SOPs over 2 samples; 200 MACs * 4.6 pJ = 920 pJ
    assert {"SOPs", "per sample", "energy, operands", "(pJ per sample)"} <= set(words)
    assert {"1", "2"} <= set(words)  # the time steps


def test_without_time_steps_the_map_has_one_column(counts: CountResult, tmp_path: Path) -> None:
    assert "all" in drawn(counts, tmp_path / "x.svg")


def test_energy_alone_has_its_bars(counts: CountResult, tmp_path: Path) -> None:
    words = drawn(snnprof.price(counts, "spikformer"), tmp_path / "x.svg")
    assert {"energy, spikformer", "(pJ per sample)"} <= set(words)
    assert not any("SOPs" in word for word in words)


def test_a_report_of_one_t_has_bars_of_its_rows(report: Report, tmp_path: Path) -> None:
    words = drawn(report, tmp_path / "x.svg")
    assert {"stbp", "online", "SOPs"} <= set(words)  # what the rows differ in
    assert "firing rate (%)" not in words
    assert "firing rate (%)" in drawn(Report(report.rows[:1]), tmp_path / "x.svg")


def test_a_report_of_several_t_has_scaling_and_its_layers_bars(
    report: Report, tmp_path: Path
) -> None:
    first = report.rows[0]
    several = Report((first, replace(first, timesteps=4)))
    assert "time steps T" in drawn(several, tmp_path / "x.svg")
    assert {"T = 2", "T = 4", "SOPs"} <= set(drawn(Layers(several), tmp_path / "y.svg"))


def test_long_names_leave_their_middle_out(counted: CountResult, tmp_path: Path) -> None:
    layer = replace(counted.rows[1], name="a_block_of_a_very_long_name.conv_1")
    words = drawn(replace(counted, rows=(layer,)), tmp_path / "x.svg")
    assert "a_block_of_…ame.conv_1" in words


def test_nothing_to_draw(tmp_path: Path) -> None:
    nothing = {
        "no picture of these counts": CountResult((), 1),
        "nothing to draw": Report((ReportRow("x"),)),
        "bills no layer": snnprof.price(_stem_alone(), "hd-lif"),
    }
    for message, result in nothing.items():
        with pytest.raises(snnprof.SnnprofError, match=message):
            snnprof.save(result, tmp_path / "x.svg")  # type: ignore[arg-type]
    with pytest.raises(snnprof.SnnprofError, match="no row of the report has counts"):
        Layers(Report((ReportRow("x"),)))
    assert not [*tmp_path.iterdir()]


def _stem_alone() -> CountResult:
    stem = LayerCount(
        "stem", "conv2d", "REAL", "REAL", "MAC", True, 2, 1.0, 400, None, 400.0, 400, 400, 40, 40,
    )  # fmt: skip
    return CountResult((stem,), 2)


def test_a_name_with_an_underscore_has_its_place_in_the_legend(
    report: Report, tmp_path: Path
) -> None:
    rows = tuple(replace(row, model=f"_{row.mode}", mode=None) for row in report.rows)
    words = drawn(Report(rows), tmp_path / "x.svg")
    assert {"_stbp", "_online"} <= {word.strip() for word in words}


def test_seeds_have_one_bar_of_their_mean(report: Report, tmp_path: Path) -> None:
    first = report.rows[0]
    assert first.counts is not None
    stem, layer = first.counts.rows
    other = replace(first.counts, rows=(stem, replace(layer, synops=300, unrolled_synops=300)))
    energies = (snnprof.price(other, "operands"),)
    rows = (
        replace(first, seed=0),
        replace(first, seed=1, counts=other, energies=energies),
        replace(report.rows[1], seed=0),
        replace(report.rows[1], seed=1),
    )
    stbp, online = figures_of_rows(rows)
    assert (stbp.name, online.name) == ("stbp", "online")
    # 100 and 300 SOPs over 2 samples; 0.9 pJ each
    assert stbp.synops["fc_1"] == [50, 150]
    assert stbp.energy_j["fc_1"] == pytest.approx([45e-12, 135e-12])
    words = drawn(Report(rows), tmp_path / "x.svg")
    assert not any("seed" in word for word in words)


def test_bars_of_one_axis_have_one_convention(report: Report, tmp_path: Path) -> None:
    spiking, other = report.rows
    assert other.counts is not None
    dense = replace(
        other, energies=(snnprof.price(other.counts, "dense"), snnprof.price(other.counts))
    )
    assert "energy, operands" in drawn(Report((spiking, dense)), tmp_path / "x.svg")
    # The first that all share, whatever else some have.
    alone = replace(spiking, energies=(snnprof.price(other.counts, "hd-lif"),))
    assert {row.heading for row in figures_of_rows((alone, dense))} == {"energy, operands"}
    assert {row.heading for row in figures_of_rows((alone, spiking))} == {"energy, hd-lif"}


def test_a_layer_that_a_row_has_not_has_no_bar(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    lengths: list[list[float]] = []

    def barh(axes: Axes, places: object, widths: list[float], **given: object) -> object:
        lengths.append(widths)
        return whole(axes, places, widths, **given)

    whole = Axes.barh
    monkeypatch.setattr(Axes, "barh", barh)
    first, second = report.rows
    assert second.counts is not None
    alone = replace(second.counts, rows=second.counts.rows[:1])
    few = replace(second, counts=alone, energies=(snnprof.price(alone),))
    drawn(Report((first, few)), tmp_path / "x.svg")
    # 400 and 100 SOPs over 2 samples; the second row has no fc_1, which is no 0
    assert lengths[0] == [200, 50]
    assert lengths[1][0] == 200
    assert math.isnan(lengths[1][1])

"""Tables and frames of every result."""

import dataclasses
import io
import re

import pytest

from snnprof.render.table import view
from snnprof.render.terminal import show
from snnprof.results import CountResult, Report


def test_frames_are_per_sample(counts: CountResult, report: Report) -> None:
    frame = counts.to_frame()
    assert frame["synops"].tolist() == [200, 50]
    assert frame["unrolled_synops"].isna().tolist() == [True, False]
    energy = report.rows[0].energies[0].to_frame()
    # Per sample: 200 MACs of the stem * 4.6 pJ, 50 ACs * 0.9 pJ
    assert energy["energy_j"].tolist() == pytest.approx([920e-12, 45e-12], rel=1e-12)
    assert report.to_frame()["mode"].tolist() == ["stbp", "online"]


def test_the_layers_add_up_to_the_total(counts: CountResult) -> None:
    table = view(counts)
    assert "SOPs" in table.columns  # 250 of a sample: no unit that would make them 0.00025
    assert table.rows[-1][0] == "total"
    assert table.rows[0][0] == "stem (stem)"
    column = table.columns.index("dense MACs")
    per_layer = [float(row[column]) for row in table.rows if row[1] != "neuron"]
    assert per_layer[-1] == pytest.approx(sum(per_layer[:-1]))


def test_the_column_of_products_is_shown_where_there_are_any(counts: CountResult) -> None:
    assert "nnz SOPs" not in view(counts).columns
    assert counts.per_sample("nnz_synops") is None
    product = dataclasses.replace(counts.rows[1], name="attn.matmul", nnz_synops=3_000_000)
    table = view(dataclasses.replace(counts, rows=(*counts.rows, product)))
    column = table.columns.index("nnz SOPs (M)")
    # 3 million over 2 samples; a layer without the count shows what is absent, not 0; neurons too
    assert [row[column] for row in table.rows] == ["", "", "1.500", "", "1.500"]
    assert all(len(row) == len(table.columns) for row in table.rows)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_cell_is_cut_at_any_width(
    report: Report, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal is 80 wide to rich
    screen = Screen()
    many = dataclasses.replace(report, rows=report.rows * 4)
    show(many, screen)
    text = re.sub("\x1b[^m]*m", "", screen.getvalue())
    table = view(many)
    for row in table.rows if width > 80 else table.without(table.spare[:2]).rows:
        for cell in row:
            assert cell in text
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_pipe_gets_one_line_per_row(report: Report) -> None:
    pipe = io.StringIO()
    show(report, pipe)
    line = next(line for line in pipe.getvalue().splitlines() if "online" in line)
    assert line.split()[:4] == ["online", "50.00", "30.00", "250.0"]

"""Tables and frames of every result."""

import dataclasses
import io
import json
import re

import pytest

from snnprof.render.report_table import Presented
from snnprof.render.table import view
from snnprof.render.terminal import show
from snnprof.results import CountResult, GradientCount, Report
from snnprof.results.serialization import from_json, to_json


def test_frames_are_per_sample(counts: CountResult, report: Report) -> None:
    frame = counts.to_frame()
    assert frame["synops"].tolist() == [200, 50]
    assert frame["unrolled_synops"].isna().tolist() == [True, False]
    energy = report.rows[0].energies[0].to_frame()
    # Per sample: 200 MACs of the stem * 4.6 pJ, 50 ACs * 0.9 pJ
    assert energy["energy_j"].tolist() == pytest.approx([920e-12, 45e-12], rel=1e-12, abs=0)
    assert report.to_frame()["mode"].tolist() == ["stbp", "online"]


def test_the_layers_add_up_to_the_total(counts: CountResult) -> None:
    table = view(counts)
    assert "SOPs" in table.columns  # 250 of a sample: no unit that would make them 0.00025
    assert table.rows[-1][0] == "total"
    assert table.rows[0][0] == "stem (stem)"
    column = table.columns.index("dense MACs")
    per_layer = [float(row[column]) for row in table.rows if row[1] != "neuron"]
    assert per_layer[-1] == pytest.approx(sum(per_layer[:-1]))


def test_energy_has_units_in_which_it_can_be_read(report: Report) -> None:
    table = view(report.rows[0].energies[0])
    assert table.columns == ("layer", "event", "events", "energy (pJ)")
    # Per sample: 200 MACs of the stem * 4.6 pJ, 50 ACs * 0.9 pJ
    assert [cells[2:] for cells in table.rows] == [
        ("200.0", "920.0"), ("50.00", "45.00"), ("", "965.0"),
    ]  # fmt: skip


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


def test_the_gradients_column_is_the_last_and_only_where_they_were_looked_at(
    counts: CountResult,
) -> None:
    assert "gradient density (%)" not in view(counts).columns
    before = [*counts.to_frame().columns]
    assert not {"gradient", "gradient_density"} & {*before}
    looked = dataclasses.replace(counts.rows[1], gradient=GradientCount(8, 4, 2))
    measured = dataclasses.replace(counts, rows=(counts.rows[0], looked))
    assert [*measured.to_frame().columns] == [*before, "gradient_density"]
    assert measured.to_frame()["gradient_density"].tolist()[1] == 2 / 8
    table = view(measured)
    # The layer that was not looked at has an empty cell, and so have neurons and the total.
    assert table.columns[-1] == "gradient density (%)"
    assert [row[-1] for row in table.rows] == ["", "25.00", "", ""]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_counts_with_gradients_come_back_from_a_file_and_older_files_are_read(
    counts: CountResult,
) -> None:
    looked = dataclasses.replace(counts.rows[1], gradient=GradientCount(8, 4, 2))
    neurons = tuple(
        dataclasses.replace(neuron, gradient=GradientCount(3, 3, 1)) for neuron in counts.neurons
    )
    measured = dataclasses.replace(counts, rows=(counts.rows[0], looked), neurons=neurons)
    assert from_json(to_json(measured)) == measured
    document = json.loads(to_json(counts))
    del document["crc32"]
    for row in (*document["result"]["rows"], *document["result"]["neurons"]):
        assert row.pop("gradient") is None  # as a file of before has it
    assert from_json(json.dumps(document)) == counts


def test_energy_of_training_is_a_group_of_columns_and_a_dense_row_says_why_it_has_none(
    report: Report,
) -> None:
    first, second = report.rows
    training = dataclasses.replace(first.energies[0], table="sata", phase="training")
    spiking = dataclasses.replace(first, training_energies=(training,))
    dense = dataclasses.replace(second, mode="dense", baseline_of=first.model)
    beside = Report((spiking, dense))
    table = view(Presented(beside, ("mode", "training_energy")))
    assert table.columns == ("mode", "training energy, sata (pJ)")
    assert [cells[1] for cells in table.rows] == ["965.0", ""]
    assert any(
        note.startswith(f"{dense.name}: not priced under sata, where") for note in table.notes
    )

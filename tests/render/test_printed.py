"""print(result), notebooks, narrow screens, formats on standard output."""

import dataclasses
import importlib.util
import io
import re

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli.main import cli
from snnprof.render.report_table import Presented
from snnprof.render.table import view
from snnprof.render.terminal import show
from snnprof.results import CountResult, Report


def test_print_shows_the_table(report: Report, counts: CountResult) -> None:
    for result in (report, counts, report.rows[0].energies[0], report.rows[0].profile):
        assert view(result).title in str(result)
        assert view(result).rows[0][0] in str(result)
    assert "NOPs: neuron operations, 3 per neuron" in str(report)  # explained


def test_a_notebook_shows_it_and_escapes_names(counts: CountResult) -> None:
    named = dataclasses.replace(counts.rows[0], name="<b>stem</b>")
    html = CountResult((named,), 2)._repr_html_()
    assert "&lt;b&gt;stem" in html and "<b>stem" not in html
    assert "<table" in html


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 120])
def test_a_sweep_on_a_narrow_screen_is_one_block(
    report: Report, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal is 80 wide to rich
    rows = [
        dataclasses.replace(row, timesteps=t, neuron_ops=60 * t)
        for t in range(1, 13)
        for row in report.rows
    ]
    screen = Screen()
    show(dataclasses.replace(report, rows=tuple(rows)), screen)
    lines = [re.sub("\x1b[^m]*m", "", line) for line in screen.getvalue().splitlines()]
    assert sum(line.startswith(("stbp", "online")) for line in lines) == 24
    assert max(len(line) for line in lines) <= width
    assert any("not shown: memory ratio" in line for line in lines) == (width == 80)


def test_columns_and_their_order(report: Report) -> None:
    table = view(Presented(report, ("accuracy", "mode", "energy")))
    expected = ("accuracy (%)", "mode", "energy, operands (pJ)", "energy, hd-lif (fJ)")
    assert table.columns == expected
    with pytest.raises(snnprof.SnnprofError, match="unknown column 'x'; known: model, neuron"):
        Presented(report, ("x",))
    with pytest.raises(snnprof.SnnprofError, match="column 'latency': no row has it"):
        Presented(report, ("latency",))
    with pytest.raises(snnprof.SnnprofError, match="unknown way to show rows 'all'"):
        Presented(report, rows="all")


def test_what_was_not_measured_is_named(report: Report) -> None:
    bare = [dataclasses.replace(row, accuracy=None, profile=None) for row in report.rows]
    table = view(dataclasses.replace(report, rows=tuple(bare)))
    assert "Not measured: accuracy, step time, peak memory." in table.notes
    assert not any("time" in column for column in table.columns)


def test_a_format_on_standard_output(report: Report, tmp_path: object) -> None:
    path = f"{tmp_path}/r.json"
    snnprof.save(report, path)
    done = CliRunner().invoke(cli, ["show", path, "--format", "md"])
    assert done.exit_code == 0
    assert done.stdout.startswith("# Training modes side by side")
    assert CliRunner().invoke(cli, ["show", path, "--format", "csv"]).stdout.startswith("model,")
    wrong = CliRunner().invoke(cli, ["show", path, "--format", "svg"])
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "Error: --format 'svg': give one of md, csv, tex, json\n",
    )


def test_parquet_there_or_one_line(report: Report, tmp_path: object) -> None:
    path = f"{tmp_path}/t.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(snnprof.SnnprofError, match=r"pip install 'snnprof\[parquet\]'"):
            snnprof.save(report, path)
        return
    import pandas as pd

    snnprof.save(report, path)
    assert pd.read_parquet(path)["synops"].tolist() == [250.0, 250.0]


def test_versions_and_doctor() -> None:
    assert "torch" in CliRunner().invoke(cli, ["--version"]).stdout
    said = CliRunner().invoke(cli, ["doctor"]).stdout
    assert "counting reads inputs by: " in said
    assert snnprof.__version__

"""``snnprof summary`` and ``snnprof run --layers``."""

import csv
import io
import re
from pathlib import Path

import pytest

import snnprof
from snnprof.render.terminal import show
from snnprof.results import Layers, ModelSummary, Report

from ..support.commands import call, refused

QUICK = ("--data=random", "--batch-size=2", "--device=cpu", "--image-size=8")


def test_a_tree_of_a_network(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    done = call("summary", "--model=vgg5", "--timesteps=2", *QUICK, f"-o{path}")
    assert done.exit_code == 0, done.output
    assert "├── " in done.stdout
    assert "└── " in done.stdout
    assert "fvcore counts the same" in done.stdout
    assert "as the network is made, untrained; counted on the first test batch" in done.stdout
    summary = snnprof.load(path)
    assert isinstance(summary, ModelSummary)
    assert summary.counts.samples == 2
    assert summary.check is not None
    assert summary.check.macs == summary.check.fvcore_macs
    shapes = {row.output_shape for row in summary.modules}
    assert "[T, B, 10]" in shapes
    folded = call("summary", str(path), "--depth=0")
    assert "├" not in folded.stdout
    assert folded.exit_code == 0, folded.output


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    done = call(
        "run", "--epochs=0", "--mode=stbp", "--neuron=lif", "--neuron=hdlif", "--timesteps=1",
        "--energy=operands", "--energy=hd-lif", f"--layers={folder / 'layers.csv'}",
        f"-o{folder / 'report.json'}", *QUICK,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_every_layer_of_every_row(ran: Path) -> None:
    rows = list(csv.DictReader((ran / "layers.csv").open()))
    report = snnprof.load(ran / "report.json")
    assert isinstance(report, Report)
    for row in report.rows:
        assert row.counts is not None
        mine = [each for each in rows if each["neuron"] == row.neuron]
        layers = [each for each in mine if each["operation"] != "neuron"]
        neurons = [each for each in mine if each["operation"] == "neuron"]
        assert {each["layer"] for each in layers} == {each.name for each in row.counts.rows}
        assert len(neurons) == len(row.counts.neurons)
        assert sum(float(each["synops"]) for each in layers) == row.counts.per_sample("synops")
        for energy in row.energies:
            column = f"energy_{energy.table}_j"
            total = sum(float(each[column]) for each in mine if each[column])
            assert total == pytest.approx(energy.total_j, rel=1e-12, abs=0)
        assert all(each["firing_rate"] and not each["synops"] for each in neurons)
        assert all(each["input_density"] and not each["firing_rate"] for each in layers)
        assert all(each["output_shape"].startswith("[") for each in mine)
    # vgg5 on gray images: the stem has 9 taps * 64 channels, and a bias or none
    assert rows[0]["stem"] == "True"
    assert Layers(report).to_frame()["layer"].tolist() == [each["layer"] for each in rows]


def test_a_saved_report_is_summarised_row_by_row(ran: Path) -> None:
    shown = call("summary", str(ran / "report.json"))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("its modules, per sample") == 2
    assert "[T, B, 10]" in shown.stdout or "[T*B, 10]" in shown.stdout
    refusals = {
        "holds one summary": (f"-o{ran / 'x.md'}",),
        "--timesteps is for a network": ("--timesteps=2",),
        "--variant is for a network": ("--variant=seca",),
    }
    for message, options in refusals.items():
        assert message in refused("summary", str(ran / "report.json"), *options)
    assert not (ran / "x.md").exists()


def test_narrow_screens_leave_columns_out_and_say_so(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")  # of a dumb one rich takes 80 columns
    report = snnprof.load(ran / "report.json")
    assert isinstance(report, Report)
    summary = snnprof.summary(report.rows[0])
    for width in (80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        screen = Screen()
        show(summary, screen)
        text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for words in ("SOPs", "firing", "energy,"):
            assert words in text
        assert ("so not shown: nominal MACs" in text) is (width < 200)


def test_what_cannot_be_summarised(tmp_path: Path) -> None:
    counts = snnprof.CountResult((), 1)
    counts.save(tmp_path / "counts.json")
    assert "no report with counts" in refused("summary", str(tmp_path / "counts.json"))
    assert "unknown model" in refused("summary", "--model=vgg6")
    assert "unknown suffix" in refused("run", "--layers=x.xls")

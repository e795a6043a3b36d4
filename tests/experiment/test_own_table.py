"""A table of one's own pieces: as a run's, with empty cells where nothing was measured."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snnprof
from snnprof.render.report_table import our_columns, without_unit
from snnprof.render.table import view
from snnprof.render.tensorboard import scalars, write_scalars
from snnprof.results import CountResult, LayerCount, NeuronRate, Report, StepProfile

from ..support.guides import assert_examples_run

FC = LayerCount(
    "fc", "linear", "BINARY", "REAL", "AC", False, 2, 0.25, 100, 100, 100.0, 400, 400, 10, 40
)
LIF = NeuronRate("lif", 0.25, None, 48, 12, 2)
COUNTS = CountResult((FC,), samples=2, timesteps=4, neurons=(LIF,))


def profile(**changed: Any) -> StepProfile:
    second = (0.02, 0.01, 0.03)
    step = StepProfile("stbp", "cpu", 8, 4, second, second, second, second, 2**21, None, 5, 6, 1, 1)
    return replace(step, **changed)


def cells(report: Report) -> list[dict[str, str]]:
    """The table's rows by heading, empty cells left out."""
    table = view(report)
    return [
        {heading: cell for heading, cell in zip(table.columns, row, strict=True) if cell}
        for row in table.rows
    ]


def test_a_row_of_one_number_has_no_other() -> None:
    report = snnprof.report([snnprof.row("mine", accuracy=0.932)])
    (only,) = cells(report)
    assert only == {"model": "mine", "accuracy (%)": "93.20"}
    assert report.to_dict() == {"mine": {"accuracy": 0.932}}


def test_neuron_operations_that_were_counted_elsewhere() -> None:
    net = nn.Linear(4, 3)
    assert snnprof.row("mine", model=net, nops=24).neuron_ops == 24
    assert snnprof.row("mine", nops=24).neuron_ops == 24
    assert snnprof.row("mine", model=net).neuron_ops is None
    for wrong in (-1, 1.5, True, "24"):
        with pytest.raises(snnprof.SnnprofError, match=r"nops=.*give a whole number per sample"):
            snnprof.row("mine", nops=wrong)


def test_the_parts_fill_their_cells() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    net[0].weight.requires_grad_(False)
    one = snnprof.row(
        "mine",
        model=net,
        counts=COUNTS,
        step=profile(),
        neuron="lif",
        energy=("operands", "hd-lif"),
    )
    (found,) = cells(snnprof.report([one]))
    assert found == {
        "model": "mine",
        "neuron": "lif",
        "mode": "stbp",  # of the step
        "T": "4",  # of counts and step
        "parameters": "21",  # 4 * 3 + 3 frozen or not, 3 + 3 of the batch norm
        "size (B)": "60.00",  # (12 + 3) * 4 bytes
        "size in the HD-LIF paper's accounting (B)": "60.00",
        "firing rate (%)": "25.00",
        "SOPs": "50.00",  # 100 events / 2 samples
        "energy, operands (pJ)": "45.00",  # 50 ACs * 0.9 pJ
        # No energy of hd-lif: it bills convolutions.
        "step time, CPU (ms)": "20.00 (15.00-25.00)",
        "time ratio": "1.00x",
        "peak memory, CPU (MiB)": "2.000",
        "memory ratio": "1.00x",
    }
    assert one.name == "mine lif stbp T4"
    assert (one.batch_size, one.device) == (8, "cpu")


def test_it_is_what_run_says_of_the_same_network(tmp_path: Path) -> None:
    ran = snnprof.run(modes="stbp", timesteps=2, epochs=0, device="cpu", energy="spikformer")
    theirs = ran.rows[0]
    net = snnprof.models.create("vgg5", timesteps=2, in_channels=1, image_size=8)
    one = snnprof.row(
        "vgg5", model=net, counts=theirs.counts, neuron="lif", weights="fp32", mode="stbp",
        energy="spikformer",
    )  # fmt: skip
    unsaid = {
        "epochs": None,
        "batch_size": None,
        "neuron_ops": None,
        "layout": None,
        "loss_name": None,
        "seed": None,
        "data": None,
        "image_size": None,
        # Nothing ran in it here, so that no shape is known.
        "modules": tuple(replace(module, output_shape=None) for module in theirs.modules),
    }
    assert replace(theirs, **unsaid) == one
    net(torch.rand(1, 1, 8, 8))
    assert snnprof.row("vgg5", model=net).neuron_ops == theirs.neuron_ops
    assert snnprof.row("vgg5", model=net).timesteps == 2


def test_ratios_compare_like_with_like_only() -> None:
    rows = [
        snnprof.row("a", step=profile()),
        snnprof.row("b", step=profile(peak_bytes=2**20)),
        snnprof.row("c", step=profile(batch_size=16, peak_bytes=2**23)),
        snnprof.row("d", step=profile(device="cuda", peak_bytes=2**23)),
        snnprof.row("e", step=profile(timesteps=8, peak_bytes=2**23)),
        snnprof.row("f", accuracy=0.5),
    ]
    report = snnprof.report(rows)
    found = cells(report)
    # b against a; c, d and e have nobody of their kind
    shown = [row.get("memory ratio") for row in found]
    assert shown == ["1.00x", "0.50x", None, None, None, None]
    assert [row.get("batch") for row in found] == ["8", "8", "16", "8", "8", None]
    assert [row.get("device") for row in found] == ["cpu", "cpu", "cpu", "cuda", "cpu", None]
    assert "peak memory (MiB)" in found[0] and "step time (ms)" in found[0]
    assert (
        "Ratios compare rows of the same batch size and device only. batch 8 on cpu: a stbp T4, "
        "b stbp T4, e stbp T8; batch 16 on cpu: c stbp T4; batch 8 on cuda: d stbp T4."
    ) in view(report).notes
    assert "device" not in report.environment
    assert report.to_frame()["device"].tolist()[:4] == ["cpu", "cpu", "cpu", "cuda"]


def test_where_all_is_alike_nothing_is_said_of_conditions() -> None:
    report = snnprof.report([snnprof.row(n, step=profile()) for n in "ab"])
    assert not any("only" in note or "not stated" in note for note in view(report).notes)
    assert report.environment["device"].startswith("CPU, ")
    assert "batch" not in view(report).columns
    unknown = tuple(
        replace(row, timesteps=None, profile=replace(row.profile, batch_size=None))
        for row in report.rows
    )
    notes = view(replace(report, rows=unknown)).notes
    for what in ("T", "Batch size"):
        said = f"{what} is not stated of a stbp, b stbp: their ratios take it to be the same."
        assert said in notes
    alone = view(replace(report, rows=(unknown[0], report.rows[1]))).notes
    assert not any("not stated of" in note for note in alone)


def test_steps_seen_from_outside_say_so() -> None:
    found = snnprof.profile(lambda: torch.zeros(256).add_(1), repeats=2, warmup=0, device="cpu")
    mine = snnprof.row("mine", step=replace(found, notes=("A note.",)), mode="stbp", timesteps=4)
    assert (mine.mode, mine.device, mine.samples_per_step) == ("stbp", "cpu", None)
    told = "Steps seen from outside: mine stbp T4. Their peak memory counts what stood before the "
    alone = view(snnprof.report([mine])).notes
    assert told + "step only where the step touches it." in alone
    assert "mine stbp T4: A note." in alone
    beside = view(snnprof.report([mine, snnprof.row("a", step=profile())])).notes
    assert (
        told + "step only where the step touches it; that of the other rows counts all." in beside
    )
    # Without its batch size it is compared with nobody's.
    assert any("batch not stated on cpu: mine stbp T4; batch 8 on cpu: a" in n for n in beside)


def test_growth_is_of_one_network_batch_and_device() -> None:
    def steps(name: str, *bytes_at: tuple[int, int]) -> list[snnprof.ReportRow]:
        return [
            snnprof.row(name, step=profile(timesteps=t, peak_bytes=peak)) for t, peak in bytes_at
        ]

    two = snnprof.report([*steps("a", (2, 2**20), (4, 2**21)), *steps("b", (8, 2**22))])
    (memory,) = (g for g in two.growth if g.quantity == "peak_bytes")
    # a alone: 2^20 at T = 2, 2^21 at T = 4
    assert (memory.model, memory.timesteps, memory.slope) == ("a", (2, 4), 2**19)
    assert any(note.startswith("Peak memory over T: a stbp: ") for note in view(two).notes)
    other_batch = replace(profile(timesteps=4), batch_size=16)
    first, second = steps("a", (2, 2**20)), [snnprof.row("a", step=other_batch)]
    assert snnprof.report([*first, *second]).growth == ()


def test_columns_of_ones_own(tmp_path: Path) -> None:
    rows = [
        snnprof.row("a", trial=3, note="two | bars", **{"lr (peak)": 0.125}),
        snnprof.row("b", trial=np.int64(4), auc=torch.tensor(0.5), gone=None),
    ]
    report = snnprof.report(rows)
    assert view(report).columns[-5:] == ("trial", "note", "lr (peak)", "auc", "gone")
    assert view(report).rows[0][-5:] == ("3", "two | bars", "0.1250", "", "")
    assert view(report).rows[1][-5:] == ("4", "", "", "0.5000", "")
    for suffix in (".csv", ".md", ".tex", ".json"):
        snnprof.save(report, tmp_path / f"t{suffix}")
    first, second = csv.DictReader((tmp_path / "t.csv").open())
    assert [*first][-5:] == ["trial", "note", "lr (peak)", "auc", "gone"]
    assert (first["lr (peak)"], second["lr (peak)"], second["auc"]) == ("0.125", "", "0.5")
    assert r"two \| bars" in (tmp_path / "t.md").read_text()
    assert snnprof.load(tmp_path / "t.json") == report
    assert report.to_frame()["trial"].tolist() == [3, 4]
    assert "Taken as given: trial, note, lr (peak), auc, gone." in report.notes
    assert scalars(rows[0]) | {"own/trial": 3, "own/lr (peak)": 0.125} == scalars(rows[0])
    assert "own/note" not in scalars(rows[0])


def test_rows_of_several_seeds_are_one_line() -> None:
    rows = [snnprof.row("a", seed=seed, accuracy=share) for seed, share in ((0, 0.9), (1, 0.92))]
    table = view(snnprof.report([*rows, snnprof.row("b", accuracy=0.8, seed=2, data="mine")]))
    # mean of 90 and 92, deviation sqrt((1 + 1) / 1)
    assert table.rows[0] == ("a", "0, 1", "", "91.00 ± 1.41")
    assert table.rows[1] == ("b", "2", "mine", "80.00")
    assert table.best == {(0, 3)}
    with pytest.raises(snnprof.SnnprofError, match="2 rows are called 'a'"):
        snnprof.report([rows[0], rows[0]])
    with pytest.raises(snnprof.SnnprofError, match=r"seed=-1: give a whole number"):
        snnprof.row("a", seed=-1)


def test_one_name_on_other_data_is_another_row() -> None:
    first = snnprof.row("a", step=profile(), data="digits")
    second = snnprof.row("a", step=profile(peak_bytes=2**30), data="imagenet", image_size=224)
    report = snnprof.report([first, second])
    assert [row.get("memory ratio") for row in cells(report)] == [None, None]
    assert view(report).columns[:2] == ("data", "image size")
    assert (
        "Ratios compare rows of the same batch size, device and data only. batch 8 on cpu, data "
        "digits: a stbp T4; batch 8 on cpu, data imagenet of 224 pixels: a stbp T4."
    ) in view(report).notes
    unsaid = snnprof.row("b", step=profile(peak_bytes=2**20))
    both = snnprof.report([first, unsaid])
    assert [row.get("memory ratio") for row in cells(both)] == ["1.00x", "0.50x"]
    said = "Data is not stated of b stbp T4: their ratios take it to be the same."
    assert said in view(both).notes
    with pytest.raises(snnprof.SnnprofError, match="2 rows are called 'a stbp T4'"):
        snnprof.report([first, first])


def test_the_batch_in_files_is_that_of_the_table() -> None:
    ran = snnprof.row("a", accuracy=0.5)
    report = Report((replace(ran, batch_size=8),))
    assert report.to_frame()["batch_size"].tolist() == [8]


def test_a_step_that_touched_nothing_has_no_growth() -> None:
    nothing = profile(peak_bytes=0)
    rows = [snnprof.row("a", step=replace(nothing, timesteps=t)) for t in (2, 4)]
    assert {each.quantity for each in snnprof.report(rows).growth} == {"step_s"}


def test_latex_takes_words_as_they_are(tmp_path: Path) -> None:
    snnprof.save(snnprof.report([snnprof.row(r"a\b^{c}~", k="50%")]), tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert r"a\textbackslash{}b\textasciicircum{}\{c\}\textasciitilde{}" in text
    assert r"50\%" in text


def test_rows_of_a_run_stand_beside_ones_own(tmp_path: Path) -> None:
    ran = snnprof.run(modes=("stbp", "online"), timesteps=2, epochs=0, repeats=2, batch_size=8,
                      device="cpu")  # fmt: skip
    mine = snnprof.row("mine", step=profile(timesteps=2, peak_bytes=2**20), lr=0.1)
    report = snnprof.report([*ran.rows, mine], notes="Mine: 4 epochs.")
    table = report.to_frame()
    first = ran.rows[0].peak_bytes
    assert table["peak_ratio"].tolist() == [1, ran.rows[1].peak_bytes / first, 2**20 / first]
    assert report.notes[0] == "Mine: 4 epochs."
    report.save(tmp_path / "t.json")
    assert snnprof.load(tmp_path / "t.json") == report
    write_scalars(report, tmp_path / "runs")
    assert {f.name for f in (tmp_path / "runs").iterdir()} == {
        "vgg5 lif fp32 stbp", "vgg5 lif fp32 online", "mine stbp",
    }  # fmt: skip


def test_pictures_of_ones_own_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    rows = [snnprof.row(n, step=profile(timesteps=t)) for n in "ab" for t in (2, 4)]
    report = snnprof.report([*rows, snnprof.row("no T", step=replace(profile(), timesteps=None))])
    report.save(tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert ">a, stbp<" in text and ">b, stbp<" in text and "no T" not in text
    with pytest.raises(snnprof.SnnprofError, match="several T"):
        snnprof.report([snnprof.row("mine", accuracy=0.5)]).save(tmp_path / "y.svg")


def test_a_file_from_before_a_row_had_columns_of_its_own(tmp_path: Path) -> None:
    report = snnprof.report([snnprof.row("a", accuracy=0.5)])
    report.save(tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    del document["crc32"]  # there was none yet
    assert document["result"]["rows"][0].pop("more") == {}
    (tmp_path / "t.json").write_text(json.dumps(document))
    assert snnprof.load(tmp_path / "t.json") == report


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accuracy": 93.2}, r"row 'mine': accuracy=93\.2: say a share, from 0 to 1, 0\.932"),
        ({"accuracy": -0.1}, "accuracy=-0.1: say a share, from 0 to 1$"),
        ({"accuracy": math.nan}, "accuracy=nan: say a share"),
        ({"accuracy": "93 %"}, "accuracy='93 %': say a share"),
        ({"model": "vgg5"}, "model is a str, not a Module: give the module itself"),
        ({"counts": 3}, r"counts is a int, not a CountResult: counter\.result\(\)"),
        ({"step": [0.1]}, r"step is a list, not a StepProfile: snnprof\.profile, or"),
        ({"timesteps": 0}, "timesteps=0: must be a whole number"),
        ({"timesteps": 4.0}, r"timesteps=4\.0: must be a whole number"),
        ({"timesteps": 8, "counts": COUNTS}, "T is 8 by timesteps, 4 by counts: one row"),
        ({"step": profile(timesteps=2), "counts": COUNTS}, "T is 4 by counts, 2 by step"),
        ({"energy": "spikformer"}, "energy is given, but no counts"),
        ({"energy": "joules", "counts": COUNTS}, "unknown energy convention 'joules'"),
        ({"mode": 3}, "mode=3: say it in words"),
        ({"synops": 3}, "column 'synops' is one of ours"),
        ({"SOPs": 3}, r"column 'SOPs' is one of ours"),
        ({"step time, GPU (ms)": 3}, "is one of ours"),
        ({"batch": 3}, "is one of ours"),
        ({"profile": 3}, "is one of ours"),
        ({"energy_hd-lif_j": 3}, "is one of ours"),
        ({"lr": [1, 2]}, r"lr=\[1, 2\]: a cell holds a finite number or words"),
        ({"lr": math.inf}, "lr=inf: a cell holds a finite number"),
        ({"lr": "two\nlines"}, "a cell holds"),
        ({" ": 1}, "column ' ': give it a name"),
    ],
)
def test_a_wrong_row_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message) as error:
        snnprof.row("mine", **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", 3])
def test_a_row_has_a_name(name: Any) -> None:
    with pytest.raises(snnprof.SnnprofError, match="give a name of one line"):
        snnprof.row(name)


def test_a_wrong_table_is_one_line() -> None:
    one = snnprof.row("mine", mode="stbp")
    for rows, message in (
        ([], "no rows: a report needs one at the least"),
        (one, r"rows is a ReportRow: give a list"),
        (snnprof.report([one]), "rows is a Report: give a list"),
        ([one, COUNTS], r"rows\[1\] is a CountResult, not a ReportRow: use snnprof\.row"),
        ([snnprof.report([one])], r"rows\[0\] is a Report, .*: give its rows, \*report\.rows"),
        ([one, one], "2 rows are called 'mine stbp': give each a name of its own"),
    ):
        with pytest.raises(snnprof.SnnprofError, match=message):
            snnprof.report(rows)
    assert len(snnprof.report([one, replace(one, model="another name")]).rows) == 2


def test_our_columns_are_those_of_a_run() -> None:
    ran = snnprof.run(modes="stbp", timesteps=1, epochs=0, repeats=1, batch_size=8, device="cpu")
    shown = {*view(ran).columns, *ran.to_frame().columns}
    shown = {without_unit(name) for name in shown if not name.startswith("energy")}
    assert shown <= our_columns()


def test_the_examples_of_the_guide_run(tmp_path: Path) -> None:
    assert_examples_run("own-table.md", tmp_path)


def test_the_loss_of_a_step_is_said_under_ones_own_table(tmp_path: Path) -> None:
    rows = [snnprof.row(name, step=replace(profile(), loss=loss)) for name, loss in
            (("a", "sum"), ("b", "step"), ("c", None))]  # fmt: skip
    snnprof.report(rows).save(tmp_path / "table.md")
    text = " ".join((tmp_path / "table.md").read_text("utf-8").split())
    assert (
        "Loss: a stbp T4: cross-entropy of the outputs summed over time; b stbp T4: mean over time "
        "of each time step's cross-entropy." in text
    )

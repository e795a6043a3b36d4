"""Files by suffix: what is in them, and that nothing half-written stays."""

import csv
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

import snnprof
from snnprof.render.latex import latex
from snnprof.render.output_files import check_output
from snnprof.results import CountResult, Report, ReportRow, StepProfile


def test_markdown_has_the_stated_columns_and_the_notes(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    snnprof.save(report, path)
    text = path.read_text()
    heading = next(line for line in text.splitlines() if line.startswith("| mode"))
    columns = [cell.strip() for cell in heading.strip("|").split("|")]
    assert columns == [
        "mode",
        "accuracy (%)",
        "firing rate (%)",
        "SOPs",
        "energy, operands (pJ)",  # 200 MACs of the stem, 50 ACs: 965 pJ
        "step time, CPU (ms)",
        "time ratio",
        "peak memory, CPU (MiB)",
        "memory ratio",
    ]
    assert (
        "Every row: model vgg5, neuron lif, weights fp32, T 2, parameters 1,000, size 4.000 kB, "
        "size in the HD-LIF paper's accounting 5.000 kB, NOPs 60.00."
    ) in text
    assert "No energy under hd-lif: it bills none of stem, fc_1." in text
    assert "20.00 (15.00-25.00)" in text
    assert "1.50x" in text  # 30 ms against 20 ms
    assert "0.50x" in text  # 1 MiB against 2 MiB
    assert "- A note." in text
    assert "Not counted: att (matmul: not counted & listed)." in text
    assert "NaN or infinity in the input of: fc_1." in text
    assert "Leaves out: memory access" in text
    assert "device: CPU, test" in text


def test_csv_is_raw_and_leaves_empty_what_is_missing(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    snnprof.save(report, path)
    first, second = csv.DictReader(path.open())
    assert float(first["step_median_s"]) == 0.02
    assert float(second["peak_ratio"]) == 0.5
    assert float(first["synops"]) == 250  # (400 + 100) / 2 samples
    assert float(first["firing_rate"]) == 0.3  # of the neurons
    assert float(first["input_density"]) == 0.25  # of the layers, the stem left out
    snnprof.save(snnprof.CountResult(report.rows[0].counts.rows, 2), path)
    stem, layer = csv.DictReader(path.open())
    assert stem["unrolled_synops"] == ""
    assert float(layer["unrolled_synops"]) == 50


def test_latex_escapes_what_latex_would_take_for_its_own(
    counts: CountResult, report: Report, tmp_path: Path
) -> None:
    snnprof.save(counts, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    assert r"fc\_1" in text
    assert r"firing rate (\%)" in text
    assert r"\toprule" in text
    snnprof.save(report, tmp_path / "report.tex")
    text = (tmp_path / "report.tex").read_text()
    assert r"{} & {} & {firing} & {} & {energy,} & {step} & {time}" in text
    assert r"{mode} & {accuracy} & {rate} & {SOPs} & {operands} & {time}" in text
    assert r"(\unit{\pico\joule})" in text
    assert r"{\textbf{20.00}}" in text  # the median of 20.00 (15.00-25.00), the shorter of two


@pytest.mark.parametrize("name", ["report", "counts", "energy"])
def test_json_there_and_back(name: str, report: Report, tmp_path: Path) -> None:
    counts = report.rows[0].counts
    result = {"report": report, "counts": counts, "energy": report.rows[0].energies[0]}[name]
    path = tmp_path / "result.json"
    snnprof.save(result, path)
    assert snnprof.load(path) == result
    document = json.loads(path.read_text())
    assert document["snnprof_schema"] == 3


def test_a_file_from_before_a_count_was_added_has_none_of_it(
    counts: CountResult, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    product = dataclasses.replace(counts.rows[1], nnz_synops=7)
    snnprof.save(dataclasses.replace(counts, rows=(product,)), path)
    document = json.loads(path.read_text())
    assert document["result"]["rows"][0].pop("nnz_synops") == 7
    del document["crc32"]  # there was none yet
    path.write_text(json.dumps(document))
    loaded = snnprof.load(path)
    assert isinstance(loaded, CountResult)
    assert loaded.rows == (counts.rows[1],)
    del document["result"]["rows"][0]["synops"]
    path.write_text(json.dumps(document))
    with pytest.raises(snnprof.SnnprofError, match="damaged"):
        snnprof.load(path)


def test_json_holds_raw_integers_under_the_names_of_the_design(
    report: Report, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    report.save(path)
    row = json.loads(path.read_text())["result"]["rows"][0]["counts"]["rows"][1]
    assert row["synops"] == 100
    assert {"name", "op", "input_kind", "weight_kind", "operation", "stem", "calls"} <= set(row)
    assert {"rate_synops", "nominal_macs", "dense_macs", "unrolled_synops"} <= set(row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a snnprof result"),
        ('{"kind": "Report", "snnprof_schema": 99, "result": {}}', "schema version 99"),
        # Its firing rates are shares of inputs.
        ('{"kind": "CountResult", "snnprof_schema": 2, "result": {}}', "schema version 2: this"),
        ('{"kind": "Report", "snnprof_schema": 3, "result": {"rows": 3}}', "damaged"),
    ],
)
def test_a_strange_json_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(snnprof.SnnprofError, match=message):
        snnprof.load(path)
    with pytest.raises(snnprof.SnnprofError, match="cannot read"):
        snnprof.load(tmp_path / "missing.json")


def test_what_cannot_be_written_is_refused(report: Report, tmp_path: Path) -> None:
    for name, message in {
        "table.xls": "unknown suffix '.xls'; known: .md, .csv, .tex, .json",
        "nowhere/table.md": "there is no directory",
    }.items():
        with pytest.raises(snnprof.SnnprofError, match=message):
            report.save(tmp_path / name)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(snnprof.SnnprofError, match="is a directory"):
        report.save(tmp_path / "folder.md")


def test_a_link_is_written_through(report: Report, tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to("real.txt")
    report.save(tmp_path / "link.md")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.txt").read_text().startswith("# ")
    (tmp_path / "lost.md").symlink_to(tmp_path / "nowhere" / "real.txt")
    with pytest.raises(snnprof.SnnprofError, match=r"there is no directory .*nowhere"):
        check_output(tmp_path / "lost.md")
    (tmp_path / "loop.md").symlink_to("loop.md")
    with pytest.raises(snnprof.SnnprofError, match="links to itself"):
        check_output(tmp_path / "loop.md")
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(snnprof.SnnprofError, match="no regular file"):
        check_output(tmp_path / "pipe.md")


def test_what_the_system_refuses_is_known_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(snnprof.SnnprofError, match=r"'.*t\.md': Read-only file system"):
        check_output(tmp_path / "t.md")


def test_a_failing_write_leaves_the_old_file_and_no_other(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(snnprof.SnnprofError, match="No space left"):
        report.save(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]


def test_a_file_gets_the_users_permissions(report: Report, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        report.save(tmp_path / "table.md")
    finally:
        os.umask(umask)
    assert (tmp_path / "table.md").stat().st_mode & 0o777 == 0o644


def body(result: Any) -> list[list[str]]:
    """The cells of a tabular, line by line."""
    text = latex(result)
    lines = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    return [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in lines]


def test_latex_keeps_words_that_look_like_numbers() -> None:
    words = {"lr": "0,1", "zoom": "2x", "range": "10 (5-20)", "when": "3 ± 1"}
    (cells,) = body(snnprof.report([snnprof.row("a", **words)]))
    assert cells == ["a", "0,1", "2x", "10 (5-20)", r"3 $\pm$ 1"]
    assert r"{@{}lllll@{}}" in latex(snnprof.report([snnprof.row("a", **words)]))


def test_latex_writes_a_bold_number_like_the_others() -> None:
    rows = tuple(ReportRow(name, parameters=n) for name, n in (("a", 1234), ("b", 123456)))
    assert body(Report(rows)) == [["a", r"{\textbf{1234}}"], ["b", "123456"]]


def test_latex_lines_up_what_is_below_zero() -> None:
    rows = [snnprof.row(name, gain=gain) for name, gain in (("a", -12.5), ("b", 3.25))]
    report = snnprof.report(rows)
    assert body(report) == [["a", "-12.50"], ["b", "3.250"]]
    assert "S[table-format=-2.3]" in latex(report)


def test_latex_shows_medians_and_factors_alone() -> None:
    steps = [StepProfile(
        "stbp", "cpu", 8, 2, s, s, s, s, 5, None, 5, 6, 1, 1
    ) for s in ((0.02, 0.01, 0.03), (0.04, 0.04, 0.04))]  # fmt: skip
    rows = [snnprof.row(name, step=step) for name, step in zip("ab", steps, strict=True)]
    first, second = body(snnprof.report(rows))
    assert r"{\textbf{20.00}}" in first
    assert {"40.00", "2.00"} <= set(second)  # ms, and twice the first's


def test_latex_shows_mean_and_deviation_of_seeds() -> None:
    rows = [
        ReportRow("vgg5", accuracy=share, seed=seed, mode=mode)
        for mode, shares in (("stbp", (0.5, 0.6)), ("online", (0.3, 0.4)))
        for seed, share in enumerate(shares)
    ]
    # 55 and 35 %, each +- 10 / sqrt(2) = 7.07
    stbp, online = body(Report(tuple(rows)))
    assert r"\textbf{55.00}$\pm$7.07" in stbp
    assert r"35.00$\pm$7.07" in online

"""show, merge, price and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli import outputs
from snnprof.cli.main import cli
from snnprof.results import CountResult, LayerCount, Report, ReportRow


def counts(synops: int) -> CountResult:
    layer = LayerCount(
        "a", "linear", "BINARY", "REAL", "AC", False, 1, 0.5, synops, synops, 1.0, 40, 40, 5, 10
    )
    return CountResult((layer,), samples=2)


def report(synops: int, mode: str = "stbp") -> Report:
    found = counts(synops)
    row = ReportRow("net", mode=mode, counts=found, energies=(snnprof.price(found),))
    return Report((row,), environment={"torch": "2.13.0"})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    for name, result in {
        "a": report(1000),
        "b": report(1100, "online"),
        "new": report(1100),
        "without": replace(report(1), rows=(ReportRow("net"),)),
        "counts": counts(1),
    }.items():
        snnprof.save(result, tmp_path / f"{name}.json")
    return tmp_path


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_show(saved: Path) -> None:
    shown = command("show", saved / "a.json", "-o", saved / "a.md")
    assert shown.exit_code == 0
    assert "Training modes side by side" in shown.output
    assert (saved / "a.md").read_text().startswith("# Training modes side by side")
    assert "Synaptic operations" in command("show", saved / "counts.json").output


@pytest.mark.parametrize("option", ["--rows each", "--columns synops"])
def test_an_option_of_reports_is_not_ignored_elsewhere(saved: Path, option: str) -> None:
    shown = command("show", saved / "counts.json", *option.split())
    assert shown.exit_code == 2
    named = option if option.startswith("--rows") else "--columns"
    assert f"{named} is for reports; this is a CountResult: leave it out" in shown.output


def test_columns_and_lines_are_of_the_table_and_a_csv_has_all(saved: Path) -> None:
    two = replace(report(1000), rows=tuple(
        replace(report(1000).rows[0], seed=seed) for seed in (0, 1)
    ))  # fmt: skip
    snnprof.save(two, saved / "two.json")
    done = command("show", saved / "two.json", "--columns", "synops", "-o", saved / "two.csv")
    assert done.exit_code == 0, done.output
    heading, *lines = (saved / "two.csv").read_text().splitlines()
    assert {"model", "seed", "energy_operands_j"} <= set(heading.split(","))
    assert len(lines) == 2
    assert "has all" in " ".join(command("show", "--help").output.split())


def test_a_file_that_cannot_be_written_leaves_the_table(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(result: object, path: Path) -> None:
        raise snnprof.SnnprofError(f"output {str(path)!r}: no space left")

    monkeypatch.setattr(outputs, "save", full)
    files = [("-o", saved / name) for name in ("one.md", "two.md")]
    done = command("show", saved / "a.json", *files[0], *files[1])
    assert done.exit_code == 2
    assert "Training modes side by side" in done.output
    assert "one.md': no space left; output" in done.output
    assert "two.md': no space left" in done.output


def test_merge(saved: Path) -> None:
    done = command("merge", saved / "a.json", saved / "b.json", "-o", saved / "all.json")
    assert done.exit_code == 0
    merged = snnprof.load(saved / "all.json")
    assert isinstance(merged, Report)
    assert [row.mode for row in merged.rows] == ["stbp", "online"]


def test_price(saved: Path) -> None:
    done = command(
        "price", saved / "a.json", "--energy", "odin", "--energy", "operands", "--precision", "int8"
    )
    assert "'odin' has no prices at 'int8'" in done.output
    assert done.exit_code == 2
    done = command("price", saved / "a.json", "--energy", "odin", "-o", saved / "priced.json")
    assert done.exit_code == 0
    priced = snnprof.load(saved / "priced.json")
    assert isinstance(priced, Report)
    (energy,) = priced.rows[0].energies
    # 1000 events / 2 samples * 12.7 pJ
    assert energy.table == "odin"
    assert energy.total_j == pytest.approx(500 * 12.7e-12, rel=1e-12, abs=0)


def test_compare(saved: Path) -> None:
    done = command("compare", saved / "a.json", saved / "new.json", "-o", saved / "c.json")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("net")] == ["higher", "higher"]
    assert isinstance(snnprof.load(saved / "c.json"), snnprof.Comparison)


def test_compare_fails_beyond_a_limit(saved: Path) -> None:
    files = (saved / "a.json", saved / "new.json")
    done = command("compare", *files, "--fail-if", "energy>+5%", "--fail-if", "SOPs>+20%")
    assert done.exit_code == 3
    assert done.stderr == "Beyond the limits: energy>+5%: net stbp: energy operands +10 %\n"
    assert command("compare", *files, "--fail-if", "energy>+10.5%").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "none.json"), "cannot read"),
        (("merge", "a.json", "counts.json"), "counts.json' is a CountResult: give a report"),
        (("merge", "a.json", "a.json"), "net stbp is in the reports twice"),
        (("price", "a.json", "--energy", "nope"), "unknown energy convention 'nope'"),
        (("price", "without.json", "--energy", "odin"), "has no counts: there is nothing to price"),
        (("compare", "a.json", "b.json"), "no row is in both reports"),
        (("compare", "a.json", "new.json", "--fail-if", "x>1%"), "'x' was not compared"),
        (("show", "a.json", "-o", "none/a.md"), "none"),
    ],
)
def test_mistakes_are_one_line(saved: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [saved / each if each.endswith((".json", ".md")) else each for each in arguments]
    done = command(*given)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_columns_may_be_given_several_times_and_none_of_them_twice(saved: Path) -> None:
    done = command("show", saved / "a.json", "--columns", "mode", "--columns", "synops")
    assert done.exit_code == 0, done.output
    assert "mode" in done.output and "SOPs" in done.output and "fp32" not in done.output
    done = command("show", saved / "a.json", "--columns", "mode,mode")
    assert done.exit_code == 2
    assert done.stderr == "Error: --columns 'mode,mode': 'mode' is there twice: name it once\n"

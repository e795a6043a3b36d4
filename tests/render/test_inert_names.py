"""Names that somebody else chose do nothing in any format."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from markdown_it import MarkdownIt

import snnprof
from snnprof.energy.pricing import price
from snnprof.render.csv import csv as as_csv
from snnprof.render.latex import latex
from snnprof.render.markdown import escaped_line, markdown
from snnprof.render.operator_table import to_csv, to_markdown
from snnprof.render.parquet import parquet
from snnprof.render.table import view
from snnprof.render.terminal import show
from snnprof.results import (
    CoherenceResult,
    CountResult,
    LayerCoherence,
    LayerCount,
    Layers,
    ModelSummary,
    ModuleRow,
    NeuronRate,
    Report,
    ReportRow,
    StepProfile,
)
from snnprof.results.trace import OperatorTime

HOSTILE = (
    "=1+1",
    "@SUM(A1)",
    "-2+3",
    "\t=1+1",
    "a\rb",
    "a|b",
    "a\\|b",
    "a\nb",
    "a\u2028b",
    r"\input{x}",
    "a^b~c{",
    "[x]",
    "*x",
    "100%",
    "$x$",
    "_x_",
    "<b>",
    "[a](http://b)",
    "\x1b[31mred",
    "\x9b31m",
    "a\u202eb",
    "# big lif",
    "2) x",
    "> x",
    "+ x",
    "- x",
    "---",
    "https://a/b",
    "@user",
    "me@a",
)


def counts(name: str) -> CountResult:
    layer = LayerCount(
        name, "linear", "BINARY", "REAL", "AC", False, 2, 0.25, 100, 100, 100.0, 400, 400, 10, 40,
    )  # fmt: skip
    lif = NeuronRate(f"{name}.lif", 0.3, (0.2, 0.4), 40, 12, 2)
    return CountResult((layer,), 2, 2, ((name, name),), (name,), (lif,))


def report(name: str) -> Report:
    found = counts(name)
    step_s = (0.02, 0.01)
    profile = StepProfile("stbp", "cpu", 8, 2, step_s, step_s, step_s, step_s, 5, None, 5, 6, 1, 1)
    modules = (ModuleRow("Net", "Net", 0, 4), ModuleRow(name, name, 1, 4, "[B, 2]"))
    rows = tuple(
        ReportRow(
            name, name, name, mode, 2, counts=found, energies=(price(found),), profile=profile,
            more={name: name}, modules=modules, data=name, environment={"device": name},
        )
        for mode in ("stbp", name)
    )  # fmt: skip
    return Report(rows, {"device": name}, (name,))


def coherence(name: str) -> CoherenceResult:
    row = LayerCoherence(name, name, False, name, 0.25, cosine_membrane=0.5, cosine_weight=0.4)
    return CoherenceResult((row,), 2, 2, name, name, "float32", "cpu", True, label=name)


MAKERS: dict[str, Callable[[str], Any]] = {
    "counts": counts,
    "energy": lambda name: price(counts(name)),
    "report": report,
    "layers": lambda name: Layers(report(name)),
    "summary": lambda name: ModelSummary(
        name, report(name).rows[0].modules, counts(name), (price(counts(name)),), notes=(name,)
    ),
    "saved": lambda name: ModelSummary(name, (), counts(name), (price(counts(name)),)),
    "coherence": coherence,
    "comparison": lambda name: snnprof.compare(report(name), report(name)),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    return MAKERS[request.param]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_csv_has_no_formula_and_no_split_row(make: Callable[[str], Any], name: str) -> None:
    text = as_csv(make(name))
    plain = as_csv(make("fc"))
    assert len(text.splitlines()) == len(plain.splitlines())
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert cell.isprintable()
            assert not re.match(r"[=+\-@\s]", cell) or re.fullmatch(r"-?[\d.e+-]+", cell), cell


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_markdown_table_keeps_its_cells(make: Callable[[str], Any], name: str) -> None:
    text, plain = str(markdown(make(name))), str(markdown(make("fc")))
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == len(plain.splitlines())
    for line, usual in zip(text.splitlines(), plain.splitlines(), strict=True):
        assert _bars(line) == _bars(usual) or not line.startswith("|")
        assert not re.search(r"(?<!\\)(\\\\)*[\[<`$]", line)
        assert not re.search(r"(?<!\\)://|www\.|@\w", line)  # what GitHub makes a link of
    assert _structure(text) == _structure(plain)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1. x", r"1\. x"),
        ("12) x", r"12\) x"),
        ("1.5 of it", "1.5 of it"),
        ("-1.5 of it", r"\-1.5 of it"),
        ("see www.a.b", r"see www\.a.b"),
        ("me@a.b", "me@&#8203;a.b"),
        ("a @ b: c", "a @ b: c"),
        ("    x", "x"),  # four spaces begin code
    ],
)
def test_a_line_of_markdown_begins_nothing(text: str, written: str) -> None:
    assert escaped_line(text) == written


def _structure(text: str) -> list[str]:
    """What a reader of CommonMark sees in a Markdown text beside the words."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found.append(token.type)
        found += [inner.type for inner in token.children or () if inner.type != "text"]
    return found


def _bars(line: str) -> int:
    """Bars that part cells: a backslash takes the character behind it out of play."""
    return re.sub(r"\\.", "", line).count("|")


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_latex_has_no_command_of_the_names(make: Callable[[str], Any], name: str) -> None:
    text, plain = latex(make(name)), latex(make("fc"))
    assert text.replace("\n", "").isprintable()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    usual = [line for line in plain.splitlines() if not line.startswith("%")]
    assert len(body) == len(usual)
    ours = (
        r"begin|end|footnotesize|setlength|tabcolsep|toprule|midrule|bottomrule|unit|percent|text\w+|pm|"
        r"\w+(?=\\joule|\\second)"
    )
    for line, other in zip(body, usual, strict=True):
        bare = re.sub(r"\\\\$|\\[%&_#${}]", "", line)
        assert not re.search(rf"\\(?!({ours}|joule|second)\b)", bare), line
        assert bare.count("&") == re.sub(r"\\[%&_#${}]", "", other).count("&")
        assert bare.count("{") == bare.count("}")
        assert not re.match(r"\s*[\[*]", line)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_the_terminal_gets_printable_lines(make: Callable[[str], Any], name: str) -> None:
    screen, usual = io.StringIO(), io.StringIO()
    show(make(name), screen)
    show(make("fc"), usual)
    assert screen.getvalue().replace("\n", "").isprintable()
    assert len(screen.getvalue().split("\n")) == len(usual.getvalue().split("\n"))


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_parquet_has_printable_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[Any] = []  # pyarrow need not be there
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda table, *a, **k: tables.append(table))
    parquet(report(name))
    for text in (*tables[0].columns, *tables[0].to_numpy().ravel()):
        assert not isinstance(text, str) or text.isprintable()
    assert tables[0]["synops"].tolist() == [50.0, 50.0]


def test_pictures_show_names_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    for name in ("$x^2$", "_hidden", "\x1b[31m<b>"):
        for number, kind in enumerate(("counts", "coherence", "report")):
            path = tmp_path / f"{number}.svg"
            MAKERS[kind](name).save(path)
            texts = [e.text or "" for e in ElementTree.parse(path).iter() if e.tag.endswith("text")]
            shown = {"$x^2$": "$x^2$", "_hidden": "_hidden"}.get(name, r"\x1b[31m<b>")
            assert shown in {text.strip() for text in texts}, (kind, texts)


def test_names_stay_raw_for_programs(tmp_path: Path) -> None:
    counts("=1+1").save(tmp_path / "x.json")
    loaded = snnprof.load(tmp_path / "x.json")
    assert isinstance(loaded, CountResult)
    assert loaded.rows[0].name == "=1+1" == loaded.to_frame()["name"][0]


def test_a_view_is_of_single_lines() -> None:
    table = view(counts("a\nb"))
    assert table.rows[0][0] == r"a\nb"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_tables_of_operators_are_inert_too(name: str) -> None:
    rows = [OperatorTime(name, 1, 0.5, 0.5, 0)]
    (_, *cells), *rest = [*csv.reader(io.StringIO(to_csv(rows)))][1:]
    assert not rest
    assert cells[0] == "1"
    assert not re.match(r"[=+\-@\s]", to_csv(rows).splitlines()[1])
    assert _bars(to_markdown("x", rows).splitlines()[4]) == 6  # five cells
    assert len(to_markdown("x", rows).splitlines()) == 5

"""Formats of files: those of the package, and one from outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import snnprof
from snnprof.render.output_files import check_output
from snnprof.render.output_formats import FORMATS, output_format
from snnprof.results import CountResult, Report


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = dict(FORMATS)
    yield
    FORMATS.clear()
    FORMATS.update(before)


def test_the_formats_of_the_package_tables_first() -> None:
    assert list(FORMATS) == [".md", ".csv", ".tex", ".json", ".parquet", ".svg", ".png", ".pdf"]


@pytest.mark.usefixtures("_as_before")
def test_a_format_from_outside_is_saved_and_listed(report: Report, tmp_path: Path) -> None:
    @output_format(".txt")
    def names(result: object) -> str:
        assert isinstance(result, Report)
        return "\n".join(row.name for row in result.rows)

    @output_format(".bin")
    def two_bytes(result: object) -> bytes:
        return b"\x00\xff"

    snnprof.save(report, tmp_path / "rows.txt")
    assert (tmp_path / "rows.txt").read_text() == "vgg5 lif fp32 stbp T2\nvgg5 lif fp32 online T2"
    report.save(tmp_path / "ROWS.BIN")  # upper case is alike
    assert (tmp_path / "ROWS.BIN").read_bytes() == b"\x00\xff"
    assert check_output(tmp_path / "new.txt") == tmp_path / "new.txt"
    with pytest.raises(snnprof.SnnprofError, match=r"known: \.md, .*, \.pdf, \.txt, \.bin$"):
        check_output(tmp_path / "table.xls")


@pytest.mark.usefixtures("_as_before")
def test_a_format_may_refuse_beforehand(tmp_path: Path) -> None:
    def refuse() -> None:
        raise snnprof.SnnprofError("no spreadsheet writer is installed")

    output_format(".xls", check=refuse)(lambda result: b"")
    for write in (check_output, CountResult((), 1).save):
        with pytest.raises(snnprof.SnnprofError, match="no spreadsheet writer"):
            write(tmp_path / "table.xls")
    assert not list(tmp_path.iterdir())


def test_a_suffix_is_taken_once_and_is_a_suffix() -> None:
    for suffix in (".md", ".svg"):
        with pytest.raises(ValueError, match=f"'{suffix}' is already registered"):
            output_format(suffix)(lambda result: "")
    for suffix in ("md", ".", "", ".MD"):
        with pytest.raises(ValueError, match="must be a dot"):
            output_format(suffix)

"""Every value of a file has its field's type, or the file is refused at once."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

import snnprof
from snnprof.results import EnergyResult, EnergyRow, Report, ReportRow, StepProfile
from snnprof.results.decoding import decode
from snnprof.results.serialization import from_json, to_json

ROW = EnergyRow("a", "AC", 2, 1e-12)
ENERGY = EnergyResult("operands", (ROW,), 1e-12, "d", "s", "l", not_counted=(("b", "c"),))


def changed(**fields: Any) -> str:
    """The text of an energy with other fields, and without its checksum."""
    document = json.loads(to_json(ENERGY))
    del document["crc32"]
    document["result"] |= fields
    return json.dumps(document)


def test_there_and_back() -> None:
    assert from_json(to_json(ENERGY)) == ENERGY
    assert from_json(changed()) == ENERGY  # a file of before there was a checksum
    assert from_json(changed(total_j=0)) == dataclasses.replace(ENERGY, total_j=0)
    odd = dataclasses.replace(ENERGY, total_j=float("inf"))
    assert from_json(to_json(odd)) == odd


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total_j": "12"}, "result.total_j is a str, and must be a number"),
        ({"total_j": True}, "result.total_j is a bool, and must be a number"),
        ({"table": None}, "result.table is null, and must be a text"),
        ({"table": 1}, "result.table is a int, and must be a text"),
        ({"table": "\ud800"}, "result.table is a str, and must be a text"),
        ({"rows": {}}, "result.rows is a dict, and must be a list"),
        ({"rows": "ab"}, "result.rows is a str, and must be a list"),
        ({"rows": [3]}, r"result.rows\[0\] is a int, and must be a table of fields"),
        ({"rows": [{"name": "a"}]}, r"result.rows\[0\] has no 'operation'"),
        ({"not_counted": [["b"]]}, r"result.not_counted\[0\] is a list, and must be a list of 2"),
        ({"x": 1}, "result has an unknown field 'x'"),
    ],
)
def test_a_wrong_type_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=f"damaged snnprof result: {message}"):
        from_json(changed(**fields))


def test_cells_are_of_several_types() -> None:
    report = Report((ReportRow("net", more={"a": 1, "b": 0.5, "c": "x", "d": None}),))
    assert from_json(to_json(report)) == report
    document = json.loads(to_json(report))
    document["result"]["rows"][0]["more"]["a"] = []
    del document["crc32"]
    with pytest.raises(snnprof.SnnprofError, match=r"more\['a'\] is a list, and must be a text or"):
        from_json(json.dumps(document))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", "-inf"])
def test_numbers_that_json_has_not_and_words_like_them(value: str | float) -> None:
    report = Report((ReportRow("net", accuracy=0.5, more={"x": value}),))
    found = from_json(to_json(report)).rows[0].more["x"]  # type: ignore[union-attr]
    assert type(found) is type(value)
    assert str(found) == str(value)


def test_numbers_that_are_none_of_a_field_that_holds_numbers_alone() -> None:
    assert from_json(changed(total_j="inf")) == dataclasses.replace(ENERGY, total_j=math.inf)
    assert from_json(changed(total_j={"number": "inf"})).total_j == math.inf  # type: ignore[union-attr]
    for wrong in ({"number": "1"}, {"number": 1}, {"number": ["nan"]}, {"text": "inf"}):
        with pytest.raises(snnprof.SnnprofError, match="total_j is a dict, and must be a number"):
            from_json(changed(total_j=wrong))


def test_a_checkpoint_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    name = b"w\xff.pt".decode("utf-8", "surrogateescape")
    report = Report((ReportRow("net", accuracy=0.5, checkpoint=name, seed=1),))
    for suffix in (".json", ".csv", ".md", ".tex"):
        snnprof.save(report, tmp_path / f"r{suffix}")
    assert snnprof.load(tmp_path / "r.json") == report


def test_whole_numbers_are_whole() -> None:
    with pytest.raises(ValueError, match=r"here.batch_size is a float, and must be a whole number"):
        decode(StepProfile, dataclasses.asdict(_profile()) | {"batch_size": 0.5}, "here")


def _profile() -> StepProfile:
    lists: Any = [0.5]
    return StepProfile("stbp", "cpu", 1, 1, lists, lists, lists, lists, 1, None, 1, None, 1, 1)


def test_a_figure_that_was_changed_is_refused_by_the_checksum(tmp_path: Path) -> None:
    file = tmp_path / "energy.json"
    snnprof.save(ENERGY, file)
    text = file.read_text()
    file.write_text(text.replace('"events": 2,', '"events": 3,'))
    with pytest.raises(snnprof.SnnprofError, match=r"changed after .*'crc32'") as caught:
        snnprof.load(file)
    assert "\n" not in str(caught.value)
    file.write_text(json.dumps(json.loads(text)))  # laid out in another way
    assert snnprof.load(file) == ENERGY
    lines = text.replace('"events": 2,', '"events": 3,').splitlines()
    lines[-3:] = [lines[-3].rstrip(","), "}"]  # as the message says
    file.write_text("\n".join(lines))
    assert snnprof.load(file).rows[0].events == 3


@pytest.mark.parametrize("version", [1, 2, 4, 3.0, True, "3", None, [3]])
def test_another_schema_is_named(version: object) -> None:
    text = json.dumps(json.loads(changed()) | {"snnprof_schema": version})
    with pytest.raises(snnprof.SnnprofError, match=r"version .*: this snnprof reads version 3"):
        from_json(text)

"""Prices of one's own from a TOML file, prices at a precision, chips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli.main import cli
from snnprof.core.errors import SnnprofError
from snnprof.energy.conventions import (
    CONSTANTS,
    CONVENTIONS,
    at_precision,
    convention_names,
    find_convention,
)
from snnprof.energy.pricing import price
from snnprof.render.table import view
from snnprof.results import CountResult, LayerCount
from snnprof.results.counts import NeuronRate

FILE = """
[constants.mac-7nm]
value_pj = 1.5
per = "op"
node_nm = 7
evidence = "simulated"
scope = "per_op"
leaves_out = "memory"
source = "our synthesis"

[constants.update-7nm]
value_fj = 250
per = "update"
evidence = "assumed"
scope = "per_op"
leaves_out = "memory"
source = "our synthesis"

[conventions.ours-7nm]
formula = "operands"
mac = "mac-7nm"
ac = "ac-45nm-int8"
neuron = "update-7nm"
description = "exact events, {mac} a MAC, {neuron} an update"
leaves_out = "memory"
source = "our synthesis"
suited_to = "our chip"
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = dict(CONVENTIONS)
    yield
    CONVENTIONS.clear()
    CONVENTIONS.update(before)


def layer(name: str, kind: str, operation: str, stem: bool = False) -> LayerCount:
    """30 events of 120 nominal MACs."""
    return LayerCount(
        name, "linear", kind, "REAL", operation, stem, 1, 0.5, 30, 30, 60.0, 120, 100, 5, 10
    )


COUNTS = CountResult(
    (layer("a", "REAL", "MAC", stem=True), layer("b", "BINARY", "AC")),
    samples=2,
    timesteps=4,
    neurons=(NeuronRate("lif", 0.25, None, 40, 10, 4),),
)


def written(folder: Path, text: str = FILE, name: str = "prices.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    result = price(COUNTS, written(tmp_path))
    # a: 30 MAC / 2 samples * 1.5 pJ; b: 30 AC / 2 * 0.03 pJ; 40 updates / 2 * 0.25 pJ
    expected = {"a": 22.5e-12, "b": 0.45e-12, "lif": 5e-12}
    assert {row.name: row.energy_j for row in result.rows} == pytest.approx(
        expected, rel=1e-12, abs=0
    )
    assert [row.operation for row in result.rows] == ["MAC", "AC", "update"]
    assert result.total_j == pytest.approx(27.95e-12, rel=1e-12, abs=0)
    assert result.table == "ours-7nm"
    assert result.description == "exact events, 1.5 pJ a MAC, 0.25 pJ an update"


# Of the page of constants, by hand: joules, node, evidence, scope, read second-hand. Adding and
# multiplying in 45 nm is Horowitz's table; a multiply-accumulate is the sum of the two.
PJ = 1e-12
CHIPS = {
    "event-loihi": (23.6 * PJ, None, "simulated", "per_op", True),
    "update-loihi": (81 * PJ, None, "simulated", "per_op", True),
    "event-truenorth": (26 * PJ, None, "unstated", "all_in", True),
    "event-odin": (12.7 * PJ, 28, "measured", "unstated", True),
    "event-spinnaker-survey": (45 * PJ, None, "unstated", "unstated", True),
    "event-spinnaker2-survey": (10 * PJ, None, "unstated", "unstated", True),
    "event-spinnaker-keras": (13.3e-9, None, "unstated", "per_op", False),
    "update-spinnaker-keras": (26e-9, None, "unstated", "per_op", False),
    "event-spinnaker2-keras": (450 * PJ, None, "unstated", "per_op", False),
    "update-spinnaker2-keras": (2.19e-9, None, "unstated", "per_op", False),
}
ARITHMETIC_PJ = {
    "ac-45nm-int8": 0.03,
    "ac-45nm-int32": 0.1,
    "ac-45nm-fp16": 0.4,
    "ac-45nm-fp32": 0.9,
    "mac-45nm-int8": 0.2 + 0.03,
    "mac-45nm-int32": 3.1 + 0.1,
    "mac-45nm-fp16": 1.1 + 0.4,
    "mac-45nm-fp32": 3.7 + 0.9,
}
# SATA_Sim: its multiplication 0.239 pJ and accumulation 0.0389 pJ are one MAC.
TRAINING_PJ = {
    "sop-sata-16bit": 0.0397,
    "mac-sata-16bit": 0.2779,
    "update-sata-16bit": 0.1126,
    "gradient-sata-16bit": 0.2722,
}
BY_HAND = (
    CHIPS
    | {name: (value * PJ, 45, "unstated", "per_op", True) for name, value in ARITHMETIC_PJ.items()}
    | {
        name: (value * PJ, None, "simulated", "per_op", False)
        for name, value in TRAINING_PJ.items()
    }
)


def test_every_constant_is_the_one_of_its_source() -> None:
    assert CONSTANTS.keys() == BY_HAND.keys()
    for name, (joules, *facts) in BY_HAND.items():
        found = CONSTANTS[name]
        assert found.value_j == pytest.approx(joules, rel=1e-12), name
        assert [found.node_nm, found.evidence, found.scope, found.second_hand] == facts, name
        kind, _, precision = name.partition("-")
        per = {"event": "event", "update": "update", "gradient": "update"}
        assert found.per == per.get(kind, "op"), name
        stated = precision.startswith(("45nm-", "sata-"))
        assert found.precision == (precision.partition("-")[2] if stated else None), name


def test_a_table_says_where_a_price_is_from_and_how_it_is_known(tmp_path: Path) -> None:
    price(COUNTS, written(tmp_path))
    sources = {
        "loihi": "Davies et al., Loihi, 2018, Table 2 (simulated, quoted second-hand)",
        "odin": "Frenkel et al., ODIN (measured, quoted second-hand)",
        "spinnaker": "KerasSpiking's table of devices (evidence unstated)",
        "spikformer+int8": "Horowitz, ISSCC 2014 (evidence unstated, quoted second-hand)",
        "ours-7nm": "our synthesis (mac: simulated; ac: evidence unstated, quoted second-hand; "
        "neuron: assumed)",
    }
    for name, source in sources.items():
        (note,) = (note for note in view(price(COUNTS, name)).notes if note.startswith("Energy"))
        assert note.endswith(f"{source}."), note


def test_updates_without_neurons_are_said() -> None:
    without = CountResult(COUNTS.rows, samples=2)
    assert price(without, "loihi").not_billed == ("updates of neurons (no neuron layer was seen)",)


def test_a_file_that_was_edited_counts_as_it_is_now(tmp_path: Path) -> None:
    assert convention_names(written(tmp_path)) == ("ours-7nm",)
    convention_names(written(tmp_path, FILE.replace("1.5", "3")))
    assert find_convention("ours-7nm").mac_j == pytest.approx(3e-12, rel=1e-12, abs=0)


def test_several_in_one_file(tmp_path: Path) -> None:
    second = FILE[FILE.index("[conventions") :].replace("ours-7nm", "more")
    file = written(tmp_path, FILE + second)
    assert convention_names(file) == ("more", "ours-7nm")
    with pytest.raises(SnnprofError, match="holds more, ours-7nm: name one of them"):
        price(COUNTS, file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value_pj = 1.5", "value = 1.5", r"constants\.mac-7nm has no value with its unit"),
        ("value_pj = 1.5", "", r"constants\.mac-7nm has no value with its unit: one of value_j"),
        ("value_pj = 1.5", "value_pj = 1.5\nvalue_j = 1.0", "has both value_j and value_pj"),
        ("value_pj = 1.5", "value_pj = true", "value_pj is True: must be a positive number"),
        ("value_pj = 1.5", "value_pj = -1", "value_pj is -1: must be a positive number"),
        ("value_pj = 1.5", "value_pj = nan", "value_pj is nan: must be a positive number"),
        ('"simulated"', '"hearsay"', "evidence is 'hearsay': must be one of measured"),
        ('formula = "operands"', 'formula = "magic"', "unknown energy formula 'magic'; known"),
        ('mac = "mac-7nm"', 'mac = "mac-3nm"', "ours-7nm.mac: there is no constant 'mac-3nm'"),
        ('mac = "mac-7nm"', 'mul = "mac-7nm"', "ours-7nm has an unknown key 'mul'; known: mac"),
        ('suited_to = "our chip"', "suited_to = 3", "suited_to is 3: must be a text"),
        ('ac = "ac-45nm-int8"', 'ac = "event-odin"', "'event-odin' is of scope 'unstated'"),
        ('ac = "ac-45nm-int8"', 'ac = "event-truenorth"', "of scope 'all_in': neurons are in it"),
        ("node_nm = 7", "second_hand = 1", "second_hand is 1: must be true or false"),
        ('per = "op"', 'per = "byte"', "per is 'byte': must be one of op, event, update"),
        ('per = "op"', 'per = "event"', "'mac-7nm' is per event, and 'mac' is billed per op: name"),
        ('per = "update"', 'per = "op"', "is per op, and 'neuron' is billed per update"),
        ('ac = "ac-45nm-int8"', 'ac = "update-7nm"', "is per update, and 'ac' is billed per op or"),
        ('suited_to = "our chip"', "value = 3", "ours-7nm has an unknown key 'value'"),
        ("\n[constants.mac-7nm]", "value = 3\n[constants.mac-7nm]", "unknown key 'value'"),
        ('mac = "mac-7nm"', "", "description says {mac}, and 'mac' has no price"),
        ('formula = "operands"', 'formula = "dense"', "ours-7nm.ac: formula 'dense' does not bill"),
        ('ac = "ac-45nm-int8"', "", "ours-7nm has no 'ac', which formula 'operands' bills"),
        ("value_pj = 1.5", "value_fj = 1e-320", "value_fj is 1e-320: must be a positive number"),
        ("constants.mac-7nm", "constants.ac-45nm-fp32", "the name is one of ours"),
        ("conventions.ours-7nm", "conventions.operands", "operands is taken, by one of ours"),
        ("conventions.ours-7nm", 'conventions."a+b"', "has no '\\+'"),
        ("[conventions.ours-7nm]", "[convention.ours-7nm]", "unknown key 'convention'"),
        ("[constants.mac-7nm]", "[constants.mac-7nm", "no TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in FILE
    file = written(tmp_path, FILE.replace(old, new))
    with pytest.raises(SnnprofError, match=message) as caught:
        price(COUNTS, file)
    assert str(caught.value).startswith(f"energy file {file!r}")
    assert "\n" not in str(caught.value)
    assert "ours-7nm" not in CONVENTIONS


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SnnprofError, match="No such file"):
        price(COUNTS, str(tmp_path / "none.toml"))
    with pytest.raises(SnnprofError, match=r"no table \[conventions\.NAME\]"):
        price(COUNTS, written(tmp_path, ""))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SnnprofError, match=r"bytes\.toml"):
        price(COUNTS, str(tmp_path / "bytes.toml"))


@pytest.mark.parametrize(
    ("name", "joules"),
    [
        # 30 / 2 samples * (MAC + AC)
        ("operands", 15 * (4.6 + 0.9)),
        ("operands+fp16", 15 * (1.5 + 0.4)),
        ("operands+int32", 15 * (3.2 + 0.1)),
        ("operands+int8", 15 * (0.23 + 0.03)),
        # 120 nominal MACs of the stem and 60 rate-based SOPs, / 2 samples
        ("spikformer+int8", 60 * 0.23 + 30 * 0.03),
        # both layers' 120 nominal MACs
        ("dense", 2 * 60 * 4.6),
        ("dense+int8", 2 * 60 * 0.23),
        # 60 events and 40 updates, / 2 samples
        ("loihi", 30 * 23.6 + 20 * 81),
        ("truenorth", 30 * 26),
        ("odin", 30 * 12.7),
        ("spinnaker", 30 * 13300 + 20 * 26000),
        ("spinnaker2-survey", 30 * 10),
    ],
)
def test_prices(name: str, joules: float) -> None:
    result = price(COUNTS, name)
    assert result.table == name
    assert result.total_j == pytest.approx(joules * 1e-12, rel=1e-12, abs=0)


def test_precisions_that_there_are_not() -> None:
    with pytest.raises(SnnprofError, match="at 'int4': it has them at fp16, fp32, int32, int8"):
        price(COUNTS, "operands+int4")
    with pytest.raises(SnnprofError, match="'loihi' has no prices at 'int8': ask for it without"):
        at_precision(["operands", "loihi"], "int8")
    assert at_precision(["operands", "dense+fp16"], "int8") == ("operands+int8", "dense+fp16")


def test_the_description_has_the_prices_of_the_precision() -> None:
    assert find_convention("dense").description.startswith("4.6 pJ per nominal MAC")
    assert find_convention("dense+int8").description.startswith("0.23 pJ per nominal MAC")


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_on_the_command_line(tmp_path: Path) -> None:
    listed = command("energy-tables", "loihi").output
    assert "loihi: event 23.6 pJ, neuron update 81 pJ" in listed
    assert "23.6 pJ per event (simulated, quoted second-hand, scope per_op)" in listed
    assert "spinnaker: event 13.3 nJ, neuron update 26 nJ" in command("energy-tables").output
    assert "mac-7nm: 1.5 pJ per op (7 nm" in command("energy-tables", written(tmp_path)).output


def test_a_missing_price_is_found_before_anything_runs(tmp_path: Path) -> None:
    text = FILE.replace('ac = "ac-45nm-int8"', "")
    with pytest.raises(SnnprofError, match="has no 'ac', which formula 'operands' bills"):
        snnprof.run(energy=(written(tmp_path, text),), progress=None, data="no such data")


def test_a_run_priced_by_a_file(tmp_path: Path) -> None:
    small = ("--data", "random", "--image-size", 8, "--timesteps", 1, "--epochs", 0, "--mode",
             "stbp", "--repeats", 1, "--batch-size", 2)  # fmt: skip
    file = tmp_path / "out.json"
    ran = command(
        "run", *small, "--energy", written(tmp_path), "--energy", "operands+int8", "-o", file
    )
    assert ran.exit_code == 0, ran.output
    report = snnprof.load(file)
    assert isinstance(report, snnprof.Report)
    assert [e.table for e in report.rows[0].energies] == ["ours-7nm", "operands+int8"]
    at = command("run", *small, "--precision", "int8", "-o", file)
    assert at.exit_code == 0, at.output
    report = snnprof.load(file)
    assert isinstance(report, snnprof.Report)
    assert [e.table for e in report.rows[0].energies] == ["operands+int8"]

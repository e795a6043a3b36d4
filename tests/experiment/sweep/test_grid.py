"""The file of a sweep: every key is checked, lists are axes, equal settings have equal names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

import snnprof
from snnprof.cli.run import run_command
from snnprof.experiment.sweep.grid import read_grid
from snnprof.experiment.sweep.keys import SETTINGS
from tests.support.guides import DOCS

FILE = """
model = ["vgg5", "vgg11"]
neuron = ["lif", "hdlif+four_bit"]
weights = "1bit"
learning_rate = [0.1, 0.05]
energy = ["operands", "hd-lif"]
timesteps = [2, 4]
mode = ["stbp", "online"]
seed = [3, 1]

[variants]
leak = [0.5, 0.25]
"""


def names(**table: Any) -> list[str]:
    return [cell.name for cell in read_grid(table, "rows").cells]


def test_lists_are_axes_and_the_seed_is_the_fastest(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(FILE)
    grid = read_grid(file)
    assert grid.folder == tmp_path / "grid"
    # 2 models * 2 neurons * 2 leaks * 2 learning rates (0.1 is there twice) * 2 T * 2 modes * 2
    assert len(grid.cells) == 128
    assert len({cell.name for cell in grid.cells}) == 128
    first, second, *_ = grid.cells
    usual = {"model": "vgg5", "neuron": "lif", "weights": "1bit", "leak": 0.5, "timesteps": 2}
    energy = ("operands", "hd-lif")  # columns, and no axis
    own = {"learning_rate": 0.1, "energy": energy, "modes": "stbp"}
    assert first.arguments == {**usual, **own, "seed": 3}
    assert second.arguments == {**usual, **own, "seed": 1}
    assert first.name.startswith("vgg5-lif-1bit-stbp-T2-seed3-")
    assert first.shown == {"option learning_rate": "0.1"}
    assert grid.cells[-1].arguments["learning_rate"] == 0.05


def test_settings_that_are_equal_have_one_name() -> None:
    (plain,) = names(model="vgg5")
    assert names(epochs=8, seed=[0], neuron="lif", energy="operands", timesteps=4) == [plain]
    assert names(learning_rate=1) == names(learning_rate=1.0)
    changed = [names(**{key: value})[0] for key, value in CHANGED.items()]
    assert len({plain, *changed}) == 1 + len(CHANGED)


CHANGED: dict[str, Any] = {
    "epochs": 7,
    "learning_rate": 0.1,  # of SGD: given, it is an optimiser's own no longer
    "batch_size": "auto",
    "energy": ["operands", "dense"],
    "mode": "stbp",
    "seed": 1,
    "latency": True,
    "variants": {"leak": 0.25},
    "checkpoint": "a.pt",
}


def test_precision_is_of_every_energy() -> None:
    (cell,) = read_grid({"energy": ["operands", "dense"], "precision": "int8"}, "rows").cells
    assert cell.arguments == {"energy": ("operands+int8", "dense+int8")}


def test_every_option_of_run_has_a_key() -> None:
    options = {option.opts[-1].lstrip("-").replace("-", "_") for option in options_of_run()}
    of_the_table = {"columns", "rows", "explain", "format", "layers", "output", "debug"}
    # A snapshot and ranges are looked at row by row; torchrun runs one row.
    of_one_run = {"fsdp", "memory_snapshot", "nvtx", "sync_bn"}
    assert options - of_the_table - of_one_run == {*SETTINGS, "variant"}  # [variants]


def options_of_run() -> list[click.Option]:
    return [option for option in run_command.params if isinstance(option, click.Option)]


def test_the_first_cell_of_a_network_and_seed_trains_the_dense_one() -> None:
    table = {"model": ["vgg5", "vgg11"], "timesteps": [1, 2], "mode": ["stbp", "online"]}
    cells = read_grid({**table, "seed": [0, 1], "baseline": "dense"}, "rows").cells
    marked = [cell.settings for cell in cells if "baseline" in cell.settings]
    assert [(of["model"], of["seed"], of["mode"], of["timesteps"]) for of in marked] == [
        ("vgg5", 0, "stbp", 1), ("vgg5", 1, "stbp", 1),
        ("vgg11", 0, "stbp", 1), ("vgg11", 1, "stbp", 1),
    ]  # fmt: skip
    # The others are the rows that they were without it.
    plain = read_grid({**table, "seed": [0, 1]}, "rows").cells
    assert len({cell.name for cell in cells} - {cell.name for cell in plain}) == 4


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key of Python": ({"modes": "stbp"}, "unknown key 'modes'; did you mean 'mode'?"),
    "far from all": ({"zzz": 1}, "unknown key 'zzz'; known: model, neuron"),
    "empty": ({"seed": []}, "seed is an empty list: give a value, or leave it out"),
    "text": ({"seed": "0"}, "seed = '0': must be a whole number"),
    "a switch": ({"seed": [0, True]}, "seed = True: must be a whole number"),
    "nan": ({"learning_rate": float("nan")}, "learning_rate = nan: must be a number"),
    "a word": ({"batch_size": "aut"}, "batch_size = 'aut': must be a whole number, or 'auto'"),
    "a table": ({"model": {"a": 1}}, "model = {'a': 1}: must be text"),
    "model": ({"model": ["vgg5", "vgg6"]}, "model: unknown model 'vgg6'; known: "),
    "neuron": ({"neuron": "lif+q"}, "neuron: unknown variant of lif 'q'; known: "),
    "weights": ({"weights": "2bit"}, "weights: unknown weights '2bit'; known: 1.5bit"),
    "mode": ({"mode": "bptt"}, "mode: unknown mode 'bptt'; known: "),
    "timesteps": ({"timesteps": [1, 0]}, "timesteps: timesteps=0: must be at least 1"),
    "seed": ({"seed": -1}, "seed: seed=-1: must be a whole number from 0"),
    "energy": ({"energy": "odinn"}, "energy: unknown energy"),
    "precision": ({"energy": "odin", "precision": "int8"}, "precision: energy"),
    "device": ({"device": "gpu"}, "device: unknown device 'gpu'; known: "),
    "baseline": ({"baseline": "densse"}, "baseline: unknown baseline 'densse'; known: "),
    "two baselines": ({"baseline": ["dense", "quantised"]}, "baseline: one for the whole grid"),
    "baseline apart": ({"baseline": "dense", "isolate": True}, "baseline: the dense network is"),
    "baseline of bits": (
        {"baseline": "quantised", "timesteps": [1, 2], "precision": "int8"},
        "baseline: baseline 'quantised' has its bits by T: give one timesteps",
    ),
    "baseline's price": ({"baseline": "quantised"}, "baseline: baseline 'quantised' has a price"),
    "no table": ({"variants": 3}, "variants = 3: must be a table, [variants]"),
    "no variant": ({"variants": {"seed": 1}}, "variants.seed: this is no variant"),
    "a seed twice": ({"seed": [0, 0]}, "seed 0 is given twice: leave one of them out"),
    "energy twice": ({"energy": ["odin", "odin"]}, "energy 'odin' is given twice"),
    "a variant twice": ({"variants": {"leak": [0.5, 0.5]}}, "variants.leak 0.5 is given twice"),
    "empty variant": ({"variants": {"leak": []}}, "variants.leak is an empty list"),
}


@pytest.mark.parametrize(("table", "message"), WRONG.values(), ids=[*WRONG])
def test_what_is_wrong_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError) as error:
        read_grid(table, "rows")
    assert str(error.value).startswith(f"sweep: {message}")
    assert "\n" not in str(error.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("model = ")
    for path, message in (
        (file, "no TOML: Invalid value"),
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path / "grid.yaml", "give a file NAME.toml"),
    ):
        with pytest.raises(snnprof.SnnprofError) as error:
            read_grid(path)
        assert str(error.value).startswith(f"sweep {str(path)!r}: {message}")
    with pytest.raises(snnprof.SnnprofError, match="the rows of a dict need a place: give folder"):
        read_grid({})


def test_the_files_of_the_guide(tmp_path: Path) -> None:
    text = (DOCS / "sweeps.md").read_text("utf-8")
    grid, variants, cluster = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    file = tmp_path / "grid.toml"
    file.write_text(grid)
    # 2 networks * 2 neurons * 2 kinds of weights * 2 modes * 3 T * 3 seeds
    assert len(read_grid(file).cells) == 144
    assert "the 144 rows" in text
    file.write_text(f"{grid}{variants}{cluster}")
    both = read_grid(file)
    assert len(both.cells) == 288
    assert both.cluster.with_options(None, None).parameters["slurm_account"] == "lab"

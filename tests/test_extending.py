"""The examples of docs/extending.md, run as a user would: from a file outside the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import snnprof
from snnprof import extend
from snnprof.experiment.data_sets import DATA_SETS
from snnprof.render.output_formats import FORMATS, OutputFormat
from snnprof.training.adapters import ADAPTERS, adapt
from snnprof.training.modes import MODES

GUIDE = Path(__file__).parent.parent / "docs" / "extending.md"
NAMED = re.compile(r"extend\.([a-z_]+)\(")


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_examples_run_one_after_another(tmp_path: Path) -> None:
    script = tmp_path / "my_extensions.py"
    script.write_text("\n".join(examples()))
    ran = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_registry_has_an_example() -> None:
    tools = {"pack_bits", "pack_trits", "unpack_bits", "unpack_trits"}
    registries = {name for name in extend.__all__ if name.islower()} - tools
    used = {name for text in examples() for name in NAMED.findall(text)}
    assert registries - used == {"mode_family"}  # its twin, training_mode, has one


def test_an_example_that_fails_is_seen(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(examples()[0].replace("2 * 3", "2 * 3 + 1"))
    ran = subprocess.run(
        [sys.executable, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "AssertionError" in ran.stderr


@pytest.mark.parametrize(
    ("register", "taken"),
    [
        (extend.neuron, "lif"),
        (extend.training_mode, "stbp"),
        (extend.mode_family, "sltt"),
        (extend.loss, "sum"),
        (extend.data_set, "digits"),
        (extend.adapter, "norse"),
        (extend.surrogate, "triangle"),
        (extend.output_format, ".md"),
        (extend.size_accounting, "packed"),
        (extend.weight_codec, "1bit"),
        (extend.weight_scheme, "1.5bit"),
    ],
)
def test_a_name_that_is_taken_raises(register, taken: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"'{taken}' is already registered"):
        register(taken)(lambda *_: None)


REGISTERING = """
import torch
import snnprof
import snnprof
from snnprof import extend

@extend.output_format(".modes")
def modes(result):
    return " ".join(row.mode for row in result.rows)

@extend.training_mode("theirs")
def theirs(batch):
    batch.begin()
    loss = batch.loss(batch.forward_sequence().mean(0))
    batch.backward(loss)
    batch.update()
    return loss.detach()

def build(timesteps):
    return snnprof.models.create("vgg5", timesteps=timesteps, in_channels=1, image_size=8)
"""


def test_the_command_knows_what_the_models_module_registers(tmp_path: Path) -> None:
    (tmp_path / "my_network.py").write_text(REGISTERING)
    command = [sys.executable, "-m", "snnprof", "run", "--model=my_network:build"]
    fast = ["--timesteps=1", "--epochs=0", "--repeats=1", "--batch-size=8", "-om.modes"]
    ran = subprocess.run(
        [*command, "--mode=theirs", *fast],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "theirs" in ran.stdout
    assert (tmp_path / "m.modes").read_text() == "theirs"


@pytest.mark.parametrize(
    ("register", "wrong", "message"),
    [
        (extend.neuron, len, "a neuron is registered under a name in quotes"),
        (extend.training_mode, len, "a mode is registered under a name in quotes"),
        (extend.data_set, "", "a data set is registered under a name in quotes"),
        (extend.linear_operation, len, "a linear operation needs a name in quotes"),
        (extend.neuron_equations, "LIF", "a neuron is registered for a class, not 'LIF'"),
    ],
)
def test_a_decorator_without_its_parentheses_is_refused(register, wrong, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        register(wrong)


def test_what_an_extension_returns_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(DATA_SETS, "seven", lambda image_size, seed: 7)
    monkeypatch.setitem(MODES, "nothing", lambda batch: None)
    monkeypatch.setitem(FORMATS, ".seven", OutputFormat(lambda result: 7))
    fast = {"epochs": 0, "repeats": 1, "batch_size": 8, "timesteps": 1}
    with pytest.raises(snnprof.SnnprofError, match="data set 'seven' returned a int"):
        snnprof.run(data="seven")
    with pytest.raises(snnprof.SnnprofError, match="mode 'nothing' returned a NoneType"):
        snnprof.run(modes="nothing", **fast)
    with pytest.raises(snnprof.SnnprofError, match=r"x\.seven': its format gave a int"):
        snnprof.save(snnprof.CountResult((), 1), tmp_path / "x.seven")
    assert not (tmp_path / "x.seven").exists()
    monkeypatch.setitem(ADAPTERS, "torch", lambda model: None)
    with pytest.raises(snnprof.SnnprofError, match="adapter of 'torch' returned a NoneType"):
        adapt(torch.nn.Linear(2, 2))

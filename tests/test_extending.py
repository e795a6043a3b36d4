"""The examples of docs/extending.md, run as a user would: from a file outside the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from snnprof import extend

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
    registries = {name for name in extend.__all__ if name.islower()}
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
    ],
)
def test_a_name_that_is_taken_raises(register, taken: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"'{taken}' is already registered"):
        register(taken)(lambda *_: None)


REGISTERING = """
import torch
import snnprof
from snnprof import extend

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
    fast = ["--mode=theirs", "--timesteps=1", "--epochs=0", "--repeats=1", "--batch-size=8"]
    ran = subprocess.run(
        [*command, *fast], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "theirs" in ran.stdout

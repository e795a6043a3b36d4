"""The commands of `make reports` and of reports/README.md are commands that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from snnprof.cli.main import cli
from snnprof.models import options_of
from snnprof.render.report_columns import columns_of
from snnprof.results import Report, ReportRow
from snnprof.spiking.neuron_registry import neuron_maker
from snnprof.training.modes import find_mode

ROOT = Path(__file__).parents[1]
README = (ROOT / "reports" / "README.md").read_text("utf-8")


def made_by(make: str) -> list[list[str]]:
    """The arguments of every call of snnprof that a make command would run."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    command = [*shlex.split(make), "-n", "READY="]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    calls = [shlex.split(line) for line in lines if "/snnprof " in line]
    return [words[1:] for words in calls]


def blocks() -> Iterator[str]:
    """Commands in the code blocks of the README, a line each."""
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


MAKE = ["make reports", *(line for line in blocks() if line.startswith("make "))]


def check(name: str, arguments: list[str]) -> None:
    """Parse it, and find what it names; fail for what is not there."""
    command = cli.commands[name]
    with command.make_context(name, list(arguments)) as context:
        given = context.params
    for neuron in given.get("neurons", ()):
        neuron_maker(neuron, 4)
    for mode in given.get("modes", ()):
        find_mode(mode)
    for model in given.get("model", ()):
        options_of(model)
    known = {column.key for column in columns_of(Report((ReportRow(""),)))} | {"energy"}
    assert set(given["columns"] or ()) <= known


@pytest.mark.parametrize("make", MAKE)
def test_every_command_of_make_is_one_that_there_is(make: str) -> None:
    calls = made_by(make)
    assert [call[0] for call in calls] == ["run", "run", "merge"] * 2 + ["run", "merge"]
    for name, *arguments in calls:
        check(name, arguments)


def test_there_is_a_command_for_cifar_100_and_for_imagenet() -> None:
    assert [re.findall(r"NAME=(\w+)", make) for make in MAKE] == [[], ["cifar100"], ["imagenet"]]


def test_the_merging_of_trainings_is_a_command_that_there_is() -> None:
    (line,) = (line for line in blocks() if line.startswith("snnprof merge"))
    _, name, *arguments = shlex.split(line)
    check(name, arguments)


def test_a_command_that_there_is_not_would_be_seen() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        check("merge", ["a.json", "--colums=neuron"])
    with pytest.raises(AssertionError):
        check("merge", ["a.json", "--columns=neurone"])

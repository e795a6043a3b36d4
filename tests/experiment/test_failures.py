"""Rows that fail keep the others: they say why, and what is finished is reported."""

import csv
import sys
from pathlib import Path

import pytest

import snnprof
from snnprof.experiment.run import run

from ..support.commands import call, refused

# A network that does something else at T = 3, in training or on more than two images.
THEIRS = """
import sys
import torch
from torch import nn
from snnprof.models import create

class Odd(nn.Module):
    def __init__(self, timesteps, where, action):
        super().__init__()
        self.inner = create("vgg5", timesteps=timesteps, in_channels=1, image_size=8)
        self.odd = timesteps == 3
        self.where, self.action = where, action

    def forward(self, x):
        if self.odd and self.where == ("train" if self.training else "count") and x.shape[1] > 2:
            self.action(self)
        return self.inner(x)

def raise_key(model):
    raise KeyError("x")

def leave(model):
    sys.exit(3)

def interrupt(model):
    raise KeyboardInterrupt

def break_weights(model):
    model.inner.features[0][0].weight.data.fill_(torch.nan)

def key_in_training(timesteps):
    return Odd(timesteps, "train", raise_key)
def key_in_counting(timesteps):
    return Odd(timesteps, "count", raise_key)
def exit_in_training(timesteps):
    return Odd(timesteps, "train", leave)
def diverging(timesteps):
    return Odd(timesteps, "train", break_weights)
def stopped_in_training(timesteps):
    return Odd(timesteps, "train", interrupt)
def stopped_in_counting(timesteps):
    return Odd(timesteps, "count", interrupt)
def exits(timesteps):
    sys.exit("usage: theirs")
"""
FAST = ["--mode=stbp", "--timesteps=2,3,1", "--epochs=1", "--batch-size=512"]


@pytest.fixture(autouse=True)
def _theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("theirs_failing", "theirs_loading"):  # each test has a file of its own
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs_failing.py").write_text(THEIRS)


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("t.csv").open()))


def failures() -> list[str]:
    return [row["failure"] for row in rows()]


@pytest.mark.parametrize(
    ("builder", "failure"),
    [
        ("key_in_training", "theirs_failing.py:20: KeyError: 'x'"),
        ("key_in_counting", "theirs_failing.py:20: KeyError: 'x' while counting"),
        ("exit_in_training", "theirs_failing.py:23: SystemExit: 3"),
        (
            "diverging",
            "diverged: inner.features.0.0.weight is not finite after step 2 (epoch 1): look for "
            "NaN in the data, or try a lower learning_rate",
        ),
    ],
)
def test_a_row_that_fails_says_why_and_the_others_stand(builder: str, failure: str) -> None:
    result = call("run", f"--model=theirs_failing:{builder}", *FAST, "-ot.csv", "-ot.md")
    assert result.exit_code == 1, result.output
    name = f"theirs_failing:{builder} stbp T3"
    assert result.stderr == f"Error: 1 of 3 rows failed: {name}: {failure}\n"
    assert failures() == ["", failure, ""]
    first, second, third = rows()
    assert second["synops"] == second["accuracy"] == ""
    assert float(first["synops"]) > 0 < float(third["synops"])
    note = f"{name}: {failure}; what is empty in its row was not measured."
    assert note in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize("debug", [["--debug", "run"], ["run", "--debug"]])
def test_debug_shows_the_traceback_of_a_row(debug: list[str]) -> None:
    result = call(*debug, "--device=cpu", "--model=theirs_failing:key_in_counting", *FAST)
    assert result.exit_code == 1, result.output
    assert "theirs_failing:key_in_counting stbp T3:\nTraceback (most recent call" in result.stderr
    assert 'theirs_failing.py", line 20, in raise_key' in result.stderr


def test_debug_shows_the_traceback_of_an_error() -> None:
    run = ("run", "--model=theirs_failing:exits", "--epochs=0")
    number = THEIRS.splitlines().index('    sys.exit("usage: theirs")') + 1
    line = f"Error: model 'theirs_failing:exits': its builder failed: theirs_failing.py:{number}: "
    assert refused(*run).startswith(line + "SystemExit: usage: theirs")
    result = call(*run, "--debug")
    assert result.exit_code == 2
    assert "SystemExit: usage: theirs" in result.stderr.split("Error: model")[0]
    assert result.stderr.splitlines()[-1].startswith(line)


def test_ctrl_c_reports_what_is_finished() -> None:
    result = call("run", "--model=theirs_failing:stopped_in_counting", *FAST, "-ot.csv")
    assert result.exit_code == 130, result.output
    assert result.stderr == "Interrupted: what was finished is written and printed.\n"
    assert failures() == ["", "interrupted", "interrupted"]
    first, *others = rows()
    assert float(first["synops"]) > 0
    assert [row["synops"] for row in others] == ["", ""]
    assert "stbp T3: interrupted; what is empty in its row was not measured." in result.stdout


def test_ctrl_c_before_anything_is_finished_writes_nothing() -> None:
    result = call("run", "--model=theirs_failing:stopped_in_training", *FAST, "-ot.csv")
    assert result.exit_code == 130
    assert "Stopped; what is written is whole." in result.stderr
    assert result.stdout == ""
    assert not Path("t.csv").exists()


def test_from_python_the_report_has_the_failures_in_it() -> None:
    report = run(
        "theirs_failing:key_in_training", modes="stbp", timesteps=(3,), epochs=1,
        batch_size=512, device="cpu",
    )  # fmt: skip
    assert [row.failure for row in report.rows] == ["theirs_failing.py:20: KeyError: 'x'"]
    assert not report.interrupted
    stopped = run(
        "theirs_failing:stopped_in_training", modes="stbp", timesteps=(2, 3), epochs=1,
        batch_size=512, device="cpu",
    )  # fmt: skip
    assert stopped.interrupted
    assert [row.failure for row in stopped.rows] == ["interrupted", "interrupted"]
    report.save("t.json")
    assert snnprof.load("t.json") == report


def test_where_all_rows_fail_the_first_reason_is_the_error() -> None:
    fast = [argument.replace("2,3,1", "3") for argument in FAST]
    message = refused("run", "--model=theirs_failing:key_in_training", *fast, "-ot.csv")
    said = "theirs_failing:key_in_training stbp T3: theirs_failing.py:20: KeyError: 'x'"
    assert message == f"Error: {said}\n"
    assert not Path("t.csv").exists()


@pytest.mark.parametrize(
    ("builder", "failure"),
    [
        ("key_in_training", "theirs_failing.py:20: KeyError: 'x'"),
        ("diverging", "diverged: inner.features.0.0.weight is not finite after step 2 (epoch 1)"),
    ],
)
def test_a_pass_of_its_own_stops_for_no_row(builder: str, failure: str) -> None:
    """Time and memory are of fresh models: those fail too, and the first reason stays."""
    result = call("run", f"--model=theirs_failing:{builder}", *FAST, "--repeats=1", "-ot.csv")
    assert result.exit_code == 1, result.output
    first, second, third = rows()
    assert second["failure"].startswith(failure)
    assert second["peak_bytes"] == second["step_median_s"] == ""
    assert float(first["peak_bytes"]) > float(third["peak_bytes"]) > 0


def test_the_search_for_a_batch_stops_for_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnprof.experiment.stages.free_bytes", lambda device: 40 * 2**20)
    fast = ["--mode=stbp", "--timesteps=3,1", "--epochs=0", "--batch-size=auto"]
    result = call("run", "--model=theirs_failing:key_in_training", *fast, "-ot.csv")
    assert result.exit_code == 1, result.output
    assert failures() == ["theirs_failing.py:20: KeyError: 'x'", ""]


def test_a_price_that_fails_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def price(*_: object) -> None:
        raise ZeroDivisionError("no joules")

    monkeypatch.setattr("snnprof.experiment.stages.price", price)
    report = run(modes="stbp", timesteps=1, epochs=0, data="random", device="cpu")
    (row,) = report.rows
    assert row.failure is not None
    assert "ZeroDivisionError: no joules while counting" in row.failure


LOADERS = """
import torch

def batches(fail_at):
    for number in range(4):
        if number == fail_at:
            raise KeyError("no label")
        yield torch.randn(16, 1, 8, 8), torch.arange(16) % 10

def at_the_third():
    return (lambda: batches(2)), (lambda: batches(None))
def at_the_first():
    return (lambda: batches(0)), (lambda: batches(None))
def in_the_test():
    return (lambda: batches(None)), (lambda: batches(2))
"""
PLACE = "theirs_loading.py:7: KeyError: 'no label'"


@pytest.mark.parametrize(
    ("loader", "failure"),
    [
        ("at_the_first", f"data 'theirs_loading:at_the_first' failed: {PLACE}"),
        ("at_the_third", f"vgg5 lif fp32 stbp T1: {PLACE} while loading a training batch"),
        ("in_the_test", f"vgg5 lif fp32 stbp T1: {PLACE} while counting"),
    ],
)
def test_a_loader_that_fails_names_file_and_line(loader: str, failure: str) -> None:
    Path("theirs_loading.py").write_text(LOADERS)
    message = refused(
        "run", f"--data=theirs_loading:{loader}", "--steps=4", "--epochs=1", "--mode=stbp",
        "--timesteps=1",
    )  # fmt: skip
    assert message.startswith(f"Error: {failure}")

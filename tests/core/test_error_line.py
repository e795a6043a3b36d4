"""Errors in one line, with the place in the user's own code."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnprof
from snnprof.core.error_line import one_line
from snnprof.core.errors import reason_of

MODULE = """\
import json
import torch
import snnprof

def missing():
    return {}["x"]

def inside_torch():
    return torch.zeros(2) @ torch.zeros(3)

def inside_torchs_python():
    return torch.nn.Linear(2, 3)(torch.zeros(5))

def inside_the_standard_library():
    return json.loads("{")

def inside_ours():
    return snnprof.models.create("vgg5", timesteps=2, image_size=8)(7)

class Mute(Exception):
    def __str__(self):
        raise ValueError

def mute():
    raise Mute

def several_lines():
    raise RuntimeError("one\\n  two")

def leaves():
    raise SystemExit(3)

def bare():
    assert False
"""


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("missing", "theirs_in_error.py:6: KeyError: 'x'"),
        ("inside_torch", "theirs_in_error.py:9: RuntimeError: "),
        ("inside_torchs_python", "theirs_in_error.py:12: RuntimeError: mat1 and mat2"),
        ("inside_the_standard_library", "theirs_in_error.py:15: JSONDecodeError: "),
        ("inside_ours", "theirs_in_error.py:18: "),
        ("mute", "theirs_in_error.py:25: Mute"),
        ("several_lines", "theirs_in_error.py:28: RuntimeError: one two"),
        ("leaves", "theirs_in_error.py:31: SystemExit: 3"),
        ("bare", "theirs_in_error.py:34: AssertionError"),
    ],
)
def test_the_place_is_in_the_users_own_code(
    function: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(compile(MODULE, str(tmp_path / "theirs_in_error.py"), "exec"), namespace)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        namespace[function]()
    said = one_line(without_this_file(caught.value))
    assert said.startswith(line)
    assert "\n" not in said


def without_this_file(error: BaseException) -> BaseException:
    return error.with_traceback(error.__traceback__.tb_next)


def test_a_file_that_cannot_be_read_as_python_is_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_python_here.py").write_text("x = 1\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SyntaxError) as caught:
        importlib.import_module("no_python_here")
    assert one_line(caught.value) == "no_python_here.py:2: SyntaxError: invalid syntax"


def test_without_code_of_the_users_there_is_no_place() -> None:
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 3)(torch.zeros(5))
    error = without_this_file(caught.value)
    assert one_line(error).startswith("RuntimeError: mat1 and mat2")
    assert one_line(KeyError("x")) == "KeyError: 'x'"


def test_our_own_errors_are_their_message() -> None:
    assert one_line(snnprof.SnnprofError("unknown mode\n'x'")) == "unknown mode 'x'"


def test_an_installed_package_is_a_place_where_there_is_no_other(tmp_path: Path) -> None:
    path = tmp_path / "site-packages" / "package" / "neuron.py"
    namespace: dict[str, object] = {}
    exec(compile("def f():\n    return {}['x']", str(path), "exec"), namespace)
    with pytest.raises(KeyError) as caught:
        namespace["f"]()
    # the user's line is nearer to what the user can mend
    assert f"{Path(__file__).name}:" in one_line(caught.value)
    assert one_line(without_this_file(caught.value)) == f"{path}:2: KeyError: 'x'"


def test_a_file_that_cannot_be_used_in_the_systems_words() -> None:
    for error, words in (
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (OSError("the disc is gone"), "the disc is gone"),  # it has no number, and no strerror
        (ValueError("embedded null byte"), "embedded null byte"),
    ):
        assert reason_of(error) == words

"""Rows in processes of their own: whatever one does, the others stand."""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import snnprof
from snnprof.experiment.isolation import in_processes
from snnprof.experiment.settings import Progress

THEIRS = """
import os
import signal
import sys
import time
import snnprof

class NotSent(Exception):
    def __init__(self):
        super().__init__(lambda: None)  # cannot be pickled
    def __str__(self):
        return "stays at home"

def run(modes, progress):
    actions = {
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "ended": lambda: os._exit(7),
        "leaves": lambda: sys.exit(3),
        "key": lambda: {}["x"],
        "not sent": fail,
        "sleeps": lambda: time.sleep(600),
        "stands": lambda: None,
    }
    actions[modes]()
    return snnprof.Report((snnprof.ReportRow("m", None, None, modes, 1),), notes=("all", modes))

def fail():
    raise NotSent
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., snnprof.Report]:
    (tmp_path / "theirs_isolated.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("theirs_isolated")
    return importlib.reload(module).run  # type: ignore[no-any-return]


def parts(*modes: str) -> list[tuple[snnprof.ReportRow, dict[str, object]]]:
    return [(snnprof.ReportRow("m", None, None, mode, 1), {"modes": mode}) for mode in modes]


def test_whatever_a_process_does_the_others_stand(theirs: Callable[..., snnprof.Report]) -> None:
    done: list[int] = []
    tracebacks: list[str] = []
    progress = Progress(
        start=done.append,
        advance=lambda: done.append(1),
        failed=lambda name, text: tracebacks.append(text),
    )
    modes = ("killed", "key", "not sent", "leaves", "ended", "stands")
    report = in_processes(theirs, {}, parts(*modes), progress)
    assert {row.mode: row.failure for row in report.rows} == {
        "killed": "process killed",
        "key": "theirs_isolated.py:19: KeyError: 'x'",
        "not sent": "theirs_isolated.py:28: NotSent: stays at home",
        "leaves": "theirs_isolated.py:18: SystemExit: 3",
        "ended": "its process ended with exit code 7",
        "stands": None,
    }
    assert done == [6, 1, 1, 1, 1, 1, 1]
    assert "m killed T1: process killed, as it is when memory runs out." in report.notes
    assert "m key T1: theirs_isolated.py:19: KeyError: 'x'." in report.notes
    assert [note for note in report.notes if note in ("all", "stands")] == ["all", "stands"]
    assert not report.interrupted
    assert any("Traceback (most recent call last)" in text for text in tracebacks)


def test_where_every_process_is_killed_every_row_says_so(
    theirs: Callable[..., snnprof.Report],
) -> None:
    report = in_processes(theirs, {}, parts("killed"), Progress())
    assert [row.failure for row in report.rows] == ["process killed"]


def test_ctrl_c_ends_the_process_at_work_and_begins_no_other(
    theirs: Callable[..., snnprof.Report],
) -> None:
    def press_ctrl_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0, lambda: None)

    def advance() -> None:  # the first row is done; the second is loading, or asleep
        nonlocal timer
        timer = threading.Timer(6.0, press_ctrl_c)
        timer.start()

    once = iter((advance,))
    progress = Progress(advance=lambda: next(once, lambda: None)())
    report = in_processes(theirs, {}, parts("stands", "sleeps", "stands"), progress)
    timer.join()
    assert report.interrupted
    first, second, third = (row.failure for row in report.rows)
    assert first is None
    assert second in ("interrupted", "interrupted before it ran")  # on a machine that busy
    assert third == "interrupted before it ran"


def test_what_cannot_be_handed_over_is_one_line() -> None:
    def local(modes: str, progress: Progress) -> None: ...

    with pytest.raises(snnprof.SnnprofError, match="cannot be handed to another process"):
        in_processes(local, {}, parts("stands"), Progress())

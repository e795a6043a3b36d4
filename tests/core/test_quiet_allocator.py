"""One message of torch's allocator, kept from standard error; nothing else is."""

import os
import subprocess

import pytest
import torch

from snnprof.core.quiet_allocator import quiet_allocator
from snnprof.profiling.step_memory import allocation_profiler

LINE = b"[W1125 a.cpp:1] Memory block of unknown size was allocated before the profiling started\n"


def test_the_line_is_taken_out_and_no_other_one(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_allocator():
        for piece in (b"one\n", LINE, b"[W other\n", LINE[:20], LINE[20:], b"tw", b"o\n[", b"W]x"):
            os.write(2, piece)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "one\n[W other\ntwo\n[W]xafter\n"


def test_it_is_put_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.fstat(2).st_ino
    with pytest.raises(ZeroDivisionError), quiet_allocator():
        _ = os.write(2, b"half") // 0
    assert os.fstat(2).st_ino == before
    assert capfd.readouterr().err == "half"


def test_without_standard_error_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    with quiet_allocator():
        pass


def test_a_process_that_outlives_the_block_keeps_its_messages(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_allocator():
        child = subprocess.Popen(["sh", "-c", "sleep 0.1; echo late >&2"])
    child.wait()
    assert capfd.readouterr().err == "late\n"


def test_the_profiler_of_memory_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    held = [torch.ones(10)]  # allocated before it starts
    with allocation_profiler():
        held.clear()
    assert capfd.readouterr().err == ""

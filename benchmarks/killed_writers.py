"""Processes that are killed while they write, and what is left in their folder.

A process is forked for each kill: torch is imported once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from damaged_files import report

import snnprof
from snnprof.cli.main import main

OLD = "The old one."
FILES = ("table.json", "table.md")


def saving(folder: Path) -> None:
    """Save reports of several sizes, one after the other, for ever."""
    whole = report()
    for turn in range(1_000_000):
        notes = (f"Turn {turn}.",) * (1 + 100 * (turn % 20))
        for name in FILES:
            snnprof.save(replace(whole, notes=notes), folder / name)


def showing(folder: Path) -> None:
    """``snnprof show``, one after the other, for ever."""
    source = folder.parent / "source.json"
    snnprof.save(report(), source)
    while True:
        _command("show", str(source), *(f"-o{folder / name}" for name in FILES))


def running(folder: Path) -> None:
    """``snnprof run``, once."""
    small = "--data=random --epochs=0 --timesteps=1 --mode=stbp --image-size=8 --device=cpu"
    _command("run", *small.split(), *(f"-o{folder / name}" for name in FILES))


def _command(*arguments: str) -> None:
    sys.argv = ["snnprof", *arguments]
    try:
        main()
    except SystemExit as done:
        if done.code == 130:  # told to end
            raise


def killed(
    work: Callable[[Path], None], number: signal.Signals, after_s: float, folder: Path
) -> list[str]:
    """Start the work in a process, send it a signal, and say what is wrong in its folder.

    Args:
        work: writes files of ours to a folder.
        number: of the signal.
        after_s: seconds until then.
        folder: empty.
    """
    old = replace(report(), notes=(OLD,))
    for name in FILES:
        snnprof.save(old, folder / name)
    before = {name: (folder / name).read_bytes() for name in FILES}
    with _process(work, folder) as process:
        time.sleep(after_s)
        with suppress(ProcessLookupError):
            os.kill(process, number)
    wrong = [f"{name} is half written" for name in FILES if not _whole(folder / name, before[name])]
    left = sorted({file.name for file in folder.iterdir()} - {*FILES})
    if number == signal.SIGTERM and left:
        wrong.append(f"{left} left")
    for file in folder.iterdir():
        file.unlink()
    return wrong


@contextmanager
def _process(work: Callable[[Path], None], folder: Path) -> Iterator[int]:
    process = os.fork()
    if not process:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with suppress(BaseException):
            work(folder)
        os._exit(0)
    try:
        yield process
    finally:
        os.waitpid(process, 0)


def _whole(file: Path, before: bytes) -> bool:
    """The old file, or a new one with its beginning and its end."""
    content = file.read_bytes()
    if content == before:
        return True
    if file.suffix == ".json":
        try:
            snnprof.load(file)  # its checksum too
        except snnprof.SnnprofError:
            return False
        return True
    return content.startswith(before[:10]) and content.endswith(b"\n") and len(content) > 200


WORKS: dict[str, tuple[Callable[[Path], None], float]] = {
    "snnprof.save, in a loop": (saving, 0.1),
    "snnprof show -o, in a loop": (showing, 0.3),
    "snnprof run -o": (running, 2.0),
}


def kill_many(
    name: str, number: signal.Signals, times: int, seed: int, folder: Path
) -> tuple[Counter[str], list[str]]:
    """Kill processes at random moments: how many were right, and what was wrong."""
    work, within_s = WORKS[name]
    chance = random.Random(f"{name} {number} {seed}")
    found: Counter[str] = Counter()
    wrong: list[str] = []
    (folder / "files").mkdir(exist_ok=True)
    torch.set_num_threads(1)  # a forked process has no other ones
    for _ in range(times):
        said = killed(work, number, chance.uniform(0, within_s), folder / "files")
        found["wrong" if said else "right"] += 1
        wrong += said
    return found, wrong

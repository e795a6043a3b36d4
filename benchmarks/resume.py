"""Trainings killed at random moments and taken up again, against one that was never killed.

    python benchmarks/resume.py > reports/resume.md

Each is a process of its own that SIGKILL ends, several times; afterwards everything that the last
checkpoint holds, and every epoch's figures but the times, are compared bit for bit. In some, the
kill comes inside the writing of a file: with half of it written, before it is moved into place,
and right after.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import table

from snnprof.cli.main import main as main_of_snnprof
from snnprof.core.environment import describe

EPOCHS = 6
TIMED = ("images_per_s", "seconds")
TRAIN = (
    "--mode=random-bp", "--timesteps=2", f"--epochs={EPOCHS}", "--device=cpu",
    "--batch-size=128", "--augmentation=flip", "--label-smoothing=0.1", "--warmup-epochs=1",
)  # fmt: skip
WORDS = """\
vgg5 on the digits, killed by SIGKILL at the moments below (seconds after it began, or the
number of the file that it was writing) and started again, against one that was never
killed. Alike: everything in the last checkpoint (weights, optimiser, schedule, generators)
and each epoch's figures but the times, bit for bit. Left: half-written files at the end.
"""
PLACES = ("half written", "not moved", "moved")


def arguments(folder: Path) -> list[str]:
    return ["train", *TRAIN, "--resume", f"-o{folder}"]


def kill_in_a_write(place: str, number: int) -> None:
    """Let this process kill itself at the n-th file that it writes, at one of three places."""
    move, written = os.replace, 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replace(source: str, target: str) -> None:
        nonlocal written
        written += 1
        if written == number and place == "half written":
            os.truncate(source, Path(source).stat().st_size // 2)
        if written == number and place != "moved":
            kill()
        move(source, target)
        if written == number:
            kill()

    os.replace = replace  # type: ignore[assignment]


def run(
    folder: Path, after_s: float | None = None, in_write: tuple[str, int] | None = None
) -> bool:
    """Train in a process of its own; whether it was killed, after so many seconds or in a write.

    Forked, so that ten attempts do not import torch forty times; nothing has been computed in the
    parent by then.
    """
    process = os.fork()
    if not process:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        if in_write is not None:
            kill_in_a_write(*in_write)
        sys.argv = ["snnprof", *arguments(folder)]
        try:
            main_of_snnprof()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(0)
    start = time.perf_counter()
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if after_s is not None and time.perf_counter() - start > after_s:
            os.kill(process, signal.SIGKILL)
            after_s = None
        time.sleep(0.01)
    status = os.waitstatus_to_exitcode(ended[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"snnprof train ended with {status}")
    return status != 0


def epochs_in(folder: Path) -> int:
    """Epochs of the last checkpoint; 0 before there is any."""
    file = folder / "last.pt"
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    return len(json.loads(state["snnprof"])["training"]["epochs"])


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two states differ, bit for bit."""
    if isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            yield where
        for key in one.keys() - {"snnprof"}:  # holds times
            yield from differences(one[key], other.get(key), f"{where}/{key}")
    elif isinstance(one, list | tuple):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{where}/{place}")
    elif one != other:
        yield where


def figures(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "epochs.csv").open())
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def attempt(
    folder: Path, draw: random.Random, whole: Path, seconds: float, inside: bool
) -> list[str]:
    """Kill a training two to four times, then let it end; a line of the table."""
    moments: list[str] = []
    while not moments:  # where it ended before its time, it begins again and is killed earlier
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(draw.randint(2, 4)):
            if inside:
                place, number = draw.choice(PLACES), draw.randint(1, 12)
                killed, moment = run(folder, in_write=(place, number)), f"file {number} {place}"
            else:
                after_s = draw.uniform(0.1, 0.9) * seconds
                killed, moment = run(folder, after_s), f"{after_s:.2f} s"
            if not killed:
                break
            moments.append(f"{moment} (epoch {epochs_in(folder)})")
        seconds /= 2
    assert not run(folder), "nobody killed it"
    states = [torch.load(place / "last.pt", weights_only=True) for place in (folder, whole)]
    differing = list(differences(*states))
    alike = not differing and figures(folder) == figures(whole)
    left = len([*folder.glob(".*")])
    return ["; ".join(moments), str(left), "yes" if alike else f"NO: {differing[:3]}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--attempts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        start = time.perf_counter()
        run(whole)
        seconds = time.perf_counter() - start
        for number in range(options.attempts):
            inside = number % 2 == 1
            folder = Path(name) / f"killed{number}"
            cells = attempt(folder, draw, whole, seconds, inside)
            rows.append([str(number + 1), *cells])
            print(f"{number + 1}: {cells}", file=sys.stderr)
    good = sum(row[-1] == "yes" for row in rows)
    print("# Trainings that were killed\n")
    print(f"```\nsnnprof {' '.join(arguments(Path('DIR')))}\n```\n")
    print(WORDS)
    table(["attempt", "killed at (epochs in the checkpoint)", "left", "alike"], rows)
    versions = "; ".join(f"{key}: {value}" for key, value in describe(torch.device("cpu")).items())
    print(f"{good} of {len(rows)} alike. {versions}.")
    if good < len(rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

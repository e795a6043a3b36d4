"""Damaged files read, and processes killed while they write; writes reports/files.md.

    nice python benchmarks/files.py [--inputs N] [--kills K] [--seed S]

Nothing may end but as ``damaged_files.py`` and ``killed_writers.py`` say; the exit status is 1
where something did.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from damaged_files import AS_IT_SAYS, EQUAL, REFUSED, kinds, tried
from killed_writers import WORKS, kill_many

from snnprof.core.environment import describe

REPORT = Path(__file__).resolve().parents[1] / "reports" / "files.md"
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begun = time.monotonic()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        lines = [*_damaged(asked.inputs, asked.seed, Path(folder), wrong)]
        lines += _killed(asked.kills, asked.seed, Path(folder), wrong)
    machine = ", ".join(f"{name}: {what}" for name, what in describe(torch.device("cpu")).items())
    lines += [
        *(f"- WRONG: {line}" for line in wrong),
        "",
        f"{machine}. Made by `python benchmarks/files.py --inputs {asked.inputs} --kills "
        f"{asked.kills} --seed {asked.seed}` in {time.monotonic() - begun:.0f} s.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    REPORT.write_text(text, "utf-8")
    return 1 if wrong else 0


def _damaged(inputs: int, seed: int, folder: Path, wrong: list[str]) -> Iterator[str]:
    """The table of damaged files."""
    yield "# Files that nothing breaks\n"
    yield (
        f"{inputs:,} damaged files: bytes flipped, cut off, put in; values of another type, keys "
        "twice, brackets 1,000 and 100,000 deep, numbers of 5,000 digits, infinity, 100,000 "
        "dimensions. Each is refused in one line, or gives what the whole file holds. Where there "
        "is no checksum (prices are written by hand; a report may have its line taken out), a "
        "damage that leaves a sensible value is read as it says.\n"
    )
    yield "| file | damaged | refused in one line | equal to the original | as it says | wrong |"
    yield "|---|---:|---:|---:|---:|---:|"
    every = kinds(folder)
    for place, kind in enumerate(every):
        share = inputs // len(every) + (place < inputs % len(every))
        found = tried(kind, share, seed, folder, wrong.append)
        cells = (share, *(found[name] for name in (REFUSED, EQUAL, AS_IT_SAYS, "wrong")))
        yield f"| {kind.name} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def _killed(kills: int, seed: int, folder: Path, wrong: list[str]) -> Iterator[str]:
    """The table of processes killed."""
    yield (
        "\nProcesses ended at a random moment while they write a .json and a .md over older ones. "
        "Right: each file is the old or a new one, whole; after SIGTERM there is no other file. "
        "(After SIGKILL, which no program can answer, a temporary file may stay.)\n"
    )
    yield "| process | signal | killed | right | wrong |"
    yield "|---|---|---:|---:|---:|"
    for name in WORKS:
        for number in SIGNALS:
            times = kills // (len(WORKS) * len(SIGNALS)) + 1
            found, said = kill_many(name, number, times, seed, folder)
            wrong += said
            row = (name, number.name, times, found["right"], found["wrong"])
            yield f"| {' | '.join(map(str, row))} |"


if __name__ == "__main__":
    sys.exit(main())

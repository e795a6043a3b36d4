"""Counting under strain: faults of the counter's own, threads side by side, and for minutes on end.

Prints a table and writes it to reports/soak.md:

- faults (``faults.py``): errors thrown into the counter's own functions at random;
- threads: models counted side by side, each in a thread, against the counts of each alone;
- time: models made, counted, failing by an error of the user's, and forgotten, for minutes. Growth
  is taken from the end of the first tenth on, after a full collection of garbage: what Python
  allocated (tracemalloc), bytes of the tensors alive, and the resident set of the process, in which
  the allocator's own reserves move, too.

    nice python benchmarks/soak.py [--faults N] [--minutes M] [--threads K]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import threading
import time
import tracemalloc
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from faults import CASES, Case, Tried, counted, same, surroundings, throw
from torch import Tensor, nn

import snnprof
from snnprof.core.environment import describe

REPORT = Path(__file__).resolve().parents[1] / "reports" / "soak.md"
KIB = 1024


def side_by_side(threads: int, rounds: int) -> list[str]:
    """Count a model in each thread at once; what differs from counting it alone."""
    names = [list(CASES)[place % len(CASES)] for place in range(threads)]
    models = [CASES[name].build().eval() for name in names]
    alone = [counted(m, CASES[name]) for m, name in zip(models, names, strict=True)]
    start, wrong = threading.Barrier(threads), list[str]()

    def work(place: int) -> None:
        model, case, (plain, sops) = models[place], CASES[names[place]], alone[place]
        expected = sops.result()
        for _ in range(rounds):
            start.wait()
            outputs, counter = counted(model, case)
            if not all(map(torch.equal, outputs, plain)) or counter.result() != expected:
                wrong.append(f"thread {place}, {names[place]}: other outputs or counts")

    before = [surroundings(model) for model in models]
    running = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    if not all(map(same, before, map(surroundings, models))):
        wrong.append("something is left")
    return wrong


@dataclass(frozen=True)
class Memory:
    """Bytes after a collection of garbage."""

    python: int
    tensors: int
    resident: int

    @staticmethod
    def now() -> Memory:
        gc.collect()
        alive = {
            x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
            for x in gc.get_objects()
            if type(x) in (Tensor, nn.Parameter) and x.is_cpu and x.layout == torch.strided
        }
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Memory(tracemalloc.get_traced_memory()[0], sum(alive.values()), pages * 4 * KIB)


@dataclass
class Endured:
    """What came of counting for a while."""

    seconds: float
    measurements: int
    errors: int
    first: Memory
    last: Memory
    wrong: list[str]


def endure(seconds: float, seed: int = 0) -> Endured:
    """Count, again and again; a model of each kind stays, others come and go."""
    draw, begin, wrong = random.Random(seed), time.perf_counter(), list[str]()
    kept = {name: case.build().eval() for name, case in CASES.items()}
    expected = {name: _measured(model, CASES[name]) for name, model in kept.items()}
    before = {name: surroundings(model) for name, model in kept.items()}
    measurements = errors = 0
    first: Memory | None = None
    tracemalloc.start()
    try:
        while (now := time.perf_counter() - begin) < seconds:
            if first is None and now > seconds / 10:
                first = Memory.now()
            name = draw.choice(list(CASES))
            passing = CASES[name].build().eval()
            _measured(passing, CASES[name])
            if draw.random() < 0.5:
                errors += _fail(kept[name], CASES[name], draw)
            outputs, result = _measured(kept[name], CASES[name])
            measurements += 2
            same_outputs = all(map(torch.equal, outputs, expected[name][0]))
            if not same_outputs or result != expected[name][1]:
                wrong.append(f"{name}: other outputs or counts")
        wrong += [
            f"{name}: something is left"
            for name, model in kept.items()
            if not same(before[name], surroundings(model))
        ]
        del passing
        last = Memory.now()
    finally:
        tracemalloc.stop()
    return Endured(seconds, measurements, errors, first or last, last, wrong)


def _measured(model: nn.Module, case: Case) -> tuple[list[Tensor], snnprof.CountResult]:
    outputs, sops = counted(model, case)
    return outputs, sops.result()


def _fail(model: nn.Module, case: Case, draw: random.Random) -> int:
    """An error of the user's while counting: a wrong input, or an interrupt in a layer."""
    error: type[BaseException] = draw.choice([KeyboardInterrupt, ZeroDivisionError])
    layer = draw.choice([m for m in model.modules() if m is not model])

    def interrupt(*_: object) -> None:
        raise error

    handle = layer.register_forward_hook(interrupt)
    try:
        _call(model, case, case.inputs()[0], error)
    finally:
        handle.remove()
    wider = torch.ones(*case.shape[:-1], 1 + case.shape[-1])
    _call(model, case, wider, RuntimeError, ValueError)
    return 2


def _call(model: nn.Module, case: Case, x: Tensor, *errors: type[BaseException]) -> None:
    counter = snnprof.SopCounter(model, **case.options)
    with contextlib.suppress(*errors), torch.no_grad(), counter:
        model(x)


def table(tried: Tried, threads: int, apart: list[str], endured: Endured) -> str:
    """The report."""
    places = ", ".join(f"{n} {place}" for place, n in sorted(tried.by_place.items()))
    first, last = endured.first, endured.last
    grown = {
        "Python": last.python - first.python,
        "tensors alive": last.tensors - first.tensors,
        "resident set": last.resident - first.resident,
    }
    growth = ", ".join(f"{name} {size / KIB:+,.0f} KiB" for name, size in grown.items())
    rows = [
        ("faults of the counter's own", f"{len(tried)}: {places}", len(tried.wrong)),
        ("of these: listed with the reason; result() is one line", *_outcome(tried)),
        (f"{threads} threads, a model each, side by side", "20 rounds", len(apart)),
        (
            f"{endured.seconds / 60:.0f} minutes",
            f"{endured.measurements:,} measurements, {endured.errors:,} errors of the user's",
            len(endured.wrong),
        ),
        ("growth over the last nine tenths of them", growth, ""),
    ]
    lines = ["| strain | how much | wrong |", "|---|---|---|"]
    lines += [f"| {what} | {much} | {wrong} |" for what, much, wrong in rows]
    wrong = [*tried.wrong, *apart, *endured.wrong]
    environment = "; ".join(f"{k}: {v}" for k, v in describe(torch.device("cpu")).items())
    return "\n".join([*lines, *(f"- {line}" for line in wrong[:50]), "", environment])


def _outcome(tried: Tried) -> tuple[str, str]:
    return f"{tried.listed}; {tried.refused}", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    tried = throw(options.faults)
    apart = side_by_side(options.threads, rounds=20)
    endured = endure(60 * options.minutes)
    text = table(tried, options.threads, apart, endured)
    print(text)
    command = f"`python benchmarks/soak.py --faults {options.faults} --minutes {options.minutes:g}`"
    REPORT.write_text(f"# Counting under strain\n\n{command}: {_HOW}\n\n{text}\n")


_HOW = (
    "what is checked after each fault stands in benchmarks/faults.py, how growth is measured in "
    "benchmarks/soak.py."
)


if __name__ == "__main__":
    main()

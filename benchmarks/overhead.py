"""Costs of counting: the same work with and without SopCounter, in turn.

Prints Markdown and writes it to reports/overhead.md: the ratio counted / plain as median and
quartiles over blocks, with inputs read by the C extension and by torch. In every block each kind
of run comes once, in random order, as the median of a few runs. "steady" is a counter that has
seen the network before (an evaluation of many batches); "fresh" is a new counter around every
single run: attaching it, finding every fan-out, the audit of the first call, and the result.

    python benchmarks/overhead.py [--seconds 60] [--only NAME] [--output FILE]

Each row takes so many seconds. glibc gives large freed tensors back to the system and fetches them
anew, at a quarter of the time of a plain run here, and not always in the same runs: with
--keep-memory this is left out.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.nn.functional as F
from measuring import MIB, spread, table
from torch import Tensor, nn
from torch.nn.utils import parametrize

import snnprof
from snnprof.core.environment import describe
from snnprof.counting import scan
from snnprof.profiling.step_memory import allocation_profiler, allocations
from snnprof.spiking.network import SpikingNetwork

STEPS, BATCH = 4, 16
MLP_STEPS = 25
RUNS, FEWEST, MOST = 5, 3, 40
KEEP = "--keep-memory"
READERS = ("C", "torch")
REPORT = Path(__file__).parents[1] / "reports" / "overhead.md"


@dataclass(frozen=True)
class Case:
    """Something to count, and what it may cost.

    Attributes:
        name: with its sizes.
        make: makes the network and what is run of it.
        timesteps: T, where the network is called step by step.
        steady, fresh: the highest ratios aimed at; None where there is no aim.
    """

    name: str
    make: Callable[[], tuple[nn.Module, Callable[[], object]]]
    steady: float | None = None
    fresh: float | None = None
    timesteps: int | None = None


class StepwiseMLP(nn.Module):
    """784-1000-10 with leaky neurons written by hand, called once per time step."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 1000)
        self.out = nn.Linear(1000, 10)
        self.reset()

    def reset(self) -> None:
        self.membranes: list[Tensor | float] = [0.0, 0.0]

    def fire(self, layer: int, current: Tensor) -> Tensor:
        charged = 0.9 * self.membranes[layer] + current
        spike = (charged > 1.0).float()
        self.membranes[layer] = charged - spike
        return spike

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(1, self.out(self.fire(0, self.hidden(x))))


def network_of(name: str, batch: int, image_size: int = 32, **variants: Any) -> SpikingNetwork:
    """A network whose batch norms have seen data, so that its neurons fire."""
    torch.manual_seed(0)
    network = snnprof.models.create(name, timesteps=STEPS, image_size=image_size, **variants)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.bias, 0.5)
    with torch.no_grad():
        for _ in range(5 if image_size < 224 else 1):
            network(torch.randn(batch, 3, image_size, image_size))
    return network


def evaluation(
    name: str, batch: int, image_size: int = 32, *, cached: bool = False, **variants: Any
) -> Callable[[], tuple[nn.Module, Callable[[], object]]]:
    """Inference; ``cached``: quantised weights are computed once per run, not at each use."""

    def make() -> tuple[nn.Module, Callable[[], object]]:
        network = network_of(name, batch, image_size, **variants).eval()
        images = torch.randn(batch, 3, image_size, image_size)
        weights = parametrize.cached if cached else nothing

        def work() -> object:
            with torch.no_grad(), weights():
                return network(images)

        return network, work

    return make


@contextmanager
def nothing() -> Iterator[None]:
    """Weights as they come."""
    yield


def training_step() -> tuple[nn.Module, Callable[[], object]]:
    network = network_of("vgg11", BATCH).train()
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def work() -> object:
        optimizer.zero_grad()
        F.cross_entropy(network(images).mean(0), labels).backward()
        return optimizer.step()

    return network, work


def stepwise_mlp(batch: int) -> Callable[[], tuple[nn.Module, Callable[[], object]]]:
    def make() -> tuple[nn.Module, Callable[[], object]]:
        torch.manual_seed(0)
        network = StepwiseMLP()
        spikes = (torch.rand(MLP_STEPS, batch, 784) < 0.2).float()

        @torch.no_grad()
        def work() -> object:
            network.reset()
            return [network(step) for step in spikes]

        return network, work

    return make


def thousand_layers() -> tuple[nn.Module, Callable[[], object]]:
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(64, 64) for _ in range(1000)))
    spikes = (torch.rand(32, 64) < 0.2).float()

    @torch.no_grad()
    def work() -> object:
        return network(spikes)

    return network, work


HDLIF: dict[str, Any] = {"neuron": "hdlif", "weights": "1.5bit"}
RESNET = f"ResNet-18 HD-LIF 1.5-bit, T={STEPS} B={BATCH}"
THOUSAND = Case("1000 linear layers 64-64, 32 rows", thousand_layers, steady=3.0)
VGG16 = Case(f"VGG-16 at 224, T={STEPS} B=1", evaluation("vgg16", 1, 224), fresh=1.5)
CASES = (
    Case(f"VGG-11, T={STEPS} B={BATCH}", evaluation("vgg11", BATCH), 1.03, 1.15),
    Case(f"VGG-11 training step, T={STEPS} B={BATCH}", training_step, 1.03),
    Case(RESNET, evaluation("resnet18", BATCH, **HDLIF), 1.05),
    Case(f"{RESNET}, weights cached", evaluation("resnet18", BATCH, cached=True, **HDLIF), 1.05),
    Case(f"Spikformer-4-384, T={STEPS} B=8", evaluation("spikformer_4_384", 8), 1.05),
    Case(
        f"SEW-ResNet-18 at 224 x 224, T={STEPS} B=1", evaluation("sew_resnet18", 1, 224), 1.05, 1.3
    ),
    Case(f"MLP 784-1000-10, T={MLP_STEPS} B=16", stepwise_mlp(16), 1.15, None, MLP_STEPS),
    Case(f"MLP 784-1000-10, T={MLP_STEPS} B=128", stepwise_mlp(128), 1.15, None, MLP_STEPS),
    VGG16,
    THOUSAND,
)


@contextmanager
def read_by(reader: str) -> Iterator[None]:
    """Inputs and weights are read by the C extension or by torch."""
    extension = scan._scan  # type: ignore[attr-defined]
    if reader == "torch":
        scan._scan = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        scan._scan = extension  # type: ignore[attr-defined]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def typical_seconds(work: Callable[[], object]) -> float:
    return statistics.median(seconds(work) for _ in range(RUNS))


def ratios(case: Case, budget: float) -> list[str]:
    """A row: plain milliseconds, and by each reader the ratio of a steady and a fresh counter."""
    network, work = case.make()
    work()

    def fresh() -> None:
        with snnprof.SopCounter(network, timesteps=case.timesteps) as counter:
            work()
        counter.result()

    def run_steady() -> float:
        with snnprof.SopCounter(network, timesteps=case.timesteps):
            work()
            return typical_seconds(work)

    runs: dict[tuple[str, str], Callable[[], float]] = {
        ("plain", ""): lambda: typical_seconds(work)
    }
    for reader in READERS:
        runs["steady", reader] = run_steady
        runs["fresh", reader] = lambda: typical_seconds(fresh)
    found: dict[tuple[str, str], list[float]] = {kind: [] for kind in runs}
    in_turn, shuffle, begun = list(runs), random.Random(0).shuffle, time.perf_counter()
    for block in range(MOST):
        if block >= FEWEST and time.perf_counter() - begun > budget:
            break
        shuffle(in_turn)  # nobody always comes after the same one
        for kind in in_turn:
            with read_by(kind[1]):
                found[kind].append(runs[kind]())
    plain = found.pop(("plain", ""))
    cells = [f"{1000 * statistics.median(plain):.1f}"]
    for (counter, _), taken in found.items():
        values = [x / bare for x, bare in zip(taken, plain, strict=True)]
        aim = case.steady if counter == "steady" else case.fresh
        cells.append(spread(values) + reached(statistics.median(values), aim))
    return [case.name, *cells, str(len(plain))]


def reached(value: float, aim: float | None) -> str:
    if aim is None:
        return ""
    return f", <= {aim}: {'yes' if value <= aim else 'no'}"


def stages(case: Case, repeats: int = 9) -> Iterator[list[str]]:
    """Rows: milliseconds of putting a counter on, of the first call, taking it off, the result."""
    network, work = case.make()
    for reader in READERS:
        taken: list[list[float]] = []
        with read_by(reader):
            for _ in range(repeats):
                counter = snnprof.SopCounter(network, timesteps=case.timesteps)
                enter, leave = counter.__enter__, lambda c=counter: c.__exit__(None, None, None)
                taken.append([seconds(stage) for stage in (enter, work, leave, counter.result)])
        medians = [f"{1000 * statistics.median(stage):.1f}" for stage in zip(*taken, strict=True)]
        yield [case.name, reader, *medians]


def peaks(case: Case) -> Iterator[list[str]]:
    """Rows: MiB at the peak of the allocation events, of a plain run and what a fresh one adds."""
    network, work = case.make()

    def peak(step: Callable[[], object]) -> float:
        with allocation_profiler() as profiler:
            step()
        level = highest = 0
        for change in allocations(profiler):
            level += change
            highest = max(highest, level)
        return highest / MIB

    def fresh() -> None:
        with snnprof.SopCounter(network, timesteps=case.timesteps) as counter:
            work()
        counter.result()

    for reader in READERS:
        with read_by(reader):
            plain, counted = peak(work), peak(fresh)
        aim = reached(counted - plain, 80) if case is VGG16 else ""
        yield [case.name, reader, f"{plain:.0f}", f"{counted - plain:+.0f}{aim}"]


def report(cases: tuple[Case, ...], budget: float) -> None:
    """Print it."""
    print("# What counting costs\n")
    print(
        "`python benchmarks/overhead.py`: counted / plain, median (first-third quartile) of blocks"
    )
    print(f"of {RUNS} runs, in turn; the aim, and whether the median reaches it.\n")
    heads = [f"{kind}, {reader}" for reader in READERS for kind in ("steady", "fresh")]
    table(["work", "plain (ms)", *heads, "blocks"], (ratios(case, budget) for case in cases))
    print("Milliseconds; the aim for a thousand layers is 50 each, without the first call:\n")
    staged = [case for case in cases if case in (VGG16, THOUSAND)]
    head = ["work", "read by", "attach", "first call", "exit", "result"]
    table(head, (row for case in staged for row in stages(case)))
    print("MiB at the peak of the profiler's allocation events, as a fresh counter adds to them:\n")
    head = ["work", "read by", "plain", "fresh counter"]
    table(head, (row for case in cases for row in peaks(case)))
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        print("Freed memory is kept by the process.")
    print("; ".join(f"{key}: {value}" for key, value in describe(torch.device("cpu")).items()))


class Both(StringIO):
    """Text that is kept, and shown as it comes."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown

    def write(self, text: str) -> int:
        self._shown.write(text)
        self._shown.flush()
        return super().write(text)


def keep_memory() -> None:
    """Start anew with an allocator that gives no memory back to the system."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ[name] = str(1 << 32)
    os.execv(sys.executable, [sys.executable, *(a for a in sys.argv if a != KEEP)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each row")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--output", type=Path, default=REPORT, help="file to write")
    parser.add_argument(KEEP, action="store_true", help="freed memory stays with the process")
    options = parser.parse_args()
    if options.keep_memory:
        keep_memory()
    if scan._scan is None:  # type: ignore[attr-defined]
        sys.exit("the C extension was not built: pip install . with a compiler")
    cases = tuple(case for case in CASES if options.only in case.name)
    with redirect_stdout(Both(sys.stdout)) as printed:
        report(cases, options.seconds)
    options.output.write_text(printed.getvalue(), "utf-8")


if __name__ == "__main__":
    main()

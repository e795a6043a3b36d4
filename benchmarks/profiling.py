"""`snnprof.profile` beside a stopwatch around the same loop.

One network, one loop, four ways to take its time, step by step in turn, another one first in each
round: a stopwatch; `with prof.step():` with phases; the same without; the stopwatch again, whose
ratio to itself tells how far the machine lets any two be compared. Ratios are taken round by
round: median and quartiles. "Loop" is a stopwatch around the whole `with` statement: what a
loop pays, hooks put on and taken off included.

    python benchmarks/profiling.py [--device cuda] [--repeats N] [--batch N ...] [--clock cpu]

On a machine that others use too, `--clock cpu` reads the processor's seconds of this process, for
the stopwatch and the profiler alike.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from measuring import reached, spread, table
from torch import Tensor, nn

import snnprof
from snnprof.core.environment import choose_device, describe
from snnprof.models import create
from snnprof.profiling.phase_timer import Clock
from snnprof.profiling.step_profiler import StepProfiler
from snnprof.spiking.lif import LIF
from snnprof.training.step_runner import sgd

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
MOST = 0.03
WARMUP = 5
IMAGE_SIZE, CLASSES, TIMESTEPS, LONG = 16, 10, 4, 25
FEATURES = 28 * 28


class StepwiseMLP(nn.Module):
    """A spiking MLP that is called once per time step, [B, 784] to [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 1000), LIF(LONG), nn.Linear(1000, CLASSES), LIF(LONG)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x[None])[0]
        return out


def vgg() -> nn.Module:
    return create("vgg5", timesteps=TIMESTEPS, image_size=IMAGE_SIZE)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU(), nn.Linear(2000, 10)
    )


def once(net: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = net(x)
    return out


def summed(net: nn.Module, x: Tensor) -> Tensor:
    snnprof.reset(net)
    out: Tensor = net(x).sum(0)
    return out


def step_by_step(net: nn.Module, x: Tensor) -> Tensor:
    snnprof.reset(net)
    return torch.stack([net(x) for _ in range(LONG)]).sum(0)


@dataclass(frozen=True)
class Network:
    """A network, the shape of one of its inputs, and how it is run."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    run: Callable[[nn.Module, Tensor], Tensor]


NETWORKS = {
    f"vgg5, stbp, T={TIMESTEPS}": Network(vgg, (3, IMAGE_SIZE, IMAGE_SIZE), summed),
    "MLP of an ANN": Network(mlp, (FEATURES,), once),
    f"step-wise spiking MLP, T={LONG}": Network(StepwiseMLP, (FEATURES,), step_by_step),
}


class Loop:
    """A network on its device with a batch, and its steps."""

    def __init__(self, network: Network, batch: int, device: torch.device, clock: Clock) -> None:
        self.clock = clock
        torch.manual_seed(0)
        self.network = network
        self.device = device
        self.model = network.build().to(device)
        self.optimizer = sgd(self.model.parameters())
        self.x = torch.rand(batch, *network.shape, device=device)
        self.labels = torch.randint(0, CLASSES, (batch,), device=device)

    def train(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.network.run(self.model, self.x), self.labels).backward()
        self.optimizer.step()

    @torch.no_grad()
    def infer(self) -> None:
        self.network.run(self.model, self.x)

    def seconds(self, action: Callable[[], None]) -> float:
        """By a stopwatch; on a GPU until it has done all work."""
        self._wait()
        begin = self.clock()
        action()
        self._wait()
        return self.clock() - begin

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def compare(loop: Loop, kind: str, repeats: int) -> list[str]:
    """A row's figures: stopwatch, the profiler's times over it, and the loop's."""
    step = loop.train if kind == "training" else loop.infer
    loop.model.train(kind == "training")
    optimizer = loop.optimizer if kind == "training" else None
    on, off = (
        snnprof.profile(
            model=loop.model,
            optimizer=optimizer,
            phases=phases,
            warmup=WARMUP,
            device=loop.device.type,
            clock=loop.clock,
        )
        for phases in (True, False)
    )

    def profiled(prof: StepProfiler) -> None:
        with prof.step():
            step()

    for _ in range(WARMUP + 1):
        profiled(on)
        profiled(off)
        step()
    ways = (step, lambda: profiled(on), lambda: profiled(off), step)
    watch: list[list[float]] = [[] for _ in ways]
    for number in range(repeats):
        for turn in range(len(ways)):
            which = (number + turn) % len(ways)
            watch[which].append(loop.seconds(ways[which]))
    told_on, told_off = (
        [a / b for a, b in zip(prof.result().step_s, watch[0], strict=True)] for prof in (on, off)
    )
    whole, again = ([a / b for a, b in zip(watch[way], watch[0], strict=True)] for way in (1, 3))
    apart = max(abs(statistics.median(told) - 1) for told in (told_on, told_off))
    return [
        f"{1000 * statistics.median(watch[0]):.2f}",
        *(spread(values) for values in (told_on, told_off, whole, again)),
        reached(apart, f"<= {MOST}", apart <= MOST),
    ]


def rows(
    batches: Sequence[int], repeats: int, device: torch.device, clock: Clock
) -> Iterator[list[str]]:
    for (name, network), batch in itertools.product(NETWORKS.items(), batches):
        loop = Loop(network, batch, device, clock)
        for kind in ("training", "inference"):
            yield [name, kind, str(batch), *compare(loop, kind, repeats)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--repeats", type=int, default=100, help="rounds")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 128], help="samples per step")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    device = choose_device(options.device)
    where = describe(device)
    print(f"# Profiles beside a stopwatch\n\n{where['device']}, torch {where['torch']}.\n")
    print(f"Clock: {options.clock}.\n")
    head = ["network", "step", "B", "stopwatch (ms)", "phases on, ratio", "off, ratio"]
    found = rows(options.batch, options.repeats, device, CLOCKS[options.clock])
    table([*head, "loop, ratio", "stopwatch again", "apart"], found)


if __name__ == "__main__":
    main()

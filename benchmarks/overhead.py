"""Costs of counting: the same work with and without SopCounter, in turn.

Prints the ratio counted / plain: median and quartiles over blocks. In every block each kind of
run comes once, in random order, as the median of a few runs. "steady" is a counter that has
seen the network before (an evaluation of many batches); "fresh" is a new counter around every
single run, finding every fan-out included.

    python benchmarks/overhead.py [--blocks N] [--keep-memory]

glibc gives large freed tensors back to the system and fetches them anew, at a quarter of the
time of a plain run here, and not always in the same runs: with --keep-memory this is left out.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measuring import spread
from torch import Tensor, nn

import snnprof
from snnprof.core.environment import describe
from snnprof.spiking.network import SpikingNetwork

STEPS, BATCH = 4, 16
MLP_STEPS = 25
RUNS = 5
KEEP = "--keep-memory"


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
        for _ in range(5):
            network(torch.randn(batch, 3, image_size, image_size))
    return network


def vgg11() -> SpikingNetwork:
    return network_of("vgg11", BATCH)


def evaluation(
    name: str, batch: int, image_size: int = 32, **variants: Any
) -> tuple[nn.Module, Callable[[], object], int | None]:
    network = network_of(name, batch, image_size, **variants).eval()
    images = torch.randn(batch, 3, image_size, image_size)

    @torch.no_grad()
    def work() -> object:
        return network(images)

    return network, work, None


def training_step() -> tuple[nn.Module, Callable[[], object], int | None]:
    network = vgg11().train()
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def work() -> object:
        optimizer.zero_grad()
        F.cross_entropy(network(images).mean(0), labels).backward()
        return optimizer.step()

    return network, work, None


def stepwise_mlp(batch: int) -> tuple[nn.Module, Callable[[], object], int | None]:
    torch.manual_seed(0)
    network = StepwiseMLP()
    spikes = (torch.rand(MLP_STEPS, batch, 784) < 0.2).float()

    @torch.no_grad()
    def work() -> object:
        network.reset()
        return [network(step) for step in spikes]

    return network, work, MLP_STEPS


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(
    network: nn.Module, work: Callable[[], object], timesteps: int | None, blocks: int
) -> tuple[float, str, str]:
    """Plain seconds, and the ratio of a steady and of a fresh counter to it, block by block."""
    plain: list[float] = []
    steady: list[float] = []
    first: list[float] = []

    def counter() -> snnprof.SopCounter:
        return snnprof.SopCounter(network, timesteps=timesteps)

    def fresh() -> None:
        with counter():
            work()

    def run_plain() -> None:
        work()
        plain.append(statistics.median(seconds(work) for _ in range(RUNS)))

    def run_steady() -> None:
        with counter():
            work()
            steady.append(statistics.median(seconds(work) for _ in range(RUNS)))

    def run_fresh() -> None:
        first.append(statistics.median(seconds(fresh) for _ in range(RUNS)))

    in_turn = [run_plain, run_steady, run_fresh]
    shuffle = random.Random(0).shuffle
    for _ in range(blocks):
        shuffle(in_turn)  # nobody always comes after the same one
        for run in in_turn:
            run()
    pairs = ([x / bare for x, bare in zip(xs, plain, strict=True)] for xs in (steady, first))
    steady_ratio, first_ratio = map(spread, pairs)
    return statistics.median(plain), steady_ratio, first_ratio


def keep_memory() -> None:
    """Start anew with an allocator that gives no memory back to the system."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ[name] = str(1 << 32)
    os.execv(sys.executable, [sys.executable, *(a for a in sys.argv if a != KEEP)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument(KEEP, action="store_true", help="freed memory stays with the process")
    options = parser.parse_args()
    if options.keep_memory:
        keep_memory()
    cases = {
        f"VGG-11 inference, T={STEPS} B={BATCH}": evaluation("vgg11", BATCH),
        f"VGG-11 training step, T={STEPS} B={BATCH}": training_step(),
        f"step-wise MLP 784-1000-10, T={MLP_STEPS} B=128": stepwise_mlp(128),
        f"step-wise MLP 784-1000-10, T={MLP_STEPS} B=16": stepwise_mlp(16),
        f"ResNet-18 HD-LIF 1.5-bit, T={STEPS} B={BATCH}": evaluation(
            "resnet18", BATCH, neuron="hdlif", weights="1.5bit"
        ),
        f"Spikformer-4-384, T={STEPS} B=8": evaluation("spikformer_4_384", 8),
        f"SEW-ResNet-18 at 224 x 224, T={STEPS} B=1": evaluation("sew_resnet18", 1, 224),
    }
    print("| work | plain (ms) | steady counter, ratio | fresh counter, ratio |")
    print("|---|---|---|---|")
    for name, (network, work, timesteps) in cases.items():
        plain, steady, first = compare(network, work, timesteps, options.blocks)
        print(f"| {name} | {1000 * plain:.1f} | {steady} | {first} |", flush=True)
    kept = "; freed memory kept" if "MALLOC_TRIM_THRESHOLD_" in os.environ else ""
    print(f"\nMedian (first-third quartile) of {options.blocks} blocks of {RUNS} runs{kept}.")
    print("; ".join(f"{key}: {value}" for key, value in describe(torch.device("cpu")).items()))


if __name__ == "__main__":
    main()

"""What counting costs: the same work with and without SopCounter, in turn.

Prints the ratio counted / plain, pair by pair: median and quartiles. "steady" is a counter
that has seen the network before (an evaluation of many batches); "first" is a fresh counter
around a single run, finding every fan-out included.

    python benchmarks/overhead.py [--pairs N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.environment import describe

STEPS, BATCH = 4, 16
MLP_STEPS = 25


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


def vgg11() -> snnprof.models.SpikingNetwork:
    """VGG-11 whose batch norms have seen data, so that its neurons fire."""
    torch.manual_seed(0)
    network = snnprof.models.create("vgg11", timesteps=STEPS)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.bias, 0.5)
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(BATCH, 3, 32, 32))
    return network


def inference() -> tuple[nn.Module, Callable[[], object], int | None]:
    network = vgg11().eval()
    images = torch.randn(BATCH, 3, 32, 32)

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


def quartiles(values: list[float]) -> str:
    first, middle, third = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({first:.3f}-{third:.3f})"


def compare(
    network: nn.Module, work: Callable[[], object], timesteps: int | None, pairs: int
) -> tuple[float, str, str]:
    """Plain seconds, and the ratio of a steady and of a fresh counter to it."""
    plain: list[float] = []
    steady: list[float] = []
    first: list[float] = []

    def fresh() -> None:
        with snnprof.SopCounter(network, timesteps=timesteps):
            work()

    work()
    for _ in range(pairs):
        plain.append(seconds(work))
        with snnprof.SopCounter(network, timesteps=timesteps):
            work()
            steady.append(seconds(work))
        base = seconds(work)
        first.append(seconds(fresh) / base)
    ratios = [counted / bare for counted, bare in zip(steady, plain, strict=True)]
    return statistics.median(plain), quartiles(ratios), quartiles(first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    cases = {
        f"VGG-11 inference, T={STEPS} B={BATCH}": inference(),
        f"VGG-11 training step, T={STEPS} B={BATCH}": training_step(),
        f"step-wise MLP 784-1000-10, T={MLP_STEPS} B=128": stepwise_mlp(128),
        f"step-wise MLP 784-1000-10, T={MLP_STEPS} B=16": stepwise_mlp(16),
    }
    print("| work | plain (ms) | steady counter, ratio | fresh counter, ratio |")
    print("|---|---|---|---|")
    for name, (network, work, timesteps) in cases.items():
        plain, steady, first = compare(network, work, timesteps, pairs)
        print(f"| {name} | {1000 * plain:.1f} | {steady} | {first} |")
    print(f"\nMedian (first-third quartile) of {pairs} pairs.")
    print("; ".join(f"{key}: {value}" for key, value in describe(torch.device("cpu")).items()))


if __name__ == "__main__":
    main()

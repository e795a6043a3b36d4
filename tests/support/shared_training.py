"""Networks and data for runs that several processes share, by ``package.module:function``."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.spiking.hdlif import HDLIF

from .networks import Keeping, Step

FEATURES, CLASSES, BATCH, TEST, STEPS = 6, 3, 8, 11, 3


def data() -> dict[str, Any]:
    """4 joined batches of 8 to train on; 3 test batches, of 5, 5 and 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4 * BATCH + TEST, FEATURES, generator=generator) * 2
    y = torch.randint(0, CLASSES, (len(x),), generator=generator)
    train = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, 4 * BATCH, BATCH)]
    x, y = x[4 * BATCH :], y[4 * BATCH :]
    return {"train": train, "test": [*zip(x.split(5), y.split(5), strict=True)]}


def plain() -> nn.Module:
    """Without batch norm; a layer that is never used, which has no gradient anywhere."""
    net = Step(FEATURES, CLASSES)
    net.unused = nn.Linear(2, 2)
    return net


class Normed(nn.Module):
    """[B, features] to [B, classes], with a batch norm before the neurons."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), Keeping(), nn.Linear(16, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def normed() -> nn.Module:
    return Normed()


class Divided(nn.Module):
    """[T, B, features] to [T, B, classes], without batch norm, for parameters that are divided.

    A quantised layer that is a group of its own, one whose weight is read from outside, which is
    not, and a number that every process holds whole.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.wide = nn.Linear(FEATURES, 64), nn.Linear(64, 64)
        self.read, self.last = nn.Linear(64, 64, bias=False), nn.Linear(64, CLASSES)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.neurons = nn.ModuleList(HDLIF(STEPS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(self.neurons[0](self.first(x)))
        x.mul_(2)  # in the place of what a group gave
        out: Tensor = self.last(self.neurons[1](F.linear(x, self.read.weight) * self.scale))
        return out


def divided() -> nn.Module:
    return snnprof.quantize(Divided(), "1bit", skip=("first", "read", "last"))


KILL = "SNNPROF_TEST_KILL"  # set in the environment of processes of which one is to be killed


class Killed(Step):
    """Without batch norm. In its sixth training step on shares the second process is killed."""

    def __init__(self) -> None:
        super().__init__(FEATURES, CLASSES)
        self.steps = 0

    def forward(self, x: Tensor) -> Any:
        self.steps += self.training and x.shape[-2] == BATCH // 2
        if self.steps == 6 * STEPS and KILL in os.environ and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def killed() -> nn.Module:
    return Killed()

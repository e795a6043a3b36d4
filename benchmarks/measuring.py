"""Shared by the benchmarks: networks, single steps, ratios, Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from snnprof.models import MODELS
from snnprof.profiling.step_memory import StepMemory, step_memory
from snnprof.results import StepProfile, quartiles
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode
from snnprof.training.step_runner import sgd
from snnprof.training.stepped_model import SteppedModel

Build = Callable[[], nn.Module | SteppedModel]
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """A network and a batch of images."""

    model: str = "resnet18"
    image_size: int = 32
    batch: int = 16
    timesteps: int = 4

    def __str__(self) -> str:
        size = f"{self.image_size}x{self.image_size}"
        return f"{self.model}, {size}, B={self.batch}, T={self.timesteps}"

    def network(self, make_neuron: NeuronMaker) -> SpikingNetwork:
        classes = MODELS[self.model].num_classes
        return MODELS[self.model].build(make_neuron, self.timesteps, classes, 3, self.image_size)

    def data(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, 3, self.image_size, self.image_size)
        images = torch.randn(shape, generator=generator)
        classes = MODELS[self.model].num_classes
        return images, torch.randint(0, classes, (self.batch,), generator=generator)


def drawing_the_last(timesteps: int) -> torch.Generator:
    """A generator that lets modes that draw time steps draw the last one, the most work.

    From rest, at the first, a step keeps less: a draw of its own for each T would compare that.
    """
    for seed in count():
        order = torch.randperm(timesteps, generator=torch.Generator().manual_seed(seed))
        if order[0] == timesteps - 1:
            return torch.Generator().manual_seed(seed)
    raise AssertionError("there are infinitely many seeds")


class SingleStep:
    """One training step of a fresh network, seeded; the optimiser has its state already."""

    def __init__(self, build: Build, mode: str, work: Work, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.stepped = adapt(build())
        self.model = self.stepped.model.to(device).train()
        images, labels = (tensor.to(device) for tensor in work.data())
        self.inputs = (images, labels)
        self.sequence = images.expand(work.timesteps, *images.shape)
        self.mode = find_mode(mode, work.timesteps)
        self.optimizer = sgd(self.model.parameters())
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def run(self) -> Tensor:
        batch = BatchRun(
            self.stepped,
            self.sequence,
            self.inputs[1],
            self.optimizer,
            generator=drawing_the_last(len(self.sequence)),
        )
        return self.mode(batch)

    def memory(self) -> StepMemory:
        found, _ = step_memory(self.run, self.stepped, self.optimizer, self.inputs, self.device)
        return found

    def loss_and_gradients(self) -> tuple[float, Tensor]:
        loss = float(self.run())
        gradients = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        return loss, torch.cat(gradients).double()


def same_work(
    name: str, one: Build, other: Build, mode: str, work: Work, device: torch.device, most: float
) -> str:
    """A sentence on how far loss and gradients of two networks are apart.

    Raises:
        SystemExit: further than ``most``, relative: then they do not do the same work.
    """
    loss, gradients = SingleStep(one, mode, work, device).loss_and_gradients()
    their_loss, their_gradients = SingleStep(other, mode, work, device).loss_and_gradients()
    if gradients.shape != their_gradients.shape:
        raise SystemExit(f"{name}: {len(gradients)} gradients against {len(their_gradients)}")
    apart = float((gradients - their_gradients).norm() / their_gradients.norm())
    loss_apart = abs(loss - their_loss) / abs(their_loss)
    if not (apart <= most and loss_apart <= most):
        raise SystemExit(f"{name}: not the same work: loss {loss_apart:.1e}, gradients {apart:.1e}")
    return f"{name}: loss {loss_apart:.1e}, gradients {apart:.1e}"


def ratios(ours: StepProfile, theirs: StepProfile) -> list[float]:
    """Seconds of one network over those of the other, round by round."""
    return [a / b for a, b in zip(ours.step_s, theirs.step_s, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Median (first-third quartile), as text."""
    first, middle, third = quartiles(values) or (math.nan,) * 3
    return f"{middle:.3f} ({first:.3f}-{third:.3f})"


def activation_bytes(profile: StepProfile) -> int:
    """Of a step in a mode, where they are always known."""
    assert profile.activation_bytes is not None
    return profile.activation_bytes


def milliseconds(profile: StepProfile) -> str:
    return f"{1000 * statistics.median(profile.step_s):.0f}"


def mib(size: float) -> str:
    return f"{size / MIB:.1f}"


def reached(value: float, target: str, within: bool) -> str:
    return f"{target}: {'yes' if within else f'no, {value:.3f}'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()

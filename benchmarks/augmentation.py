"""Cost of loading and augmentation beside a training step: no more than a tenth of it.

Images like those of CIFAR-10, in memory as bytes, through everything that the paper names (crop,
flip, Auto-Augment, Cutout, Mixup or CutMix), and the digits through a crop and a flip. Medians of
one run, each piece timed by itself, and the share of both in the time of a training step.

    python benchmarks/augmentation.py [--device cuda] [--batch N] [--repeats N] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from measuring import table

import snnprof
from snnprof.core.environment import choose_device, describe
from snnprof.experiment.augmentation import Augmentation
from snnprof.experiment.data import Batch
from snnprof.experiment.data_sets import Dataset, load
from snnprof.experiment.data_sets.cifar import CIFAR10

TARGET = 0.1
TIMESTEPS = 4
DIGITS = [{"step": "random-crop", "padding": 1}, "flip"]
CIFAR = [
    "random-crop",
    "flip",
    {"step": "auto-augment", "policy": "cifar10"},
    {"step": "cutout", "size": 16},
    "mixup-or-cutmix",
]


def cifar_shaped(images: int = 5000) -> Dataset:
    """Images of random bytes; the classes are of no matter."""
    generator = torch.Generator().manual_seed(0)
    shape = (images, 3, 32, 32)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (images,), generator=generator)
    return Dataset(pixels, labels, pixels, labels, 10, True, "random bytes", CIFAR10)


@dataclass(frozen=True)
class Case:
    """Data, an augmentation of them, and a network that is trained on them."""

    name: str
    model: str
    data: Callable[[], Dataset]
    steps: Sequence[Any]


CASES = (
    Case("digits, crop and flip", "vgg5", lambda: load("digits"), DIGITS),
    Case("3x32x32, all of CIFAR's", "vgg11", cifar_shaped, CIFAR),
    Case("3x32x32, all of CIFAR's", "resnet18", cifar_shaped, CIFAR),
)


def endless(data: Dataset, batch: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from data.epoch(batch, generator)


def seconds(function: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """The time of a call, its work on the device included, and what it gave."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = perf_counter()
    made = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start, made


def step_seconds(case: Case, batch: Batch, device: torch.device, repeats: int) -> float:
    x = batch[0]
    build = partial(
        snnprof.models.create,
        case.model,
        timesteps=TIMESTEPS,
        in_channels=x.shape[1],
        image_size=x.shape[-1],
    )
    profile = snnprof.profile_step(
        build,
        batch,
        mode="online",
        timesteps=TIMESTEPS,
        device=str(device),
        warmup=1,
        repeats=repeats,
    )
    return statistics.median(profile.step_s)


def measure(case: Case, batch: int, device: torch.device, repeats: int) -> list[str]:
    data = case.data().to(device)
    augment = Augmentation(case.steps, 0, data.normalization, data.num_classes)
    batches = endless(data, batch)
    loading, augmenting = [], []
    for number in range(repeats + 5):
        loaded_s, (x, y) = seconds(partial(next, batches), device)
        augmented_s, _ = seconds(partial(augment, x, y), device)
        if number >= 5:
            loading.append(loaded_s)
            augmenting.append(augmented_s)
    step_s = step_seconds(case, data.first(batch), device, max(3, repeats // 10))
    load_s, augment_s = statistics.median(loading), statistics.median(augmenting)
    share = (load_s + augment_s) / step_s
    return [
        case.name,
        case.model,
        f"{1000 * load_s:.2f}",
        f"{1000 * augment_s:.2f}",
        f"{1000 * step_s:.1f}",
        f"{share:.2%}",
        "reached" if share <= TARGET else "missed",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    print(f"{describe(device)}\nB={options.batch}, T={TIMESTEPS}, online, LIF\n")
    heads = ["images", "network", "load ms", "augment ms", "step ms", "share", "target 10 %"]
    table(heads, (measure(case, options.batch, device, options.repeats) for case in CASES))


if __name__ == "__main__":
    main()

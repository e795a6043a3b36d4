"""The main path: build, train and time, count, price, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from snnprof.builders import find_builder, load_checkpoint
from snnprof.energy.pricing import convention, price
from snnprof.environment import choose_device, describe
from snnprof.errors import SnnprofError
from snnprof.results import ArmResult, Report
from snnprof.spiking.neurons import neuron_ops
from snnprof.spiking.size import size_bytes
from snnprof.training.datasets import Dataset, load
from snnprof.training.modes import find_mode
from snnprof.training.trainer import WARMUP_STEPS, Arm, Recipe, evaluate, make_arm, steps_of, train

EPOCHS = 8
BATCH_SIZE = 64
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Progress:
    """How to tell somebody of the progress: steps to come, and each one done."""

    start: Callable[[int], None]
    advance: Callable[[], None]


SILENT = Progress(start=lambda total: None, advance=lambda: None)


def run(
    model: str = "vgg5",
    *,
    neuron: str | Sequence[str] = "lif",
    weights: str = "fp32",
    modes: str | Sequence[str] = ("stbp", "online"),
    timesteps: int = 4,
    data: str = "digits",
    image_size: int | None = None,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
    energy: str | Sequence[str] = ("operands",),
    seed: int = 0,
    device: str = "auto",
    strict: bool = False,
    checkpoint: str | Path | None = None,
    progress: Progress = SILENT,
    **variants: object,
) -> Report:
    """Train a network in each mode, time it, count and price it, and put it side by side.

    Args:
        model: one of ours, or ``package.module:function`` (:func:`~snnprof.builders.find_builder`).
        neuron: a neuron or several, with variants: ``"hdlif+four_bit"``.
        weights, timesteps, **variants: as :func:`snnprof.models.create`.
        modes: a training mode or several. Every neuron in every mode is an arm.
        data: "digits" or "random".
        image_size: pixels; None for the data's own.
        epochs: 0 counts the untrained network only.
        batch_size: samples per step.
        learning_rate: at the start of the annealing.
        energy: a convention or several to price under.
        seed: of weights, batches and random data.
        device: "auto", "cpu" or "cuda".
        strict: raise where a layer's input is not finite, instead of saying so.
        checkpoint: file of ``torch.save`` with the weights to start from.
        progress: told of every training step.

    Returns:
        One :class:`ArmResult` per arm, and what has to be said about them.

    Raises:
        SnnprofError: a wrong name or value, before any training starts; a training that
            diverges.
    """
    neurons, modes, energy = _names(neuron), _names(modes), _names(energy)
    check(modes, energy, timesteps)
    recipe = Recipe(epochs, batch_size, learning_rate)
    where = choose_device(device)
    loaded = load(data, image_size, seed).to(where)
    builder = find_builder(model)

    def build(neuron: str) -> nn.Module:
        torch.manual_seed(seed)
        built = builder(
            neuron=neuron,
            weights=weights,
            timesteps=timesteps,
            num_classes=loaded.num_classes,
            in_channels=loaded.in_channels,
            image_size=loaded.image_size,
            **variants,
        )
        if checkpoint is not None:
            load_checkpoint(built, checkpoint)
        return built

    steps = steps_of(loaded, recipe)
    chosen = [(neuron, mode) for neuron in neurons for mode in modes]
    with torch.random.fork_rng():
        arms = [
            make_arm(mode, partial(build, neuron), recipe, steps, where) for neuron, mode in chosen
        ]
    progress.start(steps * len(arms))
    losses = train(arms, loaded, recipe, seed, progress.advance)
    results = [
        measure(
            partial(ArmResult, model=model, neuron=neuron, weights=weights, timesteps=timesteps),
            arm,
            loss,
            loaded,
            recipe,
            energy,
            checkpoint,
        )
        for (neuron, _), arm, loss in zip(chosen, arms, losses, strict=True)
    ]
    if strict:
        refuse_non_finite(results)
    return Report(
        arms=tuple(results),
        notes=tuple(notes(results, loaded, recipe, seed)),
        environment=describe(where),
    )


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, each once."""
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def check(modes: Sequence[str], energy: Sequence[str], timesteps: int) -> None:
    """Raise SnnprofError for a name that is not known, or where there is nothing to run."""
    if not modes:
        raise SnnprofError("no mode was given: there is nothing to run")
    for name in modes:
        find_mode(name, timesteps)
    for name in energy:
        convention(name)


def measure(
    label: Callable[..., ArmResult],
    arm: Arm,
    loss: float | None,
    data: Dataset,
    recipe: Recipe,
    energy: Sequence[str],
    checkpoint: str | Path | None,
) -> ArmResult:
    """Count and price a trained arm, and gather what its training measured."""
    counts, accuracy = evaluate(arm.model, data, recipe.batch_size)
    return label(
        mode=arm.mode,
        parameters=sum(p.numel() for p in arm.model.parameters()),
        size_bytes=size_bytes(arm.model),
        paper_size_bytes=size_bytes(arm.model, "paper"),
        accuracy=accuracy if recipe.epochs or checkpoint else None,
        counts=counts,
        energies=tuple(price(counts, name) for name in energy),
        neuron_ops=neuron_ops(arm.model),
        step_s=arm.timer.seconds(),
        peak_bytes=arm.peak_bytes,
        epochs=recipe.epochs,
        loss=loss,
        checkpoint=None if checkpoint is None else str(checkpoint),
    )


def refuse_non_finite(results: Sequence[ArmResult]) -> None:
    """Raise SnnprofError where a layer received NaN or infinity."""
    for result in results:
        if result.counts.non_finite:
            layers = ", ".join(result.counts.non_finite)
            raise SnnprofError(f"NaN or infinity in the input of {layers} (mode {result.mode!r})")


def notes(results: Sequence[ArmResult], data: Dataset, recipe: Recipe, seed: int) -> Iterator[str]:
    """What was run, assumed or not measured."""
    yield f"Data: {data.description}."
    start = results[0].checkpoint
    if start is not None:
        yield f"Weights loaded from {start}."
    if not recipe.epochs:
        if start is None:
            yield (
                "The weights are untrained (0 epochs): no accuracy is given, and batch norms that "
                "have seen no data may leave layers silent."
            )
        yield "Step time and peak memory: not measured (0 epochs)."
        return
    yield (
        f"Training: epochs {recipe.epochs}, batch {recipe.batch_size}, SGD (learning rate "
        f"{recipe.learning_rate:g}, Nesterov momentum {recipe.momentum:g}, weight decay "
        f"{recipe.weight_decay:g}), cosine annealing, seed {seed}; one run per mode, incomplete "
        "batches dropped."
    )
    timed = min(len(result.step_s) for result in results)
    if timed:
        yield (
            f"Step time: whole training step, median (first-third quartile) of {timed} after "
            f"{WARMUP_STEPS + 1} untimed ones, modes in turn."
        )
    else:
        yield "Step time: not measured, the training was too short."
    if any(result.peak_bytes is None for result in results):
        yield "Peak memory: not measured, the training was too short."

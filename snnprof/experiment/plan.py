"""From what was asked for to the arms that are run: every neuron, in every mode, at every T."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.experiment.checkpoint import load_checkpoint
from snnprof.experiment.data_sets import Dataset
from snnprof.experiment.model_source import ModelSource, find_builder
from snnprof.models import MODELS
from snnprof.results import ReportRow
from snnprof.spiking.neuron_registry import specification
from snnprof.training.adapters import SteppedModel
from snnprof.training.modes import find_mode

NEURON, WEIGHTS = "lif", "fp32"


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        model, neurons, weights, modes, timesteps, checkpoint, seed: as of
            :func:`snnprof.run`, each name once.
        variants: of every neuron, and options of the network.
    """

    model: str
    neurons: tuple[str, ...]
    weights: str
    modes: tuple[str, ...]
    timesteps: tuple[int, ...]
    checkpoint: str | None
    seed: int
    variants: Mapping[str, object]

    @classmethod
    def of(
        cls,
        model: str,
        neuron: str | Sequence[str],
        weights: str,
        modes: str | Sequence[str],
        timesteps: int | Sequence[int],
        checkpoint: str | Path | None,
        seed: int,
        variants: Mapping[str, object],
    ) -> Request:
        """From arguments that may be one or several."""
        return cls(
            model=model,
            neurons=once_each(neuron),
            weights=weights,
            modes=once_each(modes),
            timesteps=once_each(timesteps),
            checkpoint=None if checkpoint is None else str(checkpoint),
            seed=seed,
            variants=variants,
        )

    def __post_init__(self) -> None:
        for what, given in (
            ("neuron", self.neurons),
            ("mode", self.modes),
            ("number of time steps", self.timesteps),
        ):
            if not given:
                raise SnnprofError(f"no {what} was given: there is nothing to run")
        if not isinstance(self.model, str):
            raise SnnprofError(f"model={self.model!r}: give a name, or package.module:function")
        for steps in self.timesteps:
            if not isinstance(steps, int) or steps < 1:
                raise SnnprofError(f"timesteps={steps}: must be at least 1, and whole")
            for name in self.modes:
                find_mode(name, steps)


@dataclass(frozen=True)
class Plan:
    """One arm to be run.

    Attributes:
        model, neuron, weights, mode, timesteps, checkpoint: as of :class:`ReportRow`.
        build: makes the model afresh, from the seed, with the checkpoint's weights.
    """

    model: str
    neuron: str | None
    weights: str | None
    mode: str
    timesteps: int
    checkpoint: str | None
    build: Callable[[], nn.Module | SteppedModel]

    @property
    def name(self) -> str:
        """``"vgg5 lif fp32 stbp T4"``: a name for a folder, and for TensorBoard."""
        return self.result().name

    @property
    def brings_weights(self) -> bool:
        """True if the model may be trained before we train it."""
        return self.checkpoint is not None or ":" in self.model

    def result(self, **figures: Any) -> ReportRow:
        """The arm's result, from its figures."""
        return ReportRow(
            model=self.model,
            neuron=self.neuron,
            weights=self.weights,
            mode=self.mode,
            timesteps=self.timesteps,
            checkpoint=self.checkpoint,
            **figures,
        )


def plans(request: Request, data: Dataset) -> list[Plan]:
    """The arms, in the order asked for; each model has been made once, to see that it can be.

    Raises:
        SnnprofError: a wrong name or value, a setting that somebody's own builder does not
            have, a model that does not do what it must, a checkpoint of another one.
    """
    source = find_builder(request.model)
    _check_settings(source, request)
    options = MODELS[source.name].options if source.name in MODELS else {}
    of_network = {
        key: v for key, v in request.variants.items() if key in options or not source.ours
    }
    of_neuron = {key: v for key, v in request.variants.items() if key not in of_network}
    made = []
    for neuron in request.neurons:
        for steps in request.timesteps:
            settings = {
                "neuron": neuron,
                "weights": request.weights,
                "num_classes": data.num_classes,
                "in_channels": data.in_channels,
                "image_size": data.image_size,
                **request.variants,
            }
            source.check(data.test_images[:2], data.test_labels[:2], steps, **settings)
            build = partial(_build, source, request, timesteps=steps, **settings)
            with torch.random.fork_rng():
                build()
            made += [
                Plan(
                    model=specification(source.name, **of_network),
                    neuron=specification(neuron, **of_neuron) if source.takes("neuron") else None,
                    weights=request.weights if source.takes("weights") else None,
                    mode=mode,
                    timesteps=steps,
                    checkpoint=request.checkpoint,
                    build=build,
                )
                for mode in request.modes
            ]
    return made


def _check_settings(source: ModelSource, request: Request) -> None:
    """Raise SnnprofError for what was asked of a builder that knows nothing of it."""
    for keyword, given in _not_usual(request):
        if not source.takes(keyword):
            raise SnnprofError(
                f"model {source.name!r} has no parameter {keyword!r}, so {keyword}={given} would "
                "be ignored: leave it out, or add the parameter to the builder"
            )


def _not_usual(request: Request) -> Iterator[tuple[str, object]]:
    if request.neurons != (NEURON,):
        yield "neuron", ", ".join(request.neurons)
    if request.weights != WEIGHTS:
        yield "weights", request.weights
    yield from request.variants.items()


def _build(source: ModelSource, request: Request, **settings: Any) -> nn.Module | SteppedModel:
    torch.manual_seed(request.seed)
    built = source(**settings)
    if request.checkpoint is not None:
        load_checkpoint(
            built.model if isinstance(built, SteppedModel) else built, request.checkpoint
        )
    return built


def once_each(given: Any) -> tuple[Any, ...]:
    """One thing or several, each once, in order."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return tuple(dict.fromkeys(given)) if several else (given,)

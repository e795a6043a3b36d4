"""From what was asked for to the rows that are run: every neuron, in every mode, at every T."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.experiment.checkpoint import load_checkpoint, saved_configuration
from snnprof.experiment.settings import NEURON, WEIGHTS, Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.models import MODELS
from snnprof.results import ReportRow
from snnprof.spiking.neuron_registry import specification
from snnprof.training.adapters import SteppedModel
from snnprof.training.step_runner import StepSetup


def plan_rows(settings: Settings) -> list[TrainingRun]:
    """The rows, in the order asked for; each model has been made once, to see that it can be.

    Raises:
        SnnprofError: a wrong name or value, a setting that somebody's own builder does not
            have, a model that does not do what it must, a checkpoint of another one.
    """
    _check_variants(settings)
    planned = []
    for neuron in settings.neurons:
        for timesteps in settings.timesteps:
            build, loading = _checked_build(settings, neuron, timesteps)
            names = _names(settings, neuron)
            planned += [
                TrainingRun(
                    setup=StepSetup(
                        build=build,
                        mode=mode,
                        timesteps=timesteps,
                        optimizer=settings.recipe.optimizer,
                        amp=settings.amp,
                        compile=settings.compile,
                        channels_last=settings.channels_last,
                    ),
                    row=ReportRow(
                        **names,
                        mode=mode.name,
                        timesteps=timesteps,
                        checkpoint=settings.checkpoint,
                    ),
                    notes=(*loading, *_trained_otherwise(settings, names, timesteps)),
                )
                for mode in settings.modes
            ]
    return planned


def _checked_build(
    settings: Settings, neuron: str, timesteps: int
) -> tuple[partial[nn.Module | SteppedModel], tuple[str, ...]]:
    """Make the model of a neuron and T once.

    Returns:
        What makes it again, and sentences on how its weights were loaded.
    """
    data = settings.data
    given = {
        "neuron": neuron,
        "weights": settings.weights,
        "num_classes": data.num_classes,
        "in_channels": data.in_channels,
        "image_size": data.image_size,
        **settings.variants,
    }
    settings.source.check(data.test_images[:2], data.test_labels[:2], timesteps, **given)
    build = partial(_build, settings, timesteps=timesteps, **given)
    with torch.random.fork_rng():
        _, loading = _built(settings, timesteps=timesteps, **given)
    return build, loading


def _trained_otherwise(
    settings: Settings, names: Mapping[str, object], timesteps: int
) -> Iterator[str]:
    """A sentence where the checkpoint says that it was trained as something else."""
    if settings.checkpoint is None:
        return
    saved = (saved_configuration(settings.checkpoint) or {}).get("settings", {})
    here = {"neuron": names["neuron"], "weights": names["weights"], "timesteps": timesteps}
    differing = [key for key, value in here.items() if key in saved and saved[key] != value]
    if differing:
        there = ", ".join(f"{key} {saved[key]}" for key in differing)
        now = ", ".join(f"{key} {here[key]}" for key in differing)
        yield f"{settings.checkpoint} was trained with {there}; here it runs with {now}."


def _names(settings: Settings, neuron: str) -> dict[str, Any]:
    """Model, neuron and weights as the row names them, variants included."""
    source = settings.source
    of_network = network_variants(settings)
    of_neuron = {key: v for key, v in settings.variants.items() if key not in of_network}
    return {
        "model": specification(source.name, **of_network),
        "neuron": specification(neuron, **of_neuron) if source.takes("neuron") else None,
        "weights": settings.weights if source.takes("weights") else None,
    }


def network_variants(settings: Settings) -> dict[str, object]:
    """Variants that are options of the network, and none of the neuron."""
    source = settings.source
    options = MODELS[source.name].options if source.name in MODELS else {}
    return {key: v for key, v in settings.variants.items() if key in options or not source.ours}


def _check_variants(settings: Settings) -> None:
    """Raise SnnprofError for what was asked of a builder that knows nothing of it."""
    source = settings.source
    for keyword, given in _not_usual(settings):
        if not source.takes(keyword):
            raise SnnprofError(
                f"model {source.name!r} has no parameter {keyword!r}, so {keyword}={given} would "
                "be ignored: leave it out, or add the parameter to the builder"
            )


def _not_usual(settings: Settings) -> Iterator[tuple[str, object]]:
    if settings.neurons != (NEURON,):
        yield "neuron", ", ".join(settings.neurons)
    if settings.weights != WEIGHTS:
        yield "weights", settings.weights
    yield from settings.variants.items()


def _build(settings: Settings, **given: Any) -> nn.Module | SteppedModel:
    return _built(settings, **given)[0]


def _built(settings: Settings, **given: Any) -> tuple[nn.Module | SteppedModel, tuple[str, ...]]:
    """The model, and sentences on how its weights were loaded."""
    torch.manual_seed(settings.seed)
    built = settings.source(**given)
    if settings.checkpoint is None:
        return built, ()
    module = built.model if isinstance(built, SteppedModel) else built
    return built, load_checkpoint(module, settings.checkpoint)

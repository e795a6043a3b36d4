"""From what was asked for to the rows that are run: every neuron, in every mode, at every T."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.experiment.checkpoint import load_checkpoint
from snnprof.experiment.settings import NEURON, WEIGHTS, Settings
from snnprof.experiment.training_run import TrainingRun
from snnprof.models import MODELS
from snnprof.results import ReportRow
from snnprof.spiking.neuron_registry import specification
from snnprof.training.step_runner import StepSetup
from snnprof.training.stepped_model import SteppedModel


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
            build = _checked_build(settings, neuron, timesteps)
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
                )
                for mode in settings.modes
            ]
    return planned


def _checked_build(
    settings: Settings, neuron: str, timesteps: int
) -> partial[nn.Module | SteppedModel]:
    """Make the model of a neuron and T once, and return what makes it again."""
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
        build()
    return build


def _names(settings: Settings, neuron: str) -> dict[str, Any]:
    """Model, neuron and weights as the row names them, variants included."""
    source = settings.source
    options = MODELS[source.name].options if source.name in MODELS else {}
    of_network = {
        key: v for key, v in settings.variants.items() if key in options or not source.ours
    }
    of_neuron = {key: v for key, v in settings.variants.items() if key not in of_network}
    return {
        "model": specification(source.name, **of_network),
        "neuron": specification(neuron, **of_neuron) if source.takes("neuron") else None,
        "weights": settings.weights if source.takes("weights") else None,
    }


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
    torch.manual_seed(settings.seed)
    built = settings.source(**given)
    if settings.checkpoint is not None:
        load_checkpoint(
            built.model if isinstance(built, SteppedModel) else built, settings.checkpoint
        )
    return built

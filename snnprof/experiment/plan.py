"""From what was asked for to the rows that are run: every neuron, in every mode, at every T."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.error_line import of_the_users
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import ALONE
from snnprof.energy.dense_baseline import DENSE
from snnprof.experiment.baseline import TIMESTEPS, Baseline
from snnprof.experiment.checkpoint import load_checkpoint, saved_configuration
from snnprof.experiment.settings import NEURON, WEIGHTS, Settings
from snnprof.experiment.shared_run import check_shared
from snnprof.experiment.trainer import evaluate
from snnprof.experiment.training_run import TrainingRun
from snnprof.models import MODELS, options_of
from snnprof.results import ReportRow
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron_registry import specification
from snnprof.training.found_layout import FoundLayout
from snnprof.training.layouts import AUTO
from snnprof.training.losses import CROSS_ENTROPIES, USUAL, find_loss
from snnprof.training.sequences import time_dim
from snnprof.training.step_runner import StepRunner, StepSetup
from snnprof.training.step_trial import settled
from snnprof.training.stepped_model import SteppedModel


def plan_rows(settings: Settings) -> list[TrainingRun]:
    """The rows, in the order asked for; each has been tried on a few samples.

    Raises:
        SnnprofError: a wrong name or value, a setting that somebody's own builder does not
            have, a model that does not do what it must, a checkpoint of another one.
    """
    check_shared(settings)
    runs = [
        run
        for neuron in settings.neurons
        for timesteps in settings.timesteps
        for run in _rows_of(settings, neuron, timesteps)
    ]
    if settings.baseline is not None:
        runs.append(_baseline_run(settings, settings.baseline, runs[0]))
    return runs


def _rows_of(settings: Settings, neuron: str, timesteps: int) -> Iterator[TrainingRun]:
    """The rows of one network: it takes its time steps alike in every mode."""
    build, loading = _checked_build(settings, neuron, timesteps)
    setup = _setup(settings, build, timesteps)
    names = _names(settings, neuron)
    notes = (*loading, *_trained_otherwise(settings, names, timesteps))
    for mode in settings.modes:
        if settings.usual_modes and not mode.whole and _cannot_step(setup):
            continue
        # What a mode reads of the network, and where, is its own.
        of_mode = replace(setup, mode=mode, loss=settings.loss or USUAL, division=None)
        setup = _tried(settings, of_mode)
        row = ReportRow(
            **names,
            mode=mode.name,
            timesteps=timesteps,
            layout=setup.layout_found.name,
            loss_name=setup.loss_name,
            checkpoint=settings.checkpoint,
            seed=settings.seed,
            data=settings.data_name,
            image_size=settings.data.shape.get("image_size"),
            optimizer=settings.recipe.words if settings.recipe.epochs else None,
        )
        yield TrainingRun(setup, row, (*notes, *_on_layout(settings, setup.layout_found, row)))


def _setup(
    settings: Settings, build: partial[nn.Module | SteppedModel], timesteps: int
) -> StepSetup:
    return StepSetup(
        build=build,
        timesteps=timesteps,
        optimizer=settings.recipe.optimizer,
        amp=settings.amp,
        compile=settings.compile,
        channels_last=settings.channels_last,
        layout=settings.layout,
        processes=settings.processes,
        sync_bn=settings.sync_bn,
        fsdp=settings.fsdp,
    )


def _baseline_run(settings: Settings, baseline: Baseline, spiking: TrainingRun) -> TrainingRun:
    """The row of the dense network, T = 1.

    Args:
        settings: of the spiking network.
        baseline: makes the dense one.
        spiking: a row that it is held against.

    Raises:
        SnnprofError: data that are time steps, or a network that runs T of them whatever it is
            given; and as :func:`plan_rows`.
    """
    found, name = spiking.setup.layout_found, spiking.row.model
    source, twin = baseline.source, baseline.twin
    if found.batches is not None and found.batches.time_dim is not None:
        raise SnnprofError(
            "baseline: the data are sequences of time steps, and a dense network has none: leave "
            "baseline out"
        )
    if twin and found.name == "inside" and not source.takes("timesteps"):
        raise SnnprofError(
            f"baseline: model {name!r} runs its time steps inside its forward, and its builder has "
            "no parameter 'timesteps' that would make them 1: add it, or give "
            "package.module:function"
        )
    dense = replace(
        settings,
        source=source,
        weights=WEIGHTS,
        checkpoint=None,
        variants=network_variants(settings) if twin else {},
        layout=_baseline_layout(settings, baseline, found),
    )
    build, _ = _checked_build(dense, NEURON if source.ours else settings.neurons[0], TIMESTEPS)
    setup = replace(_setup(dense, build, TIMESTEPS), loss=settings.loss or USUAL)
    setup = _tried(dense, setup) if twin else _as_images(dense, setup)
    row = ReportRow(
        model=name if twin else source.name,
        neuron=twin.neuron(spiking.timesteps) if twin else None,
        weights=twin.weights if twin and (source.takes("weights") or twin.precision) else None,
        mode=DENSE,
        timesteps=TIMESTEPS,
        layout=setup.layout_found.name,
        loss_name=setup.loss_name,
        seed=settings.seed,
        data=settings.data_name,
        image_size=settings.data.shape.get("image_size"),
        optimizer=settings.recipe.words if settings.recipe.epochs else None,
        baseline_of=name,
    )
    words = twin.words(spiking.timesteps) if twin else ""
    return TrainingRun(setup, row, _on_baseline(settings, row, words))


def _baseline_layout(settings: Settings, baseline: Baseline, found: FoundLayout) -> str:
    """A twin takes its inputs as the network that it is of does."""
    if baseline.twin is None:
        return AUTO
    is_found = settings.layout == AUTO and not baseline.source.ours
    return found.name or AUTO if is_found else settings.layout


def _as_images(settings: Settings, setup: StepSetup) -> StepSetup:
    """As :func:`_tried`: a dense network takes images [B, ...], as long as that fits it."""
    with suppress(SnnprofError):
        return _tried(settings, replace(setup, layout="step"))
    return _tried(settings, setup)


def _on_baseline(settings: Settings, row: ReportRow, words: str) -> Iterator[str]:
    """What has to be said of the dense row."""
    if words:
        trained = "trained like the others" if settings.recipe.epochs else "untrained"
        afresh = "" if settings.checkpoint is None else ", its weights are not the checkpoint's"
        yield f"{row.name}: the same network with {words}; T = 1, {trained}{afresh}."


def _on_layout(settings: Settings, found: FoundLayout, row: ReportRow) -> Iterator[str]:
    """What has to be said of how the network was run."""
    if found.first_of_several:
        yield f"{row.name}: of its several outputs the first is taken."
    x, _ = settings.batch
    if x.dim() == 3 and found.batches is not None and found.batches.time_dim is None:
        yield (
            f"{row.name}: every time step sees the whole of the inputs {tuple(x.shape)}; if the "
            f"{x.shape[1]} are time steps, give timesteps={x.shape[1]} (--timesteps {x.shape[1]})."
        )
    if settings.usual_modes and not found.steps_alone:
        yield (
            f"{row.name}: all its time steps run in one call, so that only mode stbp was run; "
            "other modes need a network that keeps its state between calls (docs/your-own.md)."
        )
    for remark in found.remarks:
        yield f"{row.name}: {remark}."


def _cannot_step(setup: StepSetup) -> bool:
    """True if it was found out that the network runs all its time steps in one call."""
    found = setup.layout
    return isinstance(found, FoundLayout) and not found.steps_alone


def _tried(settings: Settings, setup: StepSetup) -> StepSetup:
    """The setup after a training step and an evaluation of a few samples."""
    try:
        setup = settled(setup, settings.batch, settings.device)
        _check_outputs(settings, setup.layout_found)
        if not settings.source.ours:
            _try_evaluation(settings, setup)
    except SnnprofError as error:
        if settings.source.ours:
            raise
        raise SnnprofError(f"model {settings.source.name!r}: {error}") from error
    return setup


def _check_outputs(settings: Settings, found: FoundLayout) -> None:
    """Raise SnnprofError for a network with fewer outputs than the data have classes."""
    classes = settings.data.shape.get("num_classes")
    by_class = settings.loss is None or find_loss(settings.loss).name in CROSS_ENTROPIES
    outputs = found.output_shape[0] if found.output_shape else None
    if by_class and classes is not None and outputs is not None and outputs < classes:
        raise SnnprofError(
            f"it has {outputs} outputs, and the data {classes} classes: give its builder a "
            f"parameter 'num_classes', or let it have {classes} outputs"
        )


def _try_evaluation(settings: Settings, setup: StepSetup) -> None:
    """Count a few test samples: what fails in it, a metric too, fails before any training."""
    x, labels = next(iter(settings.data.test(settings.recipe.batch_size)))
    dim = time_dim(x, labels, setup.timesteps, setup.of_batches)
    # Where parameters are divided, the device need not hold the whole model.
    device = torch.device("cpu") if setup.fsdp else settings.device
    few = x[:2] if dim != 0 else x[:, :2]
    some = labels[:2].to(device) if isinstance(labels, Tensor) else labels
    metric = settings.metric if few.shape != x.shape and isinstance(labels, Tensor) else None
    tried = few.to(device), some
    steps = setup.timesteps
    assert steps is not None, "every row has its T"
    with torch.random.fork_rng():
        alone = replace(setup, processes=ALONE, sync_bn=False, fsdp=False)
        runner = StepRunner(alone, setup.make(), device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = partial(evaluate, runner.stepped, setup.layout_found, steps, [tried], metric)
            of_the_users(f"it failed on test samples of shape {tuple(few.shape)}", trial)


def _checked_build(
    settings: Settings, neuron: str, timesteps: int
) -> tuple[partial[nn.Module | SteppedModel], tuple[str, ...]]:
    """Make the model of a neuron and T once.

    Returns:
        What makes it again, and sentences on how its weights were loaded.
    """
    given = {
        "neuron": neuron,
        "weights": settings.weights,
        **settings.data.shape,
        **settings.variants,
    }
    build = partial(_build, settings, timesteps=timesteps, **given)
    with torch.random.fork_rng():
        built, loading = _built(settings, timesteps=timesteps, **given)
        again = None if settings.source.ours else build()
    if isinstance(built, SpikingNetwork) and built.timesteps != timesteps:
        raise SnnprofError(
            f"model {settings.source.name!r} is made for {built.timesteps} time steps, and "
            f"{timesteps} were asked for: give its builder a parameter 'timesteps', or use "
            f"timesteps={built.timesteps}"
        )
    if again is not None and _weights(built) & _weights(again):
        raise SnnprofError(
            f"model {settings.source.name!r}: its builder gives the same weights again, which rows "
            "would train together: make the network inside it"
        )
    return build, loading


def _weights(built: nn.Module | SteppedModel) -> set[Tensor]:
    """The parameters that are trained."""
    module = built.model if isinstance(built, SteppedModel) else built
    return {parameter for parameter in module.parameters() if parameter.requires_grad}


def _trained_otherwise(
    settings: Settings, names: Mapping[str, object], timesteps: int
) -> Iterator[str]:
    """A sentence where the checkpoint says that it was trained as something else.

    Raises:
        SnnprofError: it is of the dense twin, whose weights fit, and say nothing of spikes.
    """
    if settings.checkpoint is None:
        return
    saved = (saved_configuration(settings.checkpoint) or {}).get("settings", {})
    if "baseline" in saved:
        raise SnnprofError(
            f"checkpoint {settings.checkpoint!r} is of the dense network beside "
            f"{saved.get('model')} (--baseline {saved['baseline']}), no spiking one: give the "
            "weights of another row"
        )
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
    options = options_of(source.name) if source.name in MODELS else {}
    return {key: v for key, v in settings.variants.items() if key in options or not source.ours}


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

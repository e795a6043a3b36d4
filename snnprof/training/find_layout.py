"""Finding out, on two or three samples, how a model takes its time steps.

Nothing is measured or trained on a model that mixes samples, that runs T steps inside each of T
calls, or that does not return to rest: each of these would give wrong figures in silence. What
is tried are models made for it, in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from itertools import chain

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.found_layout import FoundLayout
from snnprof.training.layout_trial import LayoutTrial, MisfitError, MixesSamplesError
from snnprof.training.layouts import AUTO, LAYOUTS, laid_out
from snnprof.training.stepped_model import SteppedModel

Build = Callable[[], "nn.Module | SteppedModel"]
OURS = "time-first"


def find_layout(
    build: Build,
    x: Tensor,
    layout: str = AUTO,
    repeated: bool = True,
    output_dims: Sequence[int] | None = None,
) -> FoundLayout:
    """Run a model on a few samples, and find out how it takes its time steps.

    Args:
        build: makes a fresh model; called once for every layout that is tried.
        x: samples [T, B, ...] of which the first few are used, on the model's device.
        layout: a name of :data:`~snnprof.training.layouts.LAYOUTS`, or "auto".
        repeated: every time step of x is the same image.
        output_dims: how many dimensions one sample's outputs at one time step may have, by its
            labels; None for any number.

    Returns:
        The layout; of one that was given, what else was found out.

    Raises:
        SnnprofError: no layout fits (each is named with its reason), or the model mixes samples,
            runs T steps in each of T calls, keeps its state after a reset, or never runs its
            own forward; layers without weights; sequences for a layout of images.
    """
    if layout != AUTO:
        LAYOUTS.find(layout)
    with torch.random.fork_rng():
        stepped = adapt(build())
        _check_device(stepped.model)
        if isinstance(stepped.model, SpikingNetwork) and stepped.layout == OURS:
            return _of_ours(stepped, layout)
        if stepped.call is not None:
            _check_arguments(stepped.model)
        few = _few(x)
        if stepped.call is None:
            if layout != AUTO:
                laid_out(stepped, layout, None)  # says why not
            return _tried(stepped, None, few, output_dims)
        if layout != AUTO and LAYOUTS[layout].images_only and not repeated:
            raise SnnprofError(
                f"layout={layout!r} takes images, and the samples are sequences of {len(x)} time "
                "steps, of which it would see the first alone: give 'time-first' or 'batch-first'"
            )
        names = _candidates(stepped, repeated) if layout == AUTO else [layout]
        return _first_that_fits(build, names, few, output_dims, given=layout != AUTO)


def _check_device(model: nn.Module) -> None:
    """Raise SnnprofError for a model without values."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise SnnprofError(
                f"{name} of {type(model).__name__} is on the meta device, without values: make it "
                "on the CPU or a GPU"
            )


def _check_arguments(model: nn.Module) -> None:
    """Raise SnnprofError for a forward that needs more than one argument."""
    try:
        parameters = signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # one that says nothing of itself
        return
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
    if len(needed) > 1:
        raise SnnprofError(
            f"forward of {type(model).__name__} needs {', '.join(needed[1:])} besides "
            f"{needed[0]}: give it a default, or wrap it in a module that hands it over"
        )


def _of_ours(stepped: SteppedModel, layout: str) -> FoundLayout:
    if layout not in (AUTO, OURS):
        raise SnnprofError(
            f"layout={layout!r}: {type(stepped.model).__name__} takes [T, B, C, H, W]: leave "
            f"layout out, or give {OURS!r}"
        )
    return FoundLayout(OURS, output_dim=0, asked=OURS)


def _few(x: Tensor) -> Tensor:
    """Two samples, or three where there are two time steps: T and B must not look alike."""
    samples = 3 if len(x) == 2 else 2
    few = x[:, :samples]
    if x.is_floating_point():
        few = few.nan_to_num(0.0, 0.0, 0.0)
    if few.shape[1] < samples:
        few = few[:, torch.arange(samples, device=x.device) % few.shape[1]]
    return few


def _candidates(stepped: SteppedModel, repeated: bool) -> list[str]:
    """The layouts, the one that the library suggests first."""
    names = [name for name in LAYOUTS if repeated or not LAYOUTS[name].images_only]
    order = ["time-first", "batch-first", "step", "inside"]
    order += [name for name in names if name not in order]
    names = [name for name in order if name in names]
    return sorted(names, key=lambda name: name != stepped.layout)


def _first_that_fits(
    build: Build, names: list[str], x: Tensor, output_dims: Sequence[int] | None, given: bool
) -> FoundLayout:
    reasons: dict[str, MisfitError] = {}
    doubtful: FoundLayout | None = None
    for name in names:
        try:
            found = _tried(adapt(build()), name, x, output_dims)
        except MisfitError as misfit:
            reasons[name] = misfit
            continue
        found = replace(found, found=not given, asked=name if given else AUTO)
        if given or not found.remarks:
            return found
        doubtful = doubtful or found
    # Not where it mixes samples in another layout: what was not seen may be mixed here too.
    mixes = any(isinstance(reason, MixesSamplesError) for reason in reasons.values())
    if doubtful is not None and not mixes:
        return doubtful
    if doubtful is not None and doubtful.name is not None:
        reasons[doubtful.name] = MisfitError("; ".join(doubtful.remarks))
    why = _grouped(reasons)
    shape = ", ".join(["T", "B", *map(str, x.shape[2:])])
    raise SnnprofError(
        f"no layout fits for samples [{shape}], T = {len(x)} ({why}): give a network that takes "
        "its time steps in one of these layouts, or wrap it in snnprof.stepwise(model, "
        "reset=..., detach=..., step=...)"
        if not given
        else f"layout {names[0]!r} does not fit: {reasons[names[0]]}"
    )


def _tried(
    stepped: SteppedModel, name: str | None, x: Tensor, output_dims: Sequence[int] | None
) -> FoundLayout:
    """Run a model in a layout, and look whether it holds.

    Raises:
        MisfitError: it does not; for a model with ways of its own (name None) SnnprofError.
    """
    try:
        found = LayoutTrial(stepped, name, x).outcome()
        if output_dims is not None and len(found.output_shape) not in output_dims:
            wanted = " or ".join(map(str, output_dims))
            raise MisfitError(
                f"its outputs are {found.output_shape} per sample, and the labels want "
                f"{wanted} dimension{'s' if wanted != '1' else ''}"
            )
        return found
    except MisfitError as misfit:
        if name is not None:
            raise
        raise SnnprofError(f"{type(stepped.model).__name__}: {misfit}") from misfit


def _grouped(reasons: Mapping[str, MisfitError]) -> str:
    """The reasons, each once, with the layouts that it was found in."""
    layouts: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        layouts.setdefault(str(reason), []).append(name)
    if len(layouts) == 1:
        return next(iter(layouts))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in layouts.items())

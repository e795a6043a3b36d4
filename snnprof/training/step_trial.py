"""One training step on a few samples, before anything is trained, measured or counted.

A layout that does not fit, labels that the loss cannot take and a mode that the model cannot be
run in are found here, on models made for it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnprof.core.error_line import of_the_users, one_line
from snnprof.core.errors import SnnprofError, is_out_of_memory
from snnprof.core.processes import ALONE
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.find_layout import OURS, find_layout
from snnprof.training.found_layout import FoundLayout
from snnprof.training.layouts import AUTO
from snnprof.training.losses import (
    CROSS_ENTROPIES,
    Loss,
    check_classes,
    find_loss,
    output_dims,
)
from snnprof.training.modes import find_mode
from snnprof.training.sequences import Batches, as_sequence, batches_like
from snnprof.training.step_runner import StepRunner, StepSetup
from snnprof.training.stepped_model import SteppedModel

_SAMPLES = 3


def settled(setup: StepSetup, batch: tuple[Any, Any], device: torch.device) -> StepSetup:
    """The setup with its layout and its loss found out, after one training step on few samples.

    Our networks with losses and modes of ours are known, and are not tried.

    Args:
        setup: as it was asked for.
        batch: inputs and labels.
        device: where to train.

    Raises:
        SnnprofError: no layout fits, the loss cannot take these outputs and labels, or the step
            fails.
    """
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = setup.make()
        model = built.model if isinstance(built, SteppedModel) else built
        if setup.timesteps is None and isinstance(model, SpikingNetwork):
            setup = replace(setup, timesteps=model.timesteps)
        known = _is_known(setup, model)
        asked = setup
        setup = replace(setup, compile=False, processes=ALONE, sync_bn=False, fsdp=False)
        if asked.fsdp:  # the device need not hold the whole model
            device = torch.device("cpu")
        if isinstance(model, SpikingNetwork) and setup.layout == AUTO and built is model:
            setup = replace(setup, layout=OURS)
        batches = batches_like(*batch, setup.timesteps, setup.of_batches)
        x, y = _few(setup, *batch, batches, device)
        del built, model
        if isinstance(setup.layout, str):
            setup = replace(setup, layout=_found(setup, x, y, batches))
        if not known:
            setup = replace(setup, loss=_fitting_loss(setup, x, y, device))
            _run_once(setup, x, y, device)
        if asked.fsdp and setup.division is None:
            found = StepRunner(setup, setup.make(), device).find_division(x, y)
            setup = replace(setup, division=found)
    return replace(
        setup,
        compile=asked.compile,
        processes=asked.processes,
        sync_bn=asked.sync_bn,
        fsdp=asked.fsdp,
    )


def _is_known(setup: StepSetup, model: nn.Module) -> bool:
    of = (type(model).__module__, find_mode(setup.mode).train.__module__)
    ours = isinstance(model, SpikingNetwork) and all(name.startswith("snnprof.") for name in of)
    return ours and not find_loss(setup.loss).own


def _few(
    setup: StepSetup, x: Any, y: Any, batches: Batches, device: torch.device
) -> tuple[Tensor, Any]:
    """The first samples of a batch, on the device; of all if there are fewer."""
    sequence = as_sequence(x, y, setup.timesteps, batches)
    samples = _SAMPLES - (len(sequence) == _SAMPLES)  # T and B must not look alike
    few = sequence[:, :samples].to(device)
    batch = sequence.shape[1]

    def first_labels(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        of_samples = value.dim() > 0 and len(value) == batch
        return (value[:samples] if of_samples else value).to(device)

    labels = tree_map(first_labels, y)
    dim = batches.time_dim
    return (few[0] if dim is None else few.transpose(0, dim)), labels


def _found(setup: StepSetup, x: Tensor, y: Any, batches: Batches) -> FoundLayout:
    assert isinstance(setup.layout, str), "what is found is not looked for again"
    sequence = as_sequence(x, y, setup.timesteps, batches)
    dims = output_dims(y) if isinstance(y, Tensor) else None
    found = find_layout(setup.make, sequence, setup.layout, batches.time_dim is None, dims)
    return replace(found, batches=batches)


def _fitting_loss(setup: StepSetup, x: Tensor, y: Any, device: torch.device) -> Loss:
    """The loss, in the form that takes the model's outputs.

    Raises:
        SnnprofError: it takes neither; labels that it cannot take.
    """
    loss = find_loss(setup.loss)
    runner = StepRunner(setup, setup.make(), device)
    sequence = as_sequence(x, y, setup.timesteps, setup.of_batches)
    name = type(runner.stepped.model).__name__
    outputs = of_the_users(
        f"{name}: it failed on an input of shape {tuple(sequence.shape)}",
        partial(runner.stepped.run_sequence, sequence),
    )
    if loss.needs_steps and len(outputs) != len(sequence) and find_mode(setup.mode).whole:
        raise SnnprofError(
            f"loss {loss.name!r} needs the outputs of every time step, and "
            f"{name} averages them over time: use loss 'sum', or "
            "let its forward return [T, B, classes]"
        )
    if not loss.own:
        if not isinstance(y, Tensor):
            raise SnnprofError(f"loss {loss.name!r} needs labels, and there are none: give loss=f")
        if loss.name in CROSS_ENTROPIES:
            check_classes(outputs, y)
        return loss
    if loss.of_step is None:
        return loss
    function, reasons, taken = loss.of_step, [], []
    forms = (loss, Loss(loss.name, function, needs_steps=len(outputs) > 1, own=True))
    for form in forms:
        refused = _why_not(form, outputs, y)
        if refused is None:
            taken.append(form)
        else:
            reasons.append(refused)
    if len(taken) > 1:
        taken.sort(key=lambda form: not _tells_samples_apart(form, outputs, y))
    if taken:
        return taken[0]
    returned = [reason for reason in reasons if reason.startswith("it returned")]
    if returned:  # it takes these outputs: what it makes of them is wrong
        raise SnnprofError(f"loss {loss.name!r}: {returned[0]}")
    shape = tuple(outputs.shape)
    raise SnnprofError(
        f"loss {loss.name!r} takes neither outputs summed over time, {shape[1:]}, nor those of all "
        f"time steps, {shape}, with labels {_shape(y)}: {reasons[0]}; {reasons[1]}"
    )


def _why_not(loss: Loss, outputs: Tensor, y: Any) -> str | None:
    """Why a loss of one's own cannot be computed; None if it can."""
    try:
        with warnings.catch_warnings():
            # Broadcasting targets to outputs is a mistake that torch only warns of.
            warnings.filterwarnings("error", "Using a target size")
            found = loss(outputs, y)
    except Exception as error:  # whatever somebody's function makes of them
        if is_out_of_memory(error):
            raise
        return one_line(error)
    if not isinstance(found, Tensor) or found.dim():
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        return f"it returned {what}, a scalar tensor is needed"
    if not bool(found.isfinite()):
        return f"it returned {found.item()}"
    return None


def _tells_samples_apart(loss: Loss, outputs: Tensor, y: Any) -> bool:
    """False if it does not matter to the loss which sample's outputs are whose.

    A mean over time, ``outputs.mean(0)``, is one over the samples where there is no time, and
    broadcasting hides it.
    """
    made = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not torch.isclose(loss(made, y), loss(made.roll(1, 1), y), rtol=1e-4, atol=0)


def _shape(y: Any) -> object:
    return tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__


def _run_once(setup: StepSetup, x: Tensor, y: Any, device: torch.device) -> None:
    """Train on the few samples once."""
    runner = StepRunner(setup, setup.make(), device)
    name = runner.mode.name
    loss = of_the_users(
        f"{type(runner.stepped.model).__name__}: a training step in mode {name!r} failed",
        partial(runner.run, x, y, watch=True),
    )
    if not bool(loss.isfinite()):
        raise SnnprofError(
            f"mode {name!r}: the loss is {loss.item()} at step 1: look for NaN in the batch"
        )

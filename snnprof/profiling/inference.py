"""The cost of inference: latency and memory of one call of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.profiling.observed_memory import observe_memory
from snnprof.profiling.phase_timer import Clock, PhaseTimer
from snnprof.profiling.profile import REPEATS, WARMUP
from snnprof.profiling.step_profiler import check_least, device_of
from snnprof.results import InferenceProfile
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.divided_parameters import own_part
from snnprof.training.stepped_model import SteppedModel


def profile_inference(
    model: nn.Module | SteppedModel,
    batch: Tensor | tuple[Tensor, Tensor],
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    device: str = "auto",
    samples: int | None = None,
    clock: Clock = time.perf_counter,
) -> InferenceProfile:
    """Profile calls ``model(inputs)`` in evaluation mode, without gradients, each from rest.

    The model stays where and as it is, except that its state is reset; torch's random numbers
    go on as if nothing had run.

    Args:
        model: any module; of SpikingJelly, snnTorch or Norse its state is reset too.
        batch: inputs as the model takes them, or a pair of inputs and classes [B]; it is moved
            to the model's device first.
        repeats: timed calls.
        warmup: calls before them.
        device: "auto", "cpu" or "cuda"; "auto" is the model's.
        samples: B; if not given, from the classes, or else from an output [B, classes].
        clock: seconds as a float, for the CPU.

    Returns:
        Every call's seconds, and the bytes of one call that was not timed.

    Raises:
        SnnprofError: a wrong value; a batch that is neither; a model on another device; B is
            not told; torch's profiler is running. What the model raises passes unchanged.
    """
    check_least("repeats", repeats, 1)
    check_least("warmup", warmup, 0)
    if samples is not None:
        check_least("samples", samples, 1)
    inputs, labels = _inputs_of(batch)
    stepped = adapt(model)
    where = device_of(stepped.model, device)
    timer = PhaseTimer(where, clock)
    out, peak_bytes = _timed(stepped, stepped.model, inputs.to(where), timer, warmup, repeats)
    batch_size = samples or _samples_of(stepped.model, labels, out)
    return InferenceProfile(where.type, batch_size, timer.seconds(), peak_bytes)


def profile_sequences(
    stepped: SteppedModel,
    sequence: Tensor,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    clock: Clock = time.perf_counter,
) -> InferenceProfile:
    """:func:`profile_inference` of whole sequences, whatever the model's layout.

    Args:
        stepped: the model, in its layout.
        sequence: [T, B, ...], on the model's device.
        repeats, warmup, clock: as there.
    """
    timer = PhaseTimer(sequence.device, clock)
    _, peak_bytes = _timed(stepped, stepped.run_sequence, sequence, timer, warmup, repeats)
    return InferenceProfile(sequence.device.type, sequence.shape[1], timer.seconds(), peak_bytes)


def _timed(
    stepped: SteppedModel,
    call: Callable[[Tensor], object],
    inputs: Tensor,
    timer: PhaseTimer,
    warmup: int,
    repeats: int,
) -> tuple[object, int]:
    """Time calls from rest in evaluation mode; the output of one of them, and its peak bytes."""
    module, where = stepped.model, inputs.device
    with inference(module, where):
        try:
            for _ in range(warmup):
                stepped.reset()
                call(inputs)
            stepped.reset()
            standing = (*map(own_part, module.parameters()), *module.buffers(), inputs)
            with observe_memory(where, lambda: standing) as memory:
                out = call(inputs)
            for _ in range(repeats):
                stepped.reset()
                if where.type == "cuda":
                    torch.cuda.synchronize(where)
                with timer.step():
                    call(inputs)
        finally:
            stepped.reset()
    return out, memory.peak_bytes


@contextmanager
def inference(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no gradients and random numbers of its own; all as before afterwards."""
    training = [part for part in module.modules() if part.training]
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    try:
        module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for part in training:
            part.training = True


def _inputs_of(batch: object) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, labels = batch
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            return inputs, labels
    raise SnnprofError(
        f"batch is a {type(batch).__name__}: give the inputs, one tensor, or a pair of tensors, "
        "inputs and classes; for anything else, snnprof.profile(lambda: model(...))"
    )


def _samples_of(module: nn.Module, labels: Tensor | None, out: object) -> int:
    """B: of the classes [B], or of an output [B, classes] ([T, B, classes] of a network of ours).

    Raises:
        SnnprofError: neither tells.
    """
    if labels is not None and labels.dim():
        return len(labels)
    if isinstance(out, Tensor) and out.dim() == 2:
        return len(out)
    if isinstance(out, Tensor) and isinstance(module, SpikingNetwork):
        return out.shape[1]
    found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    raise SnnprofError(
        f"the model gave {found}, which does not tell how many samples the batch holds: give "
        "samples=B"
    )

"""What one training step costs: time per phase and memory, of one arm or of several in turn."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from snnprof.environment import choose_device
from snnprof.errors import SnnprofError, known
from snnprof.results import StepProfile
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import SteppedModel, adapt
from snnprof.training.batch import SILENT, BatchRun, Loss, Recorder
from snnprof.training.memory import StepMemory, step_memory
from snnprof.training.modes import find_mode
from snnprof.training.timing import Clock, PhaseTimer

Batch = tuple[Tensor, Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
AMP: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
WARMUP = 5
REPEATS = 30
# As the HD-LIF authors train.
sgd: MakeOptimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True)


@dataclass(frozen=True)
class StepArm:
    """What to profile.

    Attributes:
        build: makes a fresh model; or a model, of which a deep copy is profiled.
        mode: a training mode.
        timesteps: T; None for the model's own, or that of the batch's sequence.
        optimizer: makes the optimiser of the parameters.
        amp: "bf16" or "fp16" for mixed precision.
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
        loss: of logits [B, classes] and classes [B].
    """

    build: Callable[[], nn.Module | SteppedModel] | nn.Module
    mode: str = "stbp"
    timesteps: int | None = None
    optimizer: MakeOptimizer = sgd
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    loss: Loss = F.cross_entropy

    def __post_init__(self) -> None:
        if self.amp is not None and self.amp not in AMP:
            raise known("amp", self.amp, AMP)
        find_mode(self.mode, self.timesteps)


def profile_step(
    build: Callable[[], nn.Module | SteppedModel] | nn.Module,
    batch: Batch,
    mode: str = "stbp",
    *,
    timesteps: int | None = None,
    optimizer: MakeOptimizer = sgd,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    loss: Loss = F.cross_entropy,
    seed: int = 0,
) -> StepProfile:
    """Profile one training step of a model in a mode.

    Args:
        build: makes a fresh model (a network of ours, of a known library, any module from
            [K, B, ...] to [K, B, classes], or :func:`~snnprof.training.adapters.stepwise`); it
            is called twice, for memory and for time. A model is left as it is: a deep copy of
            it is profiled.
        batch: inputs and classes [B]. Inputs [B, C, H, W] or [B, features] are repeated T
            times; others are sequences [T, B, ...].
        mode: one of :func:`~snnprof.training.modes.mode_names`.
        timesteps: T; None for the model's own, or that of the sequence.
        optimizer: makes the optimiser; SGD with Nesterov momentum if not given.
        warmup: steps before the time is taken.
        repeats: timed steps.
        device: "auto", "cpu" or "cuda".
        clock: seconds as a float, for the CPU.
        amp: "bf16" or "fp16".
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
        loss: of logits [B, classes] and classes [B]; for the published one of OTTT, see
            :func:`~snnprof.training.batch.cross_entropy_and_mse`.
        seed: of the model's making and of the time steps that a mode draws.

    Returns:
        Every repetition's seconds, and the bytes of one step that was not timed.

    Raises:
        SnnprofError: a wrong name or value; K > T; a batch that does not fit; a model that
            keeps its graph between steps; a loss that is not finite.
    """
    arm = StepArm(build, mode, timesteps, optimizer, amp, compile, channels_last, loss)
    (profile,) = profile_arms(
        [arm], batch, warmup=warmup, repeats=repeats, device=device, clock=clock, seed=seed
    )
    return profile


def profile_arms(
    arms: Sequence[StepArm],
    batch: Batch,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    device: str = "auto",
    clock: Clock = time.perf_counter,
    seed: int = 0,
) -> tuple[StepProfile, ...]:
    """Profile several arms in one run, so that a slow moment strikes them alike.

    Memory is taken of one arm at a time, each made afresh, none of the others alive. Then all
    are made again, and take their timed steps in turn; another one starts each round.

    Args and errors: as :func:`profile_step`.
    """
    for name, value, least in (("warmup", warmup, 0), ("repeats", repeats, 1)):
        if value < least:
            raise SnnprofError(f"{name}={value}: must be at least {least}")
    where = choose_device(device)
    devices = range(torch.cuda.device_count()) if where.type == "cuda" else ()
    with torch.random.fork_rng(devices):
        memory = [_measure_memory(arm, batch, where, seed) for arm in arms]
        trials = [_Trial(arm, batch, where, seed, PhaseTimer(where, clock)) for arm in arms]
        for trial in trials:
            for _ in range(warmup):
                trial.step()
        _synchronize(where)
        for number in range(repeats):
            first = number % len(trials)
            for trial in (*trials[first:], *trials[:first]):
                trial.timed_step()
        for trial in trials:
            trial.check_finite()
    return tuple(trial.result(found) for trial, found in zip(trials, memory, strict=True))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def _measure_memory(arm: StepArm, batch: Batch, device: torch.device, seed: int) -> StepMemory:
    """The second step's memory: from then on the optimiser has its state."""
    trial = _Trial(arm, batch, device, seed, SILENT)
    trial.step(watch=True)
    found, loss = step_memory(trial.run, trial.stepped, trial.optimizer, trial.inputs, device)
    trial.losses.append(loss)
    trial.check_finite()
    return found


@dataclass
class _Trial:
    """An arm with its model, on its device."""

    arm: StepArm
    batch: Batch
    device: torch.device
    seed: int
    recorder: Recorder
    losses: list[Tensor] = field(default_factory=list)
    last: BatchRun | None = None

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        stepped = adapt(_make(self.arm.build))
        layout = torch.channels_last if self.arm.channels_last else torch.preserve_format
        model = stepped.model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        model.train()
        images, labels = (tensor.to(self.device) for tensor in self.batch)
        if self.arm.channels_last and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        self.inputs = (images, labels)
        self.sequence = as_sequence(images, labels, _timesteps(self.arm, model))
        self.mode = find_mode(self.arm.mode, len(self.sequence))
        self.stepped = stepped.compile() if self.arm.compile else stepped
        self.optimizer = self.arm.optimizer(model.parameters())
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.arm.amp == "fp16")

    def run(self, watch: bool = False) -> Tensor:
        """One training step."""
        self.last = BatchRun(
            self.stepped,
            self.sequence,
            self.inputs[1],
            self.optimizer,
            loss=self.arm.loss,
            recorder=self.recorder,
            generator=self.generator,
            autocast=None if self.arm.amp is None else AMP[self.arm.amp],
            scaler=self.scaler,
            watch=watch,
        )
        return self.mode(self.last)

    def step(self, watch: bool = False) -> None:
        self.losses.append(self.run(watch))

    def timed_step(self) -> None:
        assert isinstance(self.recorder, PhaseTimer)
        with self.recorder.step():
            loss = self.run()
        self.losses.append(loss)

    def check_finite(self) -> None:
        """Raise SnnprofError for a loss or a parameter that is not; outside the timed steps.

        A spiking network turns NaN into silence: the loss alone may stay finite.
        """
        losses = torch.stack(self.losses).tolist()
        what = [
            f"the loss is {loss} at step {number}"
            for number, loss in enumerate(losses, start=1)
            if not math.isfinite(loss)
        ]
        what += [
            f"{name} is not finite after step {len(self.losses)}"
            for name, parameter in self.stepped.model.named_parameters()
            if not parameter.isfinite().all()
        ]
        if what:
            raise SnnprofError(
                f"mode {self.arm.mode!r}: {what[0]}: look for NaN in the batch, or try a lower "
                "learning rate"
            )

    def result(self, memory: StepMemory) -> StepProfile:
        assert isinstance(self.recorder, PhaseTimer)
        assert self.last is not None
        return StepProfile(
            mode=self.arm.mode,
            device=str(self.device.type),
            batch_size=len(self.inputs[1]),
            timesteps=len(self.sequence),
            forward_s=self.recorder.seconds("forward"),
            backward_s=self.recorder.seconds("backward"),
            optimizer_s=self.recorder.seconds("optimizer"),
            step_s=self.recorder.seconds(),
            peak_bytes=memory.peak_bytes,
            reserved_bytes=memory.reserved_bytes,
            static_bytes=memory.static_bytes,
            activation_bytes=memory.peak_bytes - memory.static_bytes,
            backward_passes=self.last.backward_passes,
            optimizer_steps=self.last.optimizer_steps,
        )


def _make(
    build: Callable[[], nn.Module | SteppedModel] | nn.Module,
) -> nn.Module | SteppedModel:
    if not callable(build):
        raise SnnprofError(
            f"build is a {type(build).__name__}: give a function that makes the model, or a module"
        )
    if not isinstance(build, nn.Module):
        return build()
    try:
        return copy.deepcopy(build)
    except RuntimeError as error:
        raise SnnprofError(
            f"{type(build).__name__} cannot be copied ({error}): call snnprof.reset(model) first, "
            "or give a function that builds it"
        ) from error


def _timesteps(arm: StepArm, model: nn.Module) -> int | None:
    if arm.timesteps is not None:
        return arm.timesteps
    return model.timesteps if isinstance(model, SpikingNetwork) else None


def as_sequence(x: Tensor, labels: Tensor, timesteps: int | None) -> Tensor:
    """The inputs as [T, B, ...].

    Args:
        x: [B, features] or [B, C, H, W], which is repeated T times without taking memory; or
            [T, B, ...].
        labels: [B].
        timesteps: T; None for that of the sequence.

    Raises:
        SnnprofError: the shapes do not fit each other or T, or T is not known.
    """
    if labels.dim() != 1 or not len(labels):
        raise SnnprofError(f"labels of shape {tuple(labels.shape)}: classes [B] are needed")
    batch = len(labels)
    if x.dim() in (2, 4) and len(x) == batch:
        if timesteps is None:
            raise SnnprofError("an image batch has no time steps: give timesteps=T")
        return x.expand(timesteps, *x.shape)
    if x.dim() < 3 or x.shape[1] != batch:
        raise SnnprofError(
            f"inputs of shape {tuple(x.shape)} with {batch} labels: [B, C, H, W] or [T, B, ...] "
            "is needed"
        )
    if timesteps is not None and len(x) != timesteps:
        raise SnnprofError(f"timesteps={timesteps}, but the sequence has {len(x)}")
    return x

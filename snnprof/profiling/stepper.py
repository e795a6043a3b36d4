"""A model in training: batches in, training steps out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from snnprof.core.errors import SnnprofError, known
from snnprof.profiling.phase_timer import PhaseTimer
from snnprof.profiling.step_memory import StepMemory, step_memory
from snnprof.results import StepProfile
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import SteppedModel, adapt
from snnprof.training.batch_run import SILENT, BatchRun, Loss
from snnprof.training.modes import find_mode

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
AMP: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
# As the HD-LIF authors train.
sgd: MakeOptimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True)


@dataclass(frozen=True)
class Execution:
    """How training steps are run.

    Attributes:
        amp: "bf16" or "fp16" for mixed precision; None for full.
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
    """

    amp: str | None = None
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.amp is not None and self.amp not in AMP:
            raise known("amp", self.amp, AMP)

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.preserve_format

    def laid_out(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in the memory format; anything else as it is."""
        if self.channels_last and images.dim() == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def __str__(self) -> str:
        """What is not usual, e.g. "amp bf16, compiled"; empty if nothing is."""
        parts = (
            f"amp {self.amp}" if self.amp else "",
            "compiled" if self.compile else "",
            "channels last" if self.channels_last else "",
        )
        return ", ".join(part for part in parts if part)


USUAL = Execution()


class Stepper:
    """A model on its device, with its optimiser, in one training mode.

    Args:
        model: what is trained, from now on in training mode.
        mode: name of a training mode.
        timesteps: T; None for the model's own, or that of the sequences.
        optimizer: makes the optimiser of the parameters.
        device: where to train.
        execution: precision, compilation, memory format.
        timer: takes the time of the steps inside its ``step()``; None for nobody.
        loss: of logits [B, classes] and classes [B].
        seed: of the time steps that the mode draws.

    Attributes:
        stepped: the model, not compiled.
        optimizer: its optimiser.
        last: the last step, which tells how many passes it took; None before the first.
        updated: True once a :meth:`warm` step has updated the parameters: from then on the
            optimiser has its state.

    Raises:
        SnnprofError: a model without parameters.
    """

    def __init__(
        self,
        model: nn.Module | SteppedModel,
        mode: str,
        timesteps: int | None,
        optimizer: MakeOptimizer,
        device: torch.device,
        *,
        execution: Execution = USUAL,
        timer: PhaseTimer | None = None,
        loss: Loss = F.cross_entropy,
        seed: int = 0,
    ) -> None:
        self.stepped = adapt(model)
        module = self.stepped.model
        module.to(device, memory_format=execution.layout)  # type: ignore[call-overload]
        module.train()
        if next(module.parameters(), None) is None:
            raise SnnprofError(f"{type(module).__name__} has no parameters: nothing to train")
        self.mode = mode
        self.timesteps = timesteps
        if timesteps is None and isinstance(module, SpikingNetwork):
            self.timesteps = module.timesteps
        self.optimizer = optimizer(module.parameters())
        self.timer = timer
        self.last: BatchRun | None = None
        self.updated = False
        self._device = device
        self._execution = execution
        self._running = self.stepped.compile() if execution.compile else self.stepped
        self._loss = loss
        # Its own: arms do not disturb each other, and runs repeat.
        self._generator = torch.Generator().manual_seed(seed)
        self._scaler = torch.amp.GradScaler(device.type, enabled=execution.amp == "fp16")

    def run(self, images: Tensor, labels: Tensor, watch: bool = False) -> Tensor:
        """One training step; its loss, detached.

        Args:
            images, labels: see :func:`as_sequence`.
            watch: look for graphs that the model keeps between time steps.
        """
        sequence = as_sequence(images, labels, self.timesteps)
        amp = self._execution.amp
        self.last = BatchRun(
            self._running,
            sequence,
            labels,
            self.optimizer,
            loss=self._loss,
            recorder=SILENT if self.timer is None else self.timer,
            generator=self._generator,
            autocast=None if amp is None else AMP[amp],
            scaler=self._scaler,
            watch=watch,
        )
        return find_mode(self.mode, len(sequence))(self.last)

    def timed(self, images: Tensor, labels: Tensor) -> Tensor:
        """One training step, timed."""
        assert self.timer is not None, "who asks for the time gave a timer"
        with self.timer.step():
            return self.run(images, labels)

    def measured(self, images: Tensor, labels: Tensor) -> tuple[StepMemory, Tensor]:
        """One training step, its memory and its loss."""
        self.last = None  # it holds the batch before
        return step_memory(
            lambda: self.run(images, labels),
            self.stepped,
            self.optimizer,
            (images, labels),
            self._device,
        )

    def warm(self, images: Tensor, labels: Tensor, watch: bool = False) -> Tensor:
        """One training step, neither timed nor measured, that notes whether there was an update.

        fp16's scaler lowers its factor on the loss, without an update, until no gradient
        overflows.
        """
        scale = self._scaler.get_scale()
        loss = self.run(images, labels, watch)
        self.updated |= self._scaler.get_scale() >= scale
        return loss

    def divergence(self, losses: Sequence[float], before: int = 0) -> str | None:
        """The first loss, or else a parameter, that is not finite, in words.

        Args:
            losses: of the last steps. Spikes swallow NaN: they alone may not tell.
            before: steps that came before these.
        """
        for number, loss in enumerate(losses, start=before + 1):
            if not math.isfinite(loss):
                return f"the loss is {loss} at step {number}"
        for name, parameter in self.stepped.model.named_parameters():
            if not parameter.isfinite().all():
                return f"{name} is not finite after step {before + len(losses)}"
        return None

    def profile(self, memory: StepMemory) -> StepProfile:
        """What the measured step took, and the timed ones if there is a timer."""
        assert self.last is not None, "there is no profile before the first step"
        untimed = StepProfile(
            mode=self.mode,
            device=self._device.type,
            batch_size=self.last.batch_size,
            timesteps=self.last.timesteps,
            forward_s=(),
            backward_s=(),
            optimizer_s=(),
            step_s=(),
            peak_bytes=memory.peak_bytes,
            reserved_bytes=memory.reserved_bytes,
            static_bytes=memory.static_bytes,
            activation_bytes=memory.peak_bytes - memory.static_bytes,
            backward_passes=self.last.backward_passes,
            optimizer_steps=self.last.optimizer_steps,
        )
        return self.with_times(untimed)

    def with_times(self, profile: StepProfile) -> StepProfile:
        """The profile with the times of this stepper's timed steps, if it has a timer."""
        if self.timer is None:
            return profile
        return replace(
            profile,
            forward_s=self.timer.seconds("forward"),
            backward_s=self.timer.seconds("backward"),
            optimizer_s=self.timer.seconds("optimizer"),
            step_s=self.timer.seconds(),
        )


def as_sequence(x: Tensor, labels: Tensor, timesteps: int | None) -> Tensor:
    """The inputs as [T, B, ...].

    Args:
        x: [B, features] or [B, C, H, W], which is repeated T times without taking memory; or
            [T, B, ...]. Four dimensions of which the first is B are images: a sequence
            [T, B, C, L] with T = B needs another shape.
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

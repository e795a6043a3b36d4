"""Time and memory of one model's training steps, while it trains."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snnprof.profiling.phase_timer import PhaseTimer
from snnprof.profiling.step_memory import (
    AfterBackward,
    StepMemory,
    allocated_and_reserved,
    step_memory,
)
from snnprof.results import StepProfile
from snnprof.training.step_runner import StepRunner

Batch = tuple[Tensor, Any]  # inputs and labels, of the kind that the loss takes


class StepMeter:
    """Runs training steps, keeps their losses, and takes their time or memory where asked to.

    Of several processes each runs its share of the batch.

    Args:
        runner: the model in training; its recorder is the timer, where there is one.
        device: where it trains.
        timer: takes the time of :meth:`time_step`; None where no time is taken.

    Attributes:
        runner: as given.
        steps: how many have run.
        memory: of the step that :meth:`measure_memory` ran; None before it.
    """

    def __init__(
        self, runner: StepRunner, device: torch.device, timer: PhaseTimer | None = None
    ) -> None:
        self.runner = runner
        self.timer = timer
        self.steps = 0
        self.memory: StepMemory | None = None
        self._device = device
        self._losses: list[Tensor] = []
        self._authors_bytes: int | None = None

    def step(self, batch: Batch, watch: bool = False) -> None:
        """Run a step, neither timed nor measured; ``watch``: as :meth:`StepRunner.run`."""
        self._keep(self.runner.warm(*self.runner.share(*batch), watch))

    def time_step(self, batch: Batch) -> None:
        """Run a step and take its time."""
        assert self.timer is not None, "who asks for the time gave a timer"
        share = self.runner.share(*batch)
        with self.timer.step():
            loss = self.runner.run(*share)
        self._keep(loss)

    def measure_memory(self, batch: Batch) -> None:
        """Run a step and take its memory."""
        self.runner.last = None  # it holds the batch before
        share = self.runner.share(*batch)
        after_backward = AfterBackward(partial(allocated_and_reserved, self._device))
        self.memory, loss = step_memory(
            lambda: self.runner.run(*share, recorder=after_backward),
            self.runner.stepped,
            self.runner.optimizer,
            (*share, *self.runner.gradient_buffers),
            self._device,
        )
        self._authors_bytes = after_backward.found
        self._keep(loss)

    def _keep(self, loss: Tensor) -> None:
        self._losses.append(loss)
        self.steps += 1

    @property
    def last_loss(self) -> float | None:
        """The loss of the last step since the losses were taken; waits for the GPU."""
        return self._losses[-1].item() if self._losses else None

    def take_losses(self) -> tuple[list[float], str | None]:
        """The losses since the last call, and what is not finite, in words. Waits for the GPU.

        Outside the timed steps: it looks at every parameter.
        """
        losses = torch.stack(self._losses).tolist() if self._losses else []
        self._losses.clear()
        return losses, self.runner.divergence(losses, before=self.steps - len(losses))

    def profile(self) -> StepProfile:
        """The memory of the measured step, and the times if there is a timer."""
        assert self.runner.last is not None, "there is no profile before the first step"
        assert self.memory is not None, "there is no profile before the memory is measured"
        untimed = StepProfile(
            mode=self.runner.mode.name,
            device=self._device.type,
            batch_size=self.runner.last.batch_size,
            timesteps=self.runner.last.timesteps,
            forward_s=(),
            backward_s=(),
            optimizer_s=(),
            step_s=(),
            peak_bytes=self.memory.peak_bytes,
            reserved_bytes=self.memory.reserved_bytes,
            static_bytes=self.memory.static_bytes,
            activation_bytes=self.memory.peak_bytes - self.memory.static_bytes,
            backward_passes=self.runner.last.backward_passes,
            optimizer_steps=self.runner.last.optimizer_steps,
            hdlif_authors_bytes=self._authors_bytes,
            loss=self.runner.setup.loss_name,
        )
        return self.add_times(untimed)

    def add_times(self, profile: StepProfile) -> StepProfile:
        """The profile with the times of this meter's timed steps, if it has a timer."""
        if self.timer is None:
            return profile
        return replace(
            profile,
            forward_s=self.timer.seconds("forward"),
            backward_s=self.timer.seconds("backward"),
            optimizer_s=self.timer.seconds("optimizer"),
            step_s=self.timer.seconds(),
        )

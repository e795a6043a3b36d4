"""The frame of a spiking network: sequences in, one output per time step out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron import neurons_of, reset
from snnprof.spiking.spike_recomputation import spikes_from_membranes

EVENT_CHANNELS = 2  # of an event camera's frames: light that rose, light that fell


class PerStep(nn.Sequential):
    """Layers without memory, run on all T time steps of [T, B, ...] as one batch."""

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = super().forward(x.flatten(0, 1))  # type: ignore[no-untyped-call]
        out: Tensor = merged.unflatten(0, x.shape[:2])
        return out


class SpikingNetwork(nn.Module, ABC):
    """A network over T time steps.

    A call with a whole sequence starts from rest and leaves the network at rest. A call
    with fewer than T steps goes on where the last one stopped, until
    :func:`snnprof.reset`; this is how online training runs it.

    Args:
        timesteps: T.
        image_shape: [C, H, W] of one image.
        full_precision: names of the layers that are never quantised: the classifier and, but
            for some networks of event frames, the first convolution.
    """

    def __init__(
        self,
        timesteps: int,
        image_shape: tuple[int, int, int],
        full_precision: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.image_shape = torch.Size(image_shape)
        self.full_precision = full_precision

    @abstractmethod
    def run_steps(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] to [T, B, classes]."""

    def forward(self, x: Tensor) -> Tensor:
        """Run a sequence, or a part of one.

        Args:
            x: [T, B, C, H, W], or an image [B, C, H, W], which is repeated T times.

        Returns:
            [T, B, classes].

        Raises:
            SnnprofError: another shape, or more time steps than the network has.
        """
        steps, _ = self.steps_and_batch(x)
        whole = steps == self.timesteps
        if whole:
            reset(self)
        self._check_steps_left(steps)
        sequence = x if x.dim() == 5 else x.expand(steps, *x.shape)
        with spikes_from_membranes():
            out = self.run_steps(sequence)
        if whole:
            reset(self)
        return out

    def steps_and_batch(self, x: Tensor) -> tuple[int, int]:
        """Time steps and samples that a call with x runs."""
        if x.shape[-3:] != self.image_shape or x.dim() not in (4, 5):
            image = ", ".join(map(str, self.image_shape))
            raise SnnprofError(
                f"input of shape {tuple(x.shape)}: this network takes [T, B, {image}] or "
                f"[B, {image}]; other images need another in_channels or image_size"
            )
        if x.dim() == 4:
            return self.timesteps, x.shape[0]
        return x.shape[0], x.shape[1]

    def _check_steps_left(self, steps: int) -> None:
        run = max([0, *(neuron.steps_run for neuron in neurons_of(self))])
        if run + steps > self.timesteps:
            raise SnnprofError(
                f"{steps} time steps after {run} in a network made for {self.timesteps}: call "
                "snnprof.reset(model) before the next sequence, or build it with more timesteps"
            )

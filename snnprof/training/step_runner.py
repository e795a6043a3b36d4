"""A model in training: how its steps are run, and what runs them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snnprof.core.errors import SnnprofError, known
from snnprof.core.processes import ALONE, Processes
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import NO_RECORDER, BatchRun, Recorder
from snnprof.training.divided_parameters import (
    divide,
    explained_errors,
    load_whole_state,
    own_part,
    whole_state,
)
from snnprof.training.found_layout import FoundLayout
from snnprof.training.layouts import AUTO, LAYOUTS, laid_out
from snnprof.training.losses import USUAL, Loss, StepLoss, find_loss
from snnprof.training.modes import Mode, find_mode, stbp_checkpoint
from snnprof.training.parameter_reads import Division, OneCall, watched_reads
from snnprof.training.sequences import Batches, as_sequence, share_of
from snnprof.training.shared_batch_norm import SharedBatchNorm
from snnprof.training.shared_gradients import SharedGradients, same_start
from snnprof.training.stepped_model import SteppedModel

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
AMP: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
# As the HD-LIF authors train.
sgd: MakeOptimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True)


@dataclass(frozen=True)
class StepSetup:
    """A training step before anything runs: whose, in which mode, and how.

    Attributes:
        build: makes a fresh model; or a model, of which :mod:`snnprof.profiling` profiles a
            deep copy.
        mode: a training mode.
        timesteps: T; None for the model's own, or that of the batch's sequence.
        optimizer: makes the optimiser of the parameters.
        amp: "bf16" or "fp16" for mixed precision; None for full.
        compile: run the forward pass through torch.compile.
        channels_last: weights and images in that memory format.
        loss: a name of :data:`~snnprof.training.losses.LOSSES`, or a function of outputs
            [B, classes] (summed over time, or of one time step) and targets.
        layout: how the model takes its time steps; "auto" until it is found out.
        processes: that share every step, each with its part of the batch.
        sync_bn: batch norms over the samples of all of them.
        fsdp: parameters, gradients and the optimiser's state divided among them.
        division: where the parameters are gathered; None until it is found out.

    Raises:
        SnnprofError: an unknown mode or amp, or too few time steps for the mode; sync_bn or fsdp
            with what it does not run in.
    """

    build: Callable[[], nn.Module | SteppedModel] | nn.Module
    mode: str | Mode = "stbp"
    timesteps: int | None = None
    optimizer: MakeOptimizer = sgd
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    loss: str | Loss | StepLoss = USUAL
    layout: str | FoundLayout = AUTO
    processes: Processes = ALONE
    sync_bn: bool = False
    fsdp: bool = False
    division: Division | None = None

    def __post_init__(self) -> None:
        mode = find_mode(self.mode, self.timesteps)
        if self.sync_bn and (self.compile or mode.train is stbp_checkpoint):
            what = "compile" if self.compile else f"mode {mode.name!r}"
            raise SnnprofError(f"sync_bn does not run with {what}: leave one of them out")
        for what, given in (
            ("compile", self.compile),
            ("channels_last", self.channels_last),
            ("amp 'fp16'", self.amp == "fp16"),  # its scaler takes no mixture with whole ones
        ):
            if self.fsdp and given:
                raise SnnprofError(f"fsdp does not run with {what}: leave one of them out")
        find_loss(self.loss)
        if self.amp is not None and self.amp not in AMP:
            raise known("amp", self.amp, AMP)

    @property
    def layout_found(self) -> FoundLayout:
        """The layout, once it has been found out."""
        assert isinstance(self.layout, FoundLayout), "settled() finds it"
        return self.layout

    def make(self) -> nn.Module | SteppedModel:
        """A fresh model; a deep copy, where a model was given.

        Raises:
            SnnprofError: neither a function nor a model, or one that cannot be copied.
        """
        if not callable(self.build):
            raise SnnprofError(
                f"build is a {type(self.build).__name__}: give a function that makes the model, or "
                "a module"
            )
        if not isinstance(self.build, nn.Module):
            return self.build()
        try:
            return copy.deepcopy(self.build)
        except RuntimeError as error:
            raise SnnprofError(
                f"{type(self.build).__name__} cannot be copied ({error}): call "
                "snnprof.reset(model) first, or give a function that builds it"
            ) from error

    @property
    def loss_name(self) -> str:
        """What is trained on: modes that run step by step take the loss of each time step."""
        loss, mode = find_loss(self.loss), find_mode(self.mode)
        if not mode.whole:
            return "step" if loss.name in ("sum", "step") else f"{loss.name} of each step"
        found = self.layout
        averages = (
            isinstance(found, FoundLayout)
            and found.output_dim is None
            and found.name not in (None, "step")
        )
        return "average" if loss.name == "sum" and averages else loss.name

    @property
    def execution(self) -> str:
        """Everything that is not usual, e.g. "amp bf16, compiled"; empty if nothing is."""
        parts = (
            f"amp {self.amp}" if self.amp else "",
            "compiled" if self.compile else "",
            "channels last" if self.channels_last else "",
            "batch norms over all processes" if self.sync_bn and self.processes.several else "",
            "parameters divided among the processes" if self.divides else "",
        )
        return ", ".join(part for part in parts if part)

    @property
    def divides(self) -> bool:
        """True if parameters are divided: there are several processes, and it was asked for."""
        return self.fsdp and self.processes.several

    @property
    def of_batches(self) -> str | Batches:
        """What is known of how batches are laid out."""
        return self.layout if isinstance(self.layout, str) else self.layout.of_batches

    def lay_out(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in the memory format; anything else as it is."""
        if self.channels_last and images.dim() == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images


class StepRunner:
    """A model on its device with its optimiser; batches in, training steps out.

    Args:
        setup: mode, optimiser and so on; its ``build`` is not called.
        model: what is trained, from now on in training mode.
        device: where to train.
        recorder: told of the phases of each step.
        seed: of the time steps that the mode draws.

    Attributes:
        setup: as given.
        mode: the training mode.
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
        setup: StepSetup,
        model: nn.Module | SteppedModel,
        device: torch.device,
        *,
        recorder: Recorder = NO_RECORDER,
        seed: int = 0,
    ) -> None:
        self.setup = setup
        self.mode = find_mode(setup.mode)
        self.stepped = _laid_out(adapt(model), setup.layout)
        module = self.stepped.model
        if next(module.parameters(), None) is None:
            raise SnnprofError(f"{type(module).__name__} has no parameters: nothing to train")
        layout = torch.channels_last if setup.channels_last else torch.preserve_format
        if not setup.divides:
            module.to(device, memory_format=layout)  # type: ignore[call-overload]
        module.train()
        self._gradients: SharedGradients | None = None
        if setup.processes.several:
            same_start(module)
            if setup.divides:  # from the host: no device need hold the whole model
                division = setup.division or Division()
                self.stepped = divide(self.stepped, division, device, setup.processes)
            self._gradients = SharedGradients(module, setup.processes)
        self.optimizer = setup.optimizer(module.parameters())
        self.last: BatchRun | None = None
        self.updated = False
        self._timesteps = setup.timesteps
        if setup.timesteps is None and isinstance(module, SpikingNetwork):
            self._timesteps = module.timesteps
        self._running = self.stepped.compile() if setup.compile else self.stepped
        self._recorder = recorder
        # Its own: models that take turns do not disturb each other, and runs repeat.
        self._generator = torch.Generator().manual_seed(seed)
        self._scaler = torch.amp.GradScaler(device.type, enabled=setup.amp == "fp16")

    def run(
        self,
        images: Tensor,
        labels: Any,
        watch: bool = False,
        recorder: Recorder | None = None,
    ) -> Tensor:
        """One training step; its loss, detached.

        Args:
            images, labels: see :func:`~snnprof.training.sequences.as_sequence`.
            watch: look for graphs that the model keeps between time steps.
            recorder: told of the phases in the place of the runner's own.
        """
        self.last = self._batch_run(
            images, labels, watch=watch, recorder=recorder or self._recorder
        )
        return self._run(self.last)

    def rehearse(self, images: Tensor, labels: Any, moved_on: int = 0) -> BatchRun:
        """The forward and backward passes of a training step, which updates nothing.

        Weights, gradients, optimiser, fp16's scaler and the drawing of time steps stay as they
        are. What the model keeps between calls (running statistics, membranes) does not.

        Args:
            images, labels: as of :meth:`run`.
            moved_on: added to the time steps that the mode draws, modulo T: one rehearsal for each
                of 0, ..., T - 1 draws every step alike.
        """
        parameters = [*self.stepped.model.parameters()]
        gradients = [parameter.grad for parameter in parameters]
        drawn = self._generator.get_state()
        run = self._batch_run(images, labels, updates=False, moved_on=moved_on)
        for parameter in parameters:
            parameter.grad = None  # or the mode would clear it in place
        try:
            self._run(run)
        finally:
            self._generator.set_state(drawn)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        return run

    def _batch_run(self, images: Tensor, labels: Any, **how: Any) -> BatchRun:
        amp = self.setup.amp
        return BatchRun(
            self._running,
            self._sequence(images, labels),
            labels,
            self.optimizer,
            loss=self.setup.loss,
            generator=self._generator,
            autocast=None if amp is None else AMP[amp],
            scaler=self._scaler,
            before_update=None if self._gradients is None else self._gradients.average,
            **how,
        )

    def _run(self, run: BatchRun) -> Tensor:
        self.mode.check(run.timesteps)
        joined = self.setup.sync_bn and self._gradients is not None
        with (
            SharedBatchNorm() if joined else nullcontext(),
            explained_errors() if self.setup.divides else nullcontext(),
        ):
            return self.mode(run)

    @property
    def gradient_buffers(self) -> list[Tensor]:
        """What is held to send gradients to other processes; empty without any."""
        return [] if self._gradients is None else self._gradients.buffers

    def share(self, images: Tensor, labels: Any) -> tuple[Tensor, Any]:
        """The part of a joined batch that this process runs; the whole of it, if it is alone.

        Raises:
            SnnprofError: it cannot be split evenly.
        """
        if self._gradients is None:
            return images, labels
        of_batches = self.setup.of_batches
        return share_of(images, labels, self._timesteps, of_batches, self.setup.processes)

    def find_division(self, images: Tensor, labels: Any) -> Division:
        """Where the parameters of a model that is not divided can be gathered.

        By one training step, and one run in evaluation mode.
        """
        network = OneCall(self.stepped.model)
        called = self._running = network.around(self.stepped)
        with watched_reads(network) as reads:
            self.run(images, labels)
            called.model.eval()
            called.reset()
            with torch.no_grad():
                called.run_sequence(self._sequence(images, labels))
            called.model.train()
        self._running = self.stepped
        return reads.division()

    def _sequence(self, images: Tensor, labels: Any) -> Tensor:
        return as_sequence(images, labels, self._timesteps, self.setup.of_batches)

    def warm(self, images: Tensor, labels: Any, watch: bool = False) -> Tensor:
        """One training step that notes whether there was an update.

        fp16's scaler lowers its factor on the loss, without an update, until no gradient
        overflows.
        """
        scale = self._scaler.get_scale()
        loss = self.run(images, labels, watch)
        self.updated |= self._scaler.get_scale() >= scale
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything that training goes on from: weights, optimiser, fp16 scaler, drawn steps.

        Of divided parameters too: every process must call it.
        """
        return {
            "model": self.weights(),
            "optimizer": whole_state(self.optimizer.state_dict()),
            "scaler": self._scaler.state_dict(),
            "drawn": self._generator.get_state(),
        }

    def weights(self) -> dict[str, Any]:
        """The state dict of the model, at rest and whole; every process must call it."""
        self.stepped.reset()  # a membrane in a buffer is no weight
        found: dict[str, Any] = whole_state(self.stepped.model.state_dict())
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, of the same model, mode and optimiser."""
        load_whole_state(self.stepped.model, self.optimizer, state["model"], state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._generator.set_state(state["drawn"])

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
            if not own_part(parameter).isfinite().all():
                return f"{name} is not finite after step {before + len(losses)}"
        return None


def _laid_out(stepped: SteppedModel, layout: str | FoundLayout) -> SteppedModel:
    """The model in its layout; as its library suggests as long as none was found."""
    if isinstance(layout, FoundLayout):
        return layout.apply(stepped)
    if layout == AUTO or layout == stepped.layout:
        return stepped
    return laid_out(stepped, layout, LAYOUTS.find(layout).output_dim)

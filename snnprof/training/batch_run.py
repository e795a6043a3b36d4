"""One batch in training: what a mode may do with it, counted and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from snnprof.core.errors import SnnprofError
from snnprof.training.kept_graphs import kept_graphs
from snnprof.training.losses import USUAL, Loss, StepLoss, find_loss
from snnprof.training.stepped_model import SteppedModel

Around = Callable[[], AbstractContextManager[object]]


class Recorder(Protocol):
    """Is told of the phases of a step: "forward", "backward", "optimizer"."""

    def phase(self, name: str) -> AbstractContextManager[object]: ...


class Silent:
    """A recorder that records nothing."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


NO_RECORDER = Silent()


class BatchRun:
    """One batch, and all that a training mode does with it.

    Args:
        stepped: the model.
        sequence: [T, B, ...].
        target: classes [B], or whatever the loss takes; None for none.
        optimizer: over the model's parameters.
        loss: a name of :data:`~snnprof.training.losses.LOSSES`, or a function of the outputs of
            one time step (STBP: of their sum), [B, classes], and the target.
        recorder: told of every phase.
        generator: draws the time steps of ``sltt-K`` and ``random-bp``; None for torch's own.
        autocast: dtype of mixed precision; None for none.
        scaler: scales the loss in fp16.
        watch: look for graphs that pile up in the model, from the third time step on.
        before_update: called before every step of the optimiser; it is timed as backward.
        updates: False leaves the optimiser's steps out.
        moved_on: added to every time step that is drawn, modulo T.

    Attributes:
        timesteps, batch_size: of the sequence.
        forwards: time steps run forward.
        backward_passes, optimizer_steps: how many there were.
        drawn: True once the mode has drawn time steps.

    Raises:
        SnnprofError: a sequence without time steps.
    """

    def __init__(
        self,
        stepped: SteppedModel,
        sequence: Tensor,
        target: Tensor,
        optimizer: Optimizer,
        *,
        loss: str | Loss | StepLoss = USUAL,
        recorder: Recorder = NO_RECORDER,
        generator: torch.Generator | None = None,
        autocast: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        watch: bool = False,
        before_update: Callable[[], None] | None = None,
        updates: bool = True,
        moved_on: int = 0,
    ) -> None:
        if not len(sequence):
            raise SnnprofError("T = 0: a sequence needs at least one time step")
        self.stepped = stepped
        self.sequence = sequence
        self.timesteps = len(sequence)
        self.batch_size = sequence.shape[1]
        self.forwards = self.backward_passes = self.optimizer_steps = 0
        self._target = target
        self._optimizer = optimizer
        self._loss = find_loss(loss)
        self._recorder = recorder
        self._generator = generator
        self._autocast = autocast
        self._scaler = torch.amp.GradScaler(enabled=False) if scaler is None else scaler
        self._watch = watch
        self._before_update = before_update
        self._updates = updates
        self._moved_on = moved_on
        self.drawn = False
        self._kept: dict[str, int] = {}
        self._around: Around = nullcontext

    def begin(self) -> None:
        """No gradients, and the model at rest."""
        self.zero_grad()
        self.stepped.reset()

    def zero_grad(self) -> None:
        """Free the gradients."""
        with self._recorder.phase("optimizer"):
            self._optimizer.zero_grad()

    def zero(self) -> Tensor:
        """A scalar to sum losses in."""
        dtype = torch.promote_types(self.sequence.dtype, torch.float32)
        return torch.zeros((), dtype=dtype, device=self.sequence.device)

    def draw(self, count: int) -> set[int]:
        """``count`` different time steps, from 0 to T - 1, all sets equally likely.

        Raises:
            SnnprofError: there are fewer time steps.
        """
        if count > self.timesteps:
            raise SnnprofError(f"{count} of {self.timesteps} time steps: choose fewer")
        self.drawn = True
        order = torch.randperm(self.timesteps, generator=self._generator)
        return {(step + self._moved_on) % self.timesteps for step in order[:count].tolist()}

    def forward(self, x: Tensor) -> Tensor:
        """One time step, [B, ...] to logits [B, classes]."""
        self.forwards += 1
        with self._recorder.phase("forward"), self._around(), self._precision():
            return self.stepped.run_step(x)

    def forward_silent(self, x: Tensor) -> Tensor:
        """The same without a graph."""
        with torch.no_grad():
            return self.forward(x)

    def forward_sequence(self) -> Tensor:
        """All time steps with their graph: [T, B, classes], or [1, B, classes] if averaged."""
        self.forwards += self.timesteps
        with self._recorder.phase("forward"), self._around(), self._precision():
            return self.stepped.run_sequence(self.sequence)

    def detach(self) -> None:
        """Cut the model's state from the time steps before."""
        with self._recorder.phase("forward"):
            self.stepped.detach()
        if self._watch:
            self._look_for_growth()

    def _look_for_growth(self) -> None:
        """Raise SnnprofError for a module that holds more graphs than a time step before.

        One that holds as many may make them anew at every step; if not, the next backward pass
        fails.
        """
        before, self._kept = self._kept, kept_graphs(self.stepped.model)
        growing = [name for name, count in self._kept.items() if count > before.get(name, count)]
        if growing:
            raise _keeps_graph(growing)

    def loss(self, logits: Tensor) -> Tensor:
        """The loss of one time step's outputs, [B, classes]."""
        return self._scalar(self._loss.at_step, logits)

    def loss_of_sequence(self, outputs: Tensor) -> Tensor:
        """The loss of all outputs, as :meth:`forward_sequence` gives them."""
        return self._scalar(self._loss, outputs)

    def _scalar(self, function: StepLoss, outputs: Tensor) -> Tensor:
        with self._recorder.phase("forward"), self._precision():
            loss = function(outputs, self._target)
        if not isinstance(loss, Tensor):
            raise SnnprofError(
                f"loss {self._loss.name!r} returned a {type(loss).__name__}, not a scalar tensor"
            )
        if loss.dim():
            raise SnnprofError(
                f"the loss has shape {tuple(loss.shape)}: a scalar is needed, such as its mean"
            )
        return loss

    def backward(self, loss: Tensor) -> None:
        """One backward pass.

        Raises:
            SnnprofError: it runs into the graph of a time step that is done.
        """
        self.backward_passes += 1
        with self._recorder.phase("backward"):
            try:
                self._scaler.scale(loss).backward()
            except RuntimeError as error:
                if "second time" not in str(error):
                    raise
                raise _keeps_graph(list(kept_graphs(self.stepped.model))) from error

    def update(self) -> None:
        """One step of the optimiser."""
        if not self._updates:
            return
        self.optimizer_steps += 1
        if self._before_update is not None:
            with self._recorder.phase("backward"):
                self._before_update()
        with self._recorder.phase("optimizer"):
            self._scaler.step(self._optimizer)
            self._scaler.update()

    @contextmanager
    def around_forward(self, around: Around) -> Iterator[None]:
        """Run each :meth:`forward`, or the whole sequence, inside what ``around()`` gives."""
        self._around = around
        try:
            yield
        finally:
            self._around = nullcontext

    def _precision(self) -> AbstractContextManager[object]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.sequence.device.type, self._autocast)


def _keeps_graph(kept: list[str]) -> SnnprofError:
    where = ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
    return SnnprofError(
        "the model keeps its graph between time steps"
        + (f", in {where}" if kept else "")
        + ": online modes need its state detached; wrap it in snnprof.stepwise(model, reset=..., "
        "detach=...), or use mode 'stbp'"
    )

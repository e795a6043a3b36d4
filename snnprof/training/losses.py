"""Losses of a spiking network's outputs over time, by name or a function of one's own.

Modes that train on a whole sequence (``stbp``) take the loss of all its outputs, modes that train
step by step that of each time step. The mean over time is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry

# (outputs of the network [K, B, ...], targets) -> scalar; K = T, or 1 where they are averaged
OutputsLoss = Callable[[Tensor, Tensor], Tensor]
# (outputs of one time step, or their sum [B, ...], targets) -> scalar
StepLoss = Callable[[Tensor, Tensor], Tensor]
LOSSES: Registry[OutputsLoss] = Registry("loss")

USUAL = "sum"
CROSS_ENTROPIES = ("sum", "step", "tet", "ottt")  # labels must be classes, or shares of them
# TET, as its authors' code has them: the weight of the regulariser, and its target, the threshold.
TET_WEIGHT, TET_TARGET = 1e-3, 1.0
OTTT_WEIGHT = 0.05  # of the mean square error, in OTTT's published loss


@dataclass(frozen=True)
class Loss:
    """A loss, of whole sequences and of single time steps.

    Attributes:
        name: for the table.
        of_outputs: from outputs [T, B, ...] (or [1, B, ...], averaged by the network) and
            targets to a scalar.
        of_step: from outputs [B, ...] of one time step and targets to a scalar; None for
            ``of_outputs`` of a sequence of that step alone.
        needs_steps: outputs that the network has averaged over time are not enough.
        own: a function of the user's.
    """

    name: str
    of_outputs: OutputsLoss
    of_step: StepLoss | None = None
    needs_steps: bool = False
    own: bool = False

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of all time steps, outputs [T, B, ...]."""
        return self.of_outputs(outputs, target)

    def at_step(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of one time step, outputs [B, ...]."""
        if self.of_step is not None:
            return self.of_step(outputs, target)
        return self.of_outputs(outputs.unsqueeze(0), target)


def find_loss(loss: str | Loss | StepLoss) -> Loss:
    """The loss of that name; a function takes outputs summed over time, [B, ...], and targets.

    A function of all time steps, [T, B, ...], is handed in as ``Loss(name, function)``.

    Raises:
        SnnprofError: no such loss, or neither a name nor a function.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        found = LOSSES.find(loss)
        step = cross_entropy if loss in ("sum", "step") else None
        return Loss(loss, found, step, needs_steps=loss in ("step", "tet", "ottt"))
    if not callable(loss):
        raise SnnprofError(f"loss={loss!r}: give a name ({', '.join(LOSSES)}), or a function")
    return of_the_sum_by(loss)


def of_the_sum_by(function: StepLoss) -> Loss:
    """A function of the outputs summed over time: step by step, of those of each time step."""
    kind = function if isinstance(function, FunctionType) else type(function)
    name = f"{kind.__module__}:{kind.__qualname__}"

    def of_outputs(outputs: Tensor, target: Tensor) -> Tensor:
        return function(outputs.sum(0), target)

    return Loss(name, of_outputs, function, own=True)


def cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, to classes or to probabilities.

    Args:
        outputs: [B, classes], or [B, classes, H, W] for dense labels.
        target: classes [B] or [B, H, W]; or one-hot or soft labels of the shape of ``outputs``.
    """
    if target.shape == outputs.shape and target.dim() > 1:
        target = target.to(outputs.dtype)  # one-hot labels may be whole numbers
    return F.cross_entropy(outputs, target)


@LOSSES.register("sum")
def of_the_sum(outputs: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the outputs summed over time.

    Args:
        outputs: [T, B, classes].
        target: as :func:`cross_entropy`.
    """
    return cross_entropy(outputs.sum(0), target)


@LOSSES.register("step")
def of_each_step(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean over time of the cross-entropy of each time step's outputs.

    Args:
        outputs: [T, B, classes].
        target: as :func:`cross_entropy`.
    """
    steps = target.repeat(len(outputs), *[1] * (target.dim() - 1))
    return cross_entropy(outputs.flatten(0, 1), steps)


@LOSSES.register("tet")
def temporal_efficient(outputs: Tensor, target: Tensor) -> Tensor:
    """TET: (1 - w) * mean over time of the cross-entropy + w * mean square distance from V.

    w = 1e-3 and V = 1, the threshold, as the authors' code has them. (Deng et al., Temporal
    efficient training of spiking neural network via gradient re-weighting, ICLR 2022, eq. 11-13.)

    Args:
        outputs: [T, B, classes].
        target: as :func:`cross_entropy`.
    """
    distance = (outputs - TET_TARGET).square().mean()
    return (1 - TET_WEIGHT) * of_each_step(outputs, target) + TET_WEIGHT * distance


@LOSSES.register("ottt")
def cross_entropy_and_mean_square(outputs: Tensor, target: Tensor) -> Tensor:
    """OTTT's: mean over time of 0.95 * cross-entropy + 0.05 * mean square error to the labels.

    (Xiao et al., Online training through time for spiking neural networks, NeurIPS 2022.)

    Args:
        outputs: [T, B, classes].
        target: as :func:`cross_entropy`; classes are compared one-hot.
    """
    soft = target
    if target.shape != outputs.shape[1:]:
        soft = F.one_hot(target, outputs.shape[2]).movedim(-1, 1)
    distance = (outputs - soft.to(outputs.dtype)).square().mean()
    return (1 - OTTT_WEIGHT) * of_each_step(outputs, target) + OTTT_WEIGHT * distance


@LOSSES.register("mse")
def mean_square(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean square error of the outputs averaged over time.

    Args:
        outputs: [T, B, classes], or [T, B, values] for regression.
        target: classes [B], compared one-hot; or numbers [B, values] (or [B] where values = 1).

    Raises:
        SnnprofError: targets of another shape.
    """
    mean = outputs.mean(0)
    if not target.is_floating_point() and target.dim() == mean.dim() - 1:
        target = F.one_hot(target, mean.shape[1]).movedim(-1, 1)
    elif target.dim() == mean.dim() - 1 and mean.shape[-1] == 1:
        target = target.unsqueeze(-1)
    if target.shape != mean.shape:
        raise SnnprofError(
            f"loss 'mse': targets of shape {tuple(target.shape)} for outputs of shape "
            f"{tuple(mean.shape)}: give classes [B], or numbers of the outputs' shape"
        )
    return F.mse_loss(mean, target.to(mean.dtype))


def is_indicator(target: Tensor) -> bool:
    """True for whole numbers [B, classes], each 0 or 1: one-hot, or several classes of a sample."""
    whole = target.dim() == 2 and not target.is_floating_point()
    return whole and bool(((target == 0) | (target == 1)).all())


def is_one_hot(target: Tensor) -> bool:
    """True for whole numbers [B, classes] with a single 1 in every row."""
    return is_indicator(target) and bool((target.sum(1) == 1).all())


def output_dims(target: Tensor) -> tuple[int, ...]:
    """How many dimensions the outputs of one sample may have, by the labels of a batch.

    Whole numbers [B, L] that are not one-hot are the classes of L positions, or several labels of
    a sample.
    """
    if target.is_floating_point() or is_one_hot(target):
        return (max(1, target.dim() - 1),)
    return (1, 2) if target.dim() == 2 else (max(1, target.dim()),)


def _check_shares(target: Tensor) -> None:
    """Raise SnnprofError for numbers that are no shares of several classes."""
    shares = target.double()
    whole = bool(((shares.sum(1) - 1).abs() < 1e-3).all()) and bool((shares >= 0).all())
    if target.shape[1] < 2 or not whole:
        raise SnnprofError(
            f"y of shape {tuple(target.shape)} holds no shares of classes, which sum to 1: for "
            "numbers give loss='mse', else loss=function(outputs, y)"
        )


def check_classes(outputs: Tensor, target: Tensor) -> None:
    """Check, before anything depends on it, that a cross-entropy can be computed.

    Looks at the values of the targets, and so waits for a GPU.

    Args:
        outputs: [T, B, classes], or [T, B, classes, H, W].
        target: as :func:`cross_entropy`.

    Raises:
        SnnprofError: outputs or targets of another shape, or a class that the network has not.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() < 3:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise SnnprofError(
            f"the network returned {shape}, not [T, B, classes]: give loss=function(outputs, y)"
        )
    if target.shape == outputs.shape[1:]:
        _check_shares(target)
        return
    dense = (outputs.shape[1], *outputs.shape[3:])
    if tuple(target.shape) != dense or target.is_floating_point():
        raise SnnprofError(
            f"y of shape {tuple(target.shape)} ({target.dtype}): must be {outputs.shape[1]} class "
            f"numbers, one per sample, or of the shape {tuple(outputs.shape[1:])} of the outputs: "
            "else give loss=function(outputs, y)"
        )
    classes = outputs.shape[2]
    if not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise SnnprofError(
            f"y goes from {int(target.min())} to {int(target.max())}: the network "
            f"has classes 0 to {classes - 1}"
        )


# The losses of rows, as the notes under tables say them.
_IN_WORDS = {
    "sum": "cross-entropy of the outputs summed over time",
    "average": "cross-entropy of the outputs, which the network averages or sums over time",
    "step": "mean over time of each time step's cross-entropy",
    "tet": "TET (Deng et al., ICLR 2022), weight 0.001, target 1",
    "tet of each step": "TET of each time step (Deng et al., ICLR 2022), weight 0.001, target 1",
    "ottt": "0.95 cross-entropy + 0.05 mean square error of each time step (OTTT, NeurIPS 2022)",
    "ottt of each step": (
        "0.95 cross-entropy + 0.05 mean square error of each time step (OTTT, NeurIPS 2022)"
    ),
    "mse": "mean square error of the outputs averaged over time",
    "mse of each step": "mean square error of each time step's outputs",
}


def loss_in_words(name: str) -> str:
    """A loss by its name in a row, in words for the notes under a table."""
    return _IN_WORDS.get(name, f"{name}, the user's own")

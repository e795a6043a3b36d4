"""Training modes: one function each that trains on one batch.

T steps of one sequence; m is the membrane potential. docs/training-modes.md puts them side by
side. ``MODES.register("mine")`` adds a mode of your own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from snnprof.core.errors import SnnprofError, known
from snnprof.core.registry import Registry
from snnprof.training.batch_run import BatchRun
from snnprof.training.presynaptic_traces import (
    CODED_NDOT,
    LEAKY,
    PUBLISHED_NDOT,
    traces,
)
from snnprof.training.recomputed_blocks import recomputed_blocks

TrainOnBatch = Callable[[BatchRun], Tensor]  # -> loss of the batch, detached
MODES: Registry[TrainOnBatch] = Registry("mode")

# Those that take one loss of a whole sequence; the others take that of each time step.
WHOLE_SEQUENCE: set[TrainOnBatch] = set()

# Modes with a number behind them: "sltt-2" is FAMILIES["sltt"](2).
FAMILIES: Registry[Callable[[int], TrainOnBatch]] = Registry("family of modes")


@dataclass(frozen=True)
class Mode:
    """A training mode, looked up.

    Attributes:
        name: as it was given, ``"sltt-2"``.
        train: trains on one batch, and returns its loss, detached.
        least_timesteps: T below this is refused: the K of ``sltt-K``.
    """

    name: str
    train: TrainOnBatch
    least_timesteps: int = 1

    @property
    def whole(self) -> bool:
        """True if it takes the loss of a whole sequence, not of each time step."""
        return self.train in WHOLE_SEQUENCE

    def __call__(self, run: BatchRun) -> Tensor:
        """Train on one batch; its loss, detached.

        Raises:
            SnnprofError: the mode's function returned no tensor.
        """
        loss = self.train(run)
        if not isinstance(loss, Tensor):
            raise SnnprofError(
                f"mode {self.name!r} returned a {type(loss).__name__}: it must return the loss of "
                "the batch, detached, a tensor"
            )
        return loss

    def check(self, timesteps: int) -> None:
        """Raise SnnprofError for fewer time steps than the mode needs."""
        if timesteps < 1:
            raise SnnprofError(f"timesteps={timesteps}: must be at least 1")
        if timesteps < self.least_timesteps:
            family, _, number = self.name.rpartition("-")
            raise SnnprofError(
                f"mode {self.name!r}: K = {number} is more than the T = {timesteps} time steps: "
                f"choose '{family}-{timesteps}' or less"
            )


def mode_names() -> list[str]:
    """The names that :func:`find_mode` takes, K standing for any number."""
    return sorted([*MODES, *(f"{family}-K" for family in FAMILIES)])


def find_mode(name: str | Mode, timesteps: int | None = None) -> Mode:
    """The mode of that name; a mode that was looked up already is returned as it is.

    Args:
        name: one of :func:`mode_names`.
        timesteps: T, to check K against, if it is known yet.

    Raises:
        SnnprofError: an unknown name, a K that is no number, below 1 or above T; T below 1.
    """
    mode = name if isinstance(name, Mode) else _find(name)
    if timesteps is not None:
        mode.check(timesteps)
    return mode


def _find(name: str) -> Mode:
    if name in MODES:
        return Mode(name, MODES[name])
    family, dash, number = name.rpartition("-")
    if not dash or family not in FAMILIES:
        raise known("mode", name, mode_names())
    if not (number.isascii() and number.isdigit() and int(number)):
        raise SnnprofError(
            f"mode {name!r}: {number!r} must be a whole number from 1 to T, as in '{family}-2'"
        )
    return Mode(name, FAMILIES[family](int(number)), least_timesteps=int(number))


@MODES.register("stbp")
def stbp(run: BatchRun) -> Tensor:
    """Spatio-temporal backpropagation: all T steps forward, then once back through time.

    The loss is that of the outputs summed over time, as the HD-LIF authors train, unless another
    is given (Wu et al., 2018, for the method).
    """
    run.begin()
    loss = run.loss_of_sequence(run.forward_sequence())
    run.backward(loss)
    run.update()
    return loss.detach()


@MODES.register("stbp-checkpoint")
def stbp_checkpoint(run: BatchRun) -> Tensor:
    """``stbp`` with the activations of each block computed again in the backward pass.

    Spikes are kept as bits, see :mod:`snnprof.training.recomputed_blocks`. The gradients are those
    of ``stbp`` to the last bit. (torch.utils.checkpoint; Chen et al., arXiv 1604.06174.)

    Raises:
        SnnprofError: no block was found, or the model is compiled.
    """
    if run.stepped.compiled:
        raise SnnprofError("mode 'stbp-checkpoint' does not run compiled: drop compile")
    with run.around_forward(lambda: recomputed_blocks(run.stepped.model)):
        return stbp(run)


WHOLE_SEQUENCE.update((stbp, stbp_checkpoint))


@MODES.register("online")
def online(run: BatchRun) -> Tensor:
    """Online training: m detached between steps, a backward pass of loss_t / T at each.

    One optimiser step per batch. Memory does not grow with T. (SLTT, Meng et al., 2023.)
    """
    run.begin()
    total = run.zero()
    for x in run.sequence:
        run.detach()
        loss = run.loss(run.forward(x)) / run.timesteps
        run.backward(loss)
        total += loss.detach()
    run.update()
    return total


@MODES.register("online-step")
def online_step(run: BatchRun) -> Tensor:
    """As ``online``, but with loss_t, and an optimiser step after every time step.

    What the HD-LIF authors run. Returns the mean of loss_t.
    """
    return _step_by_step(run, 1)


def _step_by_step(run: BatchRun, parts: int) -> Tensor:
    """An optimiser step after every time step, on loss_t / parts; returns the mean of loss_t."""
    run.begin()
    total = run.zero()
    for x in run.sequence:
        run.detach()
        loss = run.loss(run.forward(x))
        run.backward(loss / parts)
        run.update()
        run.zero_grad()
        total += loss.detach() / run.timesteps
    return total


@FAMILIES.register("sltt")
def sltt(backwards: int) -> TrainOnBatch:
    """As ``online``, with a backward pass at K random steps; the others run without a graph.

    The loss stays loss_t / T, so that K = T is ``online``. (SLTT-K, Meng et al., 2023.)
    """

    def sltt_k(run: BatchRun) -> Tensor:
        chosen = run.draw(backwards)
        run.begin()
        total = run.zero()
        for t, x in enumerate(run.sequence):
            run.detach()
            forward = run.forward if t in chosen else run.forward_silent
            loss = run.loss(forward(x)) / run.timesteps
            if t in chosen:
                run.backward(loss)
            total += loss.detach()
        run.update()
        return total

    return sltt_k


@MODES.register("random-bp")
def random_bp(run: BatchRun) -> Tensor:
    """Random backpropagation: forward up to one random step t*, loss_t* back, and stop.

    The gradient is that of ``online`` on average over t*. The steps before t* leave no graph.
    What the HD-LIF authors call random back-propagation.
    """
    (last,) = run.draw(1)
    run.begin()
    for x in run.sequence[:last]:
        run.forward_silent(x)
    run.detach()
    loss = run.loss(run.forward(run.sequence[last]))
    run.backward(loss)
    run.update()
    return loss.detach()


@MODES.register("ottt")
def ottt(run: BatchRun) -> Tensor:
    """Online training through time: ``online`` with a_t = leak * a_(t-1) + s_t for s_t.

    The trace a replaces the spikes in the weight gradient alone, see
    :mod:`snnprof.training.presynaptic_traces`. The published loss is "ottt" of
    :data:`~snnprof.training.losses.LOSSES`; here it is the run's, as in every other mode. (Xiao
    et al., NeurIPS 2022.)
    """
    with traces(run, LEAKY):
        return online(run)


@MODES.register("ottt-step")
def ottt_step(run: BatchRun) -> Tensor:
    """``ottt`` with an optimiser step after every time step.

    The loss stays loss_t / T, as its authors have it: unlike that of ``online-step``.
    """
    with traces(run, LEAKY):
        return _step_by_step(run, run.timesteps)


@MODES.register("ndot")
def ndot(run: BatchRun) -> Tensor:
    """Neuronal-dynamics online training: ``ottt`` with a ratio of membranes for the leak.

    The paper's recursion, :func:`~snnprof.training.presynaptic_traces.published_ratio`. (Jiang et
    al., ICML 2024.)
    """
    with traces(run, PUBLISHED_NDOT):
        return online(run)


@MODES.register("ndot-code")
def ndot_code(run: BatchRun) -> Tensor:
    """``ndot`` as its authors' code has it.

    The recursion is :func:`~snnprof.training.presynaptic_traces.bounded_ratio`.
    """
    with traces(run, CODED_NDOT):
        return online(run)


@MODES.register("ndot-step")
def ndot_step(run: BatchRun) -> Tensor:
    """``ndot`` with an optimiser step after every time step, of loss_t / T, as ``ottt-step``."""
    with traces(run, PUBLISHED_NDOT):
        return _step_by_step(run, run.timesteps)

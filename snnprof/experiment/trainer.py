"""Training all rows side by side, on the same batches in turn, and counting them afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from snnprof.core.error_line import of_the_users
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import ALONE, Processes
from snnprof.counting.all_reduce import of_all_processes
from snnprof.counting.counter import SopCounter
from snnprof.experiment.data import Batch, Data
from snnprof.experiment.learning_rate import warmed_up_cosine
from snnprof.experiment.metrics import Metric
from snnprof.experiment.own_function import name_of
from snnprof.experiment.training_run import TrainingRun
from snnprof.results import CountResult
from snnprof.training.divided_parameters import has_divided
from snnprof.training.found_layout import FoundLayout
from snnprof.training.sequences import as_sequence
from snnprof.training.shared_gradients import same_buffers
from snnprof.training.stepped_model import SteppedModel

MakeSchedule = Callable[[Optimizer, int], LRScheduler]
Prepare = Callable[[Batch], Batch]


def unchanged(batch: Batch) -> Batch:
    """The batch as it was loaded."""
    return batch


@dataclass(frozen=True)
class Recipe:
    """How to train: by default SGD with Nesterov momentum and cosine annealing.

    As the HD-LIF authors do; the learning rate is ours: theirs, 0.01, is for 300 epochs.

    Attributes:
        epochs, batch_size, learning_rate: as of :func:`snnprof.run`.
        momentum, nesterov, weight_decay: of SGD.
        warmup_epochs: in which the learning rate rises linearly, before the cosine.
        own_optimizer: from parameters to an optimiser, in place of SGD.
        own_schedule: from an optimiser and the number of steps to a scheduler, which is told of
            every step; None for cosine annealing of SGD, and for none of one's own optimiser.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    own_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None
    own_schedule: MakeSchedule | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise SnnprofError(f"epochs={self.epochs}: must be 0 (no training) or more")
        if self.batch_size < 1:
            raise SnnprofError(f"batch_size={self.batch_size}: must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise SnnprofError(f"learning_rate={self.learning_rate}: must be above 0, and finite")
        if not 0 <= self.momentum < 1:
            raise SnnprofError(f"momentum={self.momentum}: must be 0 or more, and below 1")
        if self.nesterov and not self.momentum and self.ours:
            raise SnnprofError("momentum=0 has no Nesterov form: give nesterov=False too")
        if not 0 <= self.weight_decay < math.inf:
            raise SnnprofError(f"weight_decay={self.weight_decay}: must be 0 or more, and finite")
        if self.warmup_epochs < 0 or (self.warmup_epochs and self.warmup_epochs >= self.epochs):
            raise SnnprofError(
                f"warmup_epochs={self.warmup_epochs}: must be 0 or more, and fewer than the "
                f"{self.epochs} epochs"
            )

    @property
    def ours(self) -> bool:
        """True if the optimiser is our SGD."""
        return self.own_optimizer is None

    @property
    def words(self) -> str:
        """The optimiser and the schedule, for a sentence."""
        optimizer = (
            f"SGD (learning rate {self.learning_rate:g}, {'Nesterov ' if self.nesterov else ''}"
            f"momentum {self.momentum:g}, weight decay {self.weight_decay:g})"
            if self.ours
            else f"optimiser {name_of(self.own_optimizer)}"
        )
        if self.own_schedule is not None:
            return f"{optimizer}, schedule {name_of(self.own_schedule)}"
        warmed = f"linear warm-up of {self.warmup_epochs} epochs, " if self.warmup_epochs else ""
        annealed = f"{warmed}cosine annealing" if self.ours else "no schedule"
        return f"{optimizer}, {annealed}"

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser of these parameters.

        Raises:
            SnnprofError: one's own function fails, or makes something else.
        """
        if self.own_optimizer is None:
            return torch.optim.SGD(
                parameters,
                lr=self.learning_rate,
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=self.weight_decay,
            )
        what = f"optimizer {name_of(self.own_optimizer)!r} failed"
        made = of_the_users(what, partial(self.own_optimizer, parameters))
        if not isinstance(made, Optimizer):
            raise SnnprofError(
                f"optimizer {name_of(self.own_optimizer)!r} returned a {type(made).__name__}, not "
                "a torch.optim.Optimizer"
            )
        return made

    def schedule(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """What changes the learning rate over so many training steps; None for nothing.

        Raises:
            SnnprofError: one's own function fails, or makes what cannot be told of every step.
        """
        if self.own_schedule is None:
            return self._usual_schedule(optimizer, max(1, steps)) if self.ours else None
        name = f"schedule {name_of(self.own_schedule)!r}"
        made = of_the_users(f"{name} failed", partial(self.own_schedule, optimizer, steps))
        if isinstance(made, ReduceLROnPlateau):
            raise SnnprofError(
                f"{name} waits for a metric, and is told of steps alone: give another"
            )
        if made is not None and not isinstance(made, LRScheduler):
            raise SnnprofError(f"{name} returned a {type(made).__name__}, not a torch LRScheduler")
        return made

    def _usual_schedule(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        warmup = steps * self.warmup_epochs // max(1, self.epochs)
        return LambdaLR(optimizer, partial(warmed_up_cosine, warmup=warmup, steps=steps))


def check_batch(data: Data, recipe: Recipe) -> None:
    """Raise SnnprofError for a batch of more samples than there are training images."""
    images = data.images
    if data.batch_size is None and images is not None and recipe.batch_size > images:
        raise SnnprofError(
            f"batch_size={recipe.batch_size} is more than the {images} training images: give "
            f"{images} or fewer"
        )


def count_steps(data: Data, recipe: Recipe) -> int:
    """Training steps per row: incomplete batches are dropped, so that all steps are alike."""
    if not recipe.epochs:
        return 0
    check_batch(data, recipe)
    return recipe.epochs * data.steps(recipe.batch_size)


def train_in_turn(
    runs: Sequence[TrainingRun],
    data: Data,
    recipe: Recipe,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train all rows, one step each in turn, so that a slow moment strikes them alike."""
    for _ in train_epochs(runs, data, recipe, seed, advance):
        pass


def train_epochs(
    runs: Sequence[TrainingRun],
    data: Data,
    recipe: Recipe,
    order: torch.Generator | int,
    advance: Callable[[], None],
    *,
    prepare: Prepare = unchanged,
    done: int = 0,
) -> Iterator[int]:
    """:func:`train_in_turn`, stopping after every epoch: the caller may look at the models there.

    Args:
        runs, data, recipe, advance: as there.
        order: what the order of the samples is drawn from, or its seed.
        prepare: what becomes of each batch before it is trained on.
        done: epochs that were trained before.

    Yields:
        Epochs trained so far.
    """
    generator = torch.Generator().manual_seed(order) if isinstance(order, int) else order
    for epoch in range(done, recipe.epochs):
        if all(run.meter is None for run in runs):  # none is left to train
            return
        batches = map(prepare, data.epoch(recipe.batch_size, generator))
        for number, (batch, loading_s) in enumerate(_with_loading_time(batches)):
            turn = number % len(runs)
            for run in (*runs[turn:], *runs[:turn]):
                run.step(batch)
                run.loading_s.append(loading_s)
                advance()
        for run in runs:
            run.end_epoch(epoch)
        yield epoch + 1


def _with_loading_time(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """The batches, and the seconds that each took to come."""
    start = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()


@torch.no_grad()
def evaluate(
    stepped: SteppedModel,
    found: FoundLayout,
    timesteps: int,
    batches: Iterable[Batch],
    metric: Metric | None,
    processes: Processes = ALONE,
    watching: Sequence[AbstractContextManager[object]] = (),
) -> tuple[CountResult, float | None]:
    """Count on test batches, and the metric's mean over them.

    In full precision, not compiled. Samples counted are compared with samples fed.

    Args:
        stepped: the model, in its layout.
        found: the layout.
        timesteps: T.
        batches: inputs and labels, on the model's device.
        metric: of the outputs summed over time; None for none.
        processes: that take the batches in turn; the counts and the mean are of all of them.
        watching: blocks that see the batches which this process counts.
    """
    stepped.model.eval()
    if processes.several:
        stepped.reset()
        same_buffers(stepped.model)
    samples, total, counted = 0, 0.0, 0
    counter = _counter(stepped, found, timesteps)
    divided, spare = has_divided(stepped.model), None
    with ExitStack() as stack:
        for watcher in (*watching, counter):
            stack.enter_context(watcher)
        if not divided:
            # Weights that a quantiser computes are the same for every batch: computed once.
            stack.enter_context(parametrize.cached())
        for (x, labels), mine in _dealt(batches, processes):
            if not mine:
                spare = as_sequence(x, labels, timesteps, found.of_batches)
                break
            sequence = as_sequence(x, labels, timesteps, found.of_batches)
            stepped.reset()
            if found.name is None:  # by a way of the user's own, whose inputs tell nothing
                counter.expect(sequence.shape[1], timesteps, found.calls)
            outputs = stepped.run_sequence(sequence)
            samples += sequence.shape[1]
            if metric is not None:
                score, number = metric.score(outputs.sum(0), labels)
                total, counted = total + score, counted + number
    if divided and spare is not None:  # others still gather parameters, this one's part too
        stepped.reset()
        stepped.run_sequence(spare)
    stepped.model.train()
    read = partial(counter.result, samples=samples)
    if processes.several:
        counts = of_all_processes(read, bool(samples), group=None)
        parts = processes.gather((total, counted))
        total, counted = sum(part for part, _ in parts), sum(number for _, number in parts)
    else:
        counts = read()
    return counts, total / counted if counted else None


def _dealt(batches: Iterable[Batch], processes: Processes) -> Iterator[tuple[Batch, bool]]:
    """This process's batch of every round, and True; where the last round has none, the last."""
    turn = processes.count - 1
    for number, batch in enumerate(batches):
        turn = number % processes.count
        if turn == processes.rank:
            yield batch, True
    if turn < processes.rank:
        yield batch, False


def _counter(stepped: SteppedModel, found: FoundLayout, timesteps: int) -> SopCounter:
    if found.name is not None:
        return SopCounter(stepped.model, layout=found.name, timesteps=timesteps)
    return SopCounter(stepped.model, timesteps=timesteps)

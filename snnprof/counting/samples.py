"""How many samples and time steps a call of the root module carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from snnprof.core.errors import SnnprofError, known
from snnprof.counting.time_steps import ModelCall, Steps


@runtime_checkable
class StatesItsSequence(Protocol):
    """A model that says itself what its input holds (the networks of snnprof.models do)."""

    timesteps: int

    def steps_and_batch(self, x: Tensor) -> tuple[int, int]:
        """Time steps and samples that one call with x runs."""
        ...


@dataclass(frozen=True)
class Layout:
    """How a model takes its time steps.

    Attributes:
        shape: of the model's input, for people.
        batch_dim: dimension of the samples.
        time_dim: dimension of the time steps; None where the input has none.
        whole: True where one call runs all T time steps.
    """

    shape: str
    batch_dim: int = 0
    time_dim: int | None = None
    whole: bool = True


LAYOUTS = {
    "step": Layout("[B, ...]", whole=False),
    "time-first": Layout("[T, B, ...]", batch_dim=1, time_dim=0),
    "batch-first": Layout("[B, T, ...]", time_dim=1),
    "inside": Layout("[B, ...]"),
}
_WAYS = ", ".join(f'"{name}"' for name in LAYOUTS)


class SampleAxis:
    """Reads samples and time steps off the root's input, call by call.

    Args:
        root: the model.
        batch_dim: the input's batch dimension; 1 means [T, B, ...].
        timesteps: T, if the root is called once per time step, or has the layout "inside".
        layout: a name of ``LAYOUTS``; None: told by ``batch_dim`` and ``timesteps``.
        said: samples of all calls together, whatever these hold; None: they are read.

    A root that states its sequence is believed, whatever ``batch_dim`` says.

    Attributes:
        timesteps: T, or None where it is not known.
        samples: samples begun so far.
        calls: calls of the root so far.
        present: what the present call holds.
        input: the root's input tensor, until the counter lets go of it.
    """

    def __init__(
        self,
        root: object,
        batch_dim: int,
        timesteps: int | None,
        layout: str | None = None,
        said: int | None = None,
    ) -> None:
        if timesteps is not None:
            _check_whole("timesteps", timesteps)
        if type(batch_dim) is not int or batch_dim < 0:
            raise SnnprofError(f"batch_dim={batch_dim}: must be a dimension, counted from 0")
        if said is not None:
            _check_whole("samples", said)
            if timesteps is not None or layout is not None or batch_dim != 0:
                raise SnnprofError(
                    f"samples={said} is said of all calls together, whose inputs are not read: "
                    "leave layout, timesteps and batch_dim out"
                )
        self._said = said
        self._root = root if isinstance(root, StatesItsSequence) else None
        self._name = layout
        self._batch_dim = batch_dim
        self._layout = _layout(layout, batch_dim, timesteps)
        self._one_step_is_all = layout is None and timesteps is None and batch_dim != 1
        if self._root is not None and layout == "batch-first":
            raise SnnprofError(
                f'layout="batch-first", but a {type(root).__name__} takes [T, B, ...]: leave '
                "layout out"
            )
        self.timesteps = timesteps
        self.samples = 0
        self.calls = 0
        self.present = ModelCall(0, Steps(0, 1), 0)
        self.input: Tensor | None = None
        self._batch = 0
        self._next = 0
        self._announced: tuple[int, int] | None = None  # steps and samples of each call
        self._calls_left = 0
        self._lost: str | None = None  # a call of which nothing was counted, and why

    @property
    def states_itself(self) -> bool:
        """True if the root says what its input holds."""
        return self._root is not None

    @property
    def steps_run_inside(self) -> bool:
        """True if somebody said T, and neither the input nor the number of calls shows it."""
        unseen = self._layout.whole and self._layout.time_dim is None
        return unseen and self._root is None and self._announced is None

    @property
    def layout(self) -> Layout | None:
        """The layout, or None where nothing is known but the batch dimension."""
        return None if self._one_step_is_all else self._layout

    @property
    def reads_first_dimension_only(self) -> bool:
        """True if nobody said more than that the samples are in the input's first dimension."""
        said = self._said or self._announced or self._root is not None or self._batch_dim != 0
        return self._one_step_is_all and not said

    def expect(self, samples: int, timesteps: int, calls: int | None) -> None:
        """Announce calls of the root; their input is no longer looked at.

        Args:
            samples, timesteps: what they hold together.
            calls: their number; None: one per time step where the layout says so, else 1.

        Raises:
            SnnprofError: no whole numbers, steps that cannot be shared out or do not fit into
                T, calls announced before that did not come, or came before.
        """
        _check_whole("samples", samples)
        _check_whole("timesteps", timesteps)
        if calls is None:
            calls = 1 if self._one_step_is_all or self._layout.whole else timesteps
        _check_whole("calls", calls)
        if self._said is not None:
            raise SnnprofError(
                f"samples={self._said} was said of all calls together: leave expect() out"
            )
        self._check_all_came()
        if self.calls and not self._announced:
            raise SnnprofError(
                "the model was called before the first expect(): announce every call"
            )
        if timesteps % calls:
            raise SnnprofError(f"{timesteps} time steps cannot be shared out to {calls} calls")
        if self.timesteps is None:
            self.timesteps = timesteps
        if self._next + timesteps > self.timesteps:
            raise SnnprofError(
                f"{timesteps} time steps were announced after {self._next} of {self.timesteps}: "
                "announce sequences of one length"
            )
        self._announced = (timesteps // calls, samples)
        self._calls_left = calls

    def begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of one call of the root.

        Raises:
            SnnprofError: no tensor in the input, no such batch dimension, another T or batch
                size than this sequence began with, or a call that was not announced.
        """
        x = next(_tensors((*args, *kwargs.values())), None)
        if self._said is not None:
            self.calls += 1
            self.samples = self._said
            self.present.number, self.present.batch = self.calls, self._said
            return
        steps, batch = self._announced_call() if self._announced else self._steps_and_batch(x)
        self.calls += 1
        self.input = x
        present = self.present
        present.number, present.steps, present.batch = self.calls, Steps(self._next, steps), batch
        if self._next == 0:
            self.samples += batch
        elif batch != self._batch:
            raise SnnprofError(
                f"the batch changed from {self._batch} to {batch} samples at time step "
                f"{self._next} of {self.timesteps}: call the model timesteps={self.timesteps} "
                "times for every batch"
            )
        self._batch = batch
        if self.timesteps is not None:
            self._next = (self._next + steps) % self.timesteps

    def _announced_call(self) -> tuple[int, int]:
        assert self._announced is not None
        if self._calls_left == 0:
            raise SnnprofError(
                f"call {self.calls + 1} of the model was not announced: say expect(samples, "
                "timesteps) before every call or sequence"
            )
        self._calls_left -= 1
        return self._announced

    def _steps_and_batch(self, x: Tensor | None) -> tuple[int, int]:
        if x is None:
            raise SnnprofError("the model was called without a tensor: no batch to read")
        if self._root is not None:
            steps, batch = self._root.steps_and_batch(x)
            self._agree(self._root.timesteps)
            return steps, batch
        layout = self._layout
        if x.dim() <= max(layout.batch_dim, layout.time_dim or 0):
            asked = f'layout="{self._name}" takes {layout.shape}'
            if self._name is None:
                asked = f"batch_dim={self._batch_dim}"
            raise SnnprofError(f"{asked}, but the model's input has shape {tuple(x.shape)}")
        batch = x.size(layout.batch_dim)  # a nested tensor has no shape
        if layout.time_dim is None:
            return self.timesteps or 1 if layout.whole else 1, batch
        steps = x.shape[layout.time_dim]
        if steps == 0:
            raise SnnprofError(
                f"the model's input has shape {tuple(x.shape)}: no time step in {layout.shape}"
            )
        self._agree(steps)
        return steps, batch

    def _agree(self, timesteps: int) -> None:
        if self.timesteps is None and self.calls == 0:
            self.timesteps = timesteps
        if self.timesteps != timesteps:
            raise SnnprofError(
                f"the model ran {timesteps} time steps where {self.timesteps} were expected: "
                "count sequences of different length with separate counters"
            )

    def lose_call(self, why: str) -> None:
        """Take note of a call of which nothing was counted."""
        self._lost = self._lost or why

    @property
    def was_called(self) -> bool:
        """True if the root was called, whether or not that was counted."""
        return self.calls > 0 or self._lost is not None

    @property
    def _in_parts(self) -> bool:
        """True if a call may run a part of a sequence."""
        by_steps = self.timesteps is not None and not self._layout.whole and self._root is None
        return by_steps or self._announced is not None

    def check_complete(self, samples: int | None = None) -> None:
        """Raise SnnprofError where the counts are not those of whole sequences.

        Args:
            samples: how many must have been counted; None: any number.
        """
        if samples is not None:
            _check_whole("samples", samples)
        if self._lost and (self.calls == 0 or self._in_parts):
            raise SnnprofError(f"a call of the model was not counted: {self._lost}; count again")
        if self.calls == 0:
            raise SnnprofError("the model was never called inside the counter: nothing to report")
        if self.samples == 0:
            raise SnnprofError("the model was only called with empty batches: nothing to report")
        self._check_all_came()
        if self._next != 0:
            raise SnnprofError(
                f"the model was called {self.calls} times with timesteps={self.timesteps}: "
                f"the last sequence stopped after {self._next} steps; call it "
                f"{self.timesteps} times for every batch"
            )
        if samples is not None and samples != self.samples:
            raise SnnprofError(
                f"{self.samples} samples were counted, {samples} were expected: "
                f"{self._how_it_was_read()}"
            )

    def _check_all_came(self) -> None:
        if self._calls_left:
            raise SnnprofError(
                f"{self._calls_left} of the announced calls of the model did not come: say "
                "expect(samples, timesteps, calls=...) with the number of calls that follow"
            )

    def _how_it_was_read(self) -> str:
        """What the number of samples rests on, and how to change it."""
        if self._announced:
            return "they are those of expect(samples, timesteps); announce what is fed"
        if self._root is not None:
            return (
                f"{type(self._root).__name__} states itself what its input holds; see what is fed"
            )
        if self._name is not None:
            return f'layout="{self._name}" reads {self._layout.shape}; others are {_WAYS}'
        shape = self._layout.shape
        told = f"batch_dim={self._batch_dim}"
        if self._one_step_is_all or not self._layout.whole:
            told += f", timesteps={self.timesteps}"
        return f"no layout was given, {told} reads {shape}; give layout= one of {_WAYS}"


def _layout(name: str | None, batch_dim: int, timesteps: int | None) -> Layout:
    """The layout of that name, or the one that the other two tell.

    Raises:
        SnnprofError: an unknown name, another batch dimension, or a missing T.
    """
    if name is None:
        if batch_dim == 1 and timesteps is None:
            return LAYOUTS["time-first"]
        shape = "[B, ...]" if batch_dim == 0 else f"its batch in dimension {batch_dim}"
        return replace(LAYOUTS["step"], batch_dim=batch_dim, shape=shape)
    if not isinstance(name, str) or name not in LAYOUTS:
        raise known("layout", name, LAYOUTS)
    layout = LAYOUTS[name]
    if batch_dim not in (0, layout.batch_dim):
        raise SnnprofError(
            f'layout="{name}" is {layout.shape}, and batch_dim={batch_dim} says otherwise: give '
            "one of them"
        )
    if layout.time_dim is None and timesteps is None:
        raise SnnprofError(f'layout="{name}" needs timesteps: T does not show in {layout.shape}')
    return layout


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise SnnprofError(f"{name}={value!r}: must be a whole number, at least 1")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors(value)

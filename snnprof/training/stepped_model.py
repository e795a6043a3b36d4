"""A model that runs one time step at a time, or a whole sequence, whatever library it is of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError, is_out_of_memory

_MOST_GRAPHS = 128


@dataclass(frozen=True)
class SteppedModel:
    """A model with what tells it to forget its state and to run its time steps.

    Attributes:
        model: whose parameters are trained.
        reset: forgets the state.
        detach: cuts the state from the graph of the time steps before.
        step: one time step, [B, ...] to [B, classes]; None where the model cannot: then only
            modes that run a whole sequence at once train it.
        sequence: all time steps at once, [T, B, ...] to [T, B, classes], from rest; None where
            the model cannot: then it runs step by step.
        call: the model's forward as it stands, for :mod:`snnprof.training.layouts` to find out
            how it takes its time steps; None where ``step`` and ``sequence`` are settled.
        layout: how the model takes its time steps, a name of
            :data:`~snnprof.training.layouts.LAYOUTS`; None where it is somebody's own way.
        averages: ``sequence`` gives [B, classes], the model having averaged (or summed) its
            outputs over time.
        compiled: True if ``step`` and ``sequence`` are compiled.
        told_samples: around a ``call`` of so many samples, for layers that must be told.
    """

    model: nn.Module
    reset: Callable[[], object]
    detach: Callable[[], object]
    step: Callable[[Tensor], Any] | None
    sequence: Callable[[Tensor], Any] | None = None
    call: Callable[[Tensor], Any] | None = None
    layout: str | None = None
    averages: bool = False
    compiled: bool = False
    told_samples: Callable[[int], AbstractContextManager[None]] = lambda samples: nullcontext()

    def run_sequence(self, x: Tensor) -> Tensor:
        """All time steps, with the graph kept.

        Args:
            x: [T, B, ...].

        Returns:
            [T, B, classes], or [1, B, classes] where the model averages over time.

        Raises:
            SnnprofError: the model gave another shape.
        """
        if self.sequence is None:
            return torch.stack([self.run_step(current) for current in x])
        out = self.sequence(x)
        if self.averages:
            return _of_batch(out, x[0]).unsqueeze(0)
        if not isinstance(out, Tensor) or out.dim() < 3 or out.shape[:2] != x.shape[:2]:
            raise wrong_output(out, "[T, B, classes]", x)
        return out

    def run_step(self, x: Tensor) -> Tensor:
        """One time step, [B, ...] to [B, classes].

        Raises:
            SnnprofError: the model gave another shape, or runs whole sequences only.
        """
        if self.step is None:
            raise SnnprofError(
                f"{type(self.model).__name__} runs all its time steps inside its forward (layout "
                f"{self.layout!r}), so that it cannot be trained step by step: use mode 'stbp', "
                "or let forward run one time step and keep the state between calls (layout 'step')"
            )
        return _of_batch(self.step(x), x)

    def compile(self) -> SteppedModel:
        """The same model, run through torch.compile."""
        step, sequence = (
            None if run is None else _compiled(run) for run in (self.step, self.sequence)
        )
        return replace(self, step=step, sequence=sequence, compiled=True)


def _compiled(run: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    compiled = torch.compile(run)

    def call(x: Tensor) -> Any:
        # Sizes are constants, whatever ran before: rows of a table must not depend on each other.
        torch._dynamo.mark_static(x)
        # A module's count of time steps is a variable: else every t is compiled anew, as it still
        # is where every t has modules of its own.
        with torch._dynamo.config.patch(
            allow_unspec_int_on_nn_module=True, recompile_limit=_MOST_GRAPHS
        ):
            try:
                return compiled(x)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                if is_out_of_memory(error):
                    raise
                why = str(error).partition("\n")[0]
                raise SnnprofError(f"torch.compile failed ({why}): run without it") from error

    return call


def _of_batch(out: Any, x: Tensor) -> Tensor:
    if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != len(x):
        raise wrong_output(out, "[B, classes]", x)
    return out


def wrong_output(out: Any, wanted: str, x: Tensor) -> SnnprofError:
    """The error for an output of another shape than is wanted for the input x."""
    found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    return SnnprofError(
        f"the model gave {found} for an input of shape {tuple(x.shape)}, {wanted} is needed: say "
        "how it takes its time steps (layout=, --layout), or wrap it in "
        "snnprof.stepwise(model, reset=..., detach=..., step=...)"
    )


def stepwise(
    model: nn.Module,
    *,
    reset: Callable[[], object],
    detach: Callable[[], object],
    step: Callable[[Tensor], Tensor] | None = None,
    sequence: Callable[[Tensor], Tensor] | None = None,
) -> SteppedModel:
    """A model of any making, with what tells it to forget and to detach its state.

    Args:
        model: the module.
        reset: called before every sequence.
        detach: called before every time step of the online modes.
        step: one time step, [B, ...] to [B, classes]; the model itself if not given.
        sequence: all at once, [T, B, ...] to [T, B, classes], from rest; if not given, STBP
            runs step by step and keeps the graph.
    """
    return SteppedModel(model, reset, detach, model if step is None else step, sequence)


def one_of(call: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """One time step, [B, ...] to [B, classes], of what takes sequences [T, B, ...]."""

    def step(x: Tensor) -> Tensor:
        one = x.unsqueeze(0)
        out = call(one)
        if not isinstance(out, Tensor) or out.dim() < 3 or out.shape[:2] != one.shape[:2]:
            raise wrong_output(out, "[1, B, classes]", one)
        return out[0]

    return step


def first_of(out: Any) -> Any:
    """The first of several outputs, as of (spikes, membrane)."""
    return out[0] if isinstance(out, tuple | list) and len(out) else out

"""How a model takes its time steps: the four layouts, and a model run in one of them.

============  =====================  ==========================================
layout        input of a call        output of a call
============  =====================  ==========================================
step          [B, ...], T calls      [B, classes]; the state stays inside
time-first    [T, B, ...]            [T, B, classes], or [B, classes] averaged
batch-first   [B, T, ...]            [B, T, classes], or [B, classes] averaged
inside        [B, ...], one call     [B, classes]; T is a loop in its forward
============  =====================  ==========================================

Of several outputs in a tuple or a list the first is taken. :mod:`snnprof.training.layout_trial`
finds out which of them a model has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry
from snnprof.training.stepped_model import SteppedModel, first_of, wrong_output

AUTO = "auto"
Call = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Layout:
    """A way to run time steps through a model's forward.

    Attributes:
        sequence: from the forward to what takes [T, B, ...] at once; None where every time step
            is a call.
        step: from the forward to what takes one time step [B, ...]; None where it cannot.
        sequence_dim: where T stands in the input of a call; None where it holds no T.
        images_only: every time step must see the same input.
    """

    sequence: Callable[[Call, bool], Call] | None
    step: Callable[[Call, bool], Call] | None
    sequence_dim: int | None = None
    images_only: bool = False


LAYOUTS: Registry[Layout] = Registry("layout")


def _time_first(call: Call, averages: bool) -> Call:
    return lambda x: first_of(call(x))


def _batch_first(call: Call, averages: bool) -> Call:
    def sequence(x: Tensor) -> Any:
        out = first_of(call(x.transpose(0, 1)))
        swapped = isinstance(out, Tensor) and out.dim() >= 3 and not averages
        return out.transpose(0, 1) if swapped else out

    return sequence


def _inside(call: Call, averages: bool) -> Call:
    return lambda x: first_of(call(x[0]))


def _one_call(call: Call, averages: bool) -> Call:
    return lambda x: first_of(call(x))


def _call_of_one_step(dim: int) -> Callable[[Call, bool], Call]:
    """A sequence of one time step, T standing in dimension ``dim`` of the input and the output."""

    def laid(call: Call, averages: bool) -> Call:
        def step(x: Tensor) -> Any:
            out = first_of(call(x.unsqueeze(dim)))
            if averages:
                return out
            if not isinstance(out, Tensor) or out.dim() < 3 or out.shape[dim] != 1:
                raise wrong_output(out, "one time step", x.unsqueeze(dim))
            return out.squeeze(dim)

        return step

    return laid


LAYOUTS.register("step")(Layout(None, _one_call))
LAYOUTS.register("time-first")(Layout(_time_first, _call_of_one_step(0), 0))
LAYOUTS.register("batch-first")(Layout(_batch_first, _call_of_one_step(1), 1))
LAYOUTS.register("inside")(Layout(_inside, None, images_only=True))


def laid_out(stepped: SteppedModel, name: str, averages: bool = False) -> SteppedModel:
    """The model run in a layout.

    Args:
        stepped: a model whose ``call`` is its forward.
        name: one of :data:`LAYOUTS`.
        averages: a call gives [B, classes] for the whole sequence.

    Raises:
        SnnprofError: no such layout; a model whose ``step`` is somebody's own.
    """
    layout = LAYOUTS.find(name)
    call = stepped.call
    if call is None:
        raise SnnprofError(
            f"layout={name!r}: {type(stepped.model).__name__} comes with a step or a sequence of "
            "its own, which says how it takes its time steps: leave layout out"
        )
    return replace(
        stepped,
        step=None if layout.step is None else layout.step(call, averages),
        sequence=None if layout.sequence is None else layout.sequence(call, averages),
        layout=name,
        averages=averages or name == "inside",
    )

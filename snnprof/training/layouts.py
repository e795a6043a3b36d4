"""How a model takes its time steps: the four layouts, and a model run in one of them.

============  ==============================================================
layout        input of a call
============  ==============================================================
step          [B, ...], T calls; the state stays inside between them
time-first    [T, B, ...]
batch-first   [B, T, ...]
inside        [B, ...], one call: T is a loop or a repeat in its forward
============  ==============================================================

A step gives [B, classes]; the others [T, B, classes], [B, T, classes] or, averaged over time,
[B, classes]. Of several outputs in a tuple or a list the first is taken.
:mod:`snnprof.training.find_layout` finds out which of them a model has.
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
    """A way to give a model its time steps.

    Attributes:
        given: from a sequence [T, B, ...] to the input of the one call that runs it; None where
            every time step is a call.
        given_step: from one time step [B, ...] to the input of a call; None where a call cannot
            run a single step.
        output_dim: where T stands in the output, if not found otherwise; None for nowhere.
        images_only: every time step must see the same input.
    """

    given: Callable[[Tensor], Tensor] | None
    given_step: Callable[[Tensor], Tensor] | None
    output_dim: int | None = None
    images_only: bool = False


LAYOUTS: Registry[Layout] = Registry("layout")
LAYOUTS.register("time-first")(Layout(lambda x: x, lambda x: x.unsqueeze(0), output_dim=0))
LAYOUTS.register("batch-first")(
    Layout(lambda x: x.transpose(0, 1), lambda x: x.unsqueeze(1), output_dim=1)
)
LAYOUTS.register("step")(Layout(None, lambda x: x))
LAYOUTS.register("inside")(Layout(lambda x: x[0], None, images_only=True))


def laid_out(stepped: SteppedModel, name: str, output_dim: int | None) -> SteppedModel:
    """The model run in a layout.

    Args:
        stepped: a model whose ``call`` is its forward.
        name: one of :data:`LAYOUTS`.
        output_dim: where T stands in the output of a whole sequence: 0 for [T, B, classes], 1
            for [B, T, classes], None for [B, classes].

    Raises:
        SnnprofError: no such layout; a model whose ``step`` is somebody's own.
    """
    layout = LAYOUTS.find(name)
    if stepped.call is None:
        raise SnnprofError(
            f"layout={name!r}: {type(stepped.model).__name__} comes with a step or a sequence of "
            "its own, which says how it takes its time steps: leave layout out"
        )
    return replace(
        stepped,
        step=None if layout.given_step is None else _step(stepped, layout.given_step, output_dim),
        sequence=None if layout.given is None else _sequence(stepped, layout.given, output_dim),
        layout=name,
        averages=output_dim is None and layout.given is not None,
    )


def _sequence(
    stepped: SteppedModel, given: Callable[[Tensor], Tensor], output_dim: int | None
) -> Call:
    call, told_samples = stepped.call, stepped.told_samples
    assert call is not None, "laid_out() looked"

    def run(x: Tensor) -> Any:
        with told_samples(x.shape[1]):
            out = first_of(call(given(x)))
        return out.transpose(0, 1) if output_dim == 1 and isinstance(out, Tensor) else out

    return run


def _step(stepped: SteppedModel, given: Callable[[Tensor], Tensor], output_dim: int | None) -> Call:
    call, told_samples = stepped.call, stepped.told_samples
    assert call is not None, "laid_out() looked"

    def run(x: Tensor) -> Any:
        one = given(x)
        with told_samples(len(x)):
            out = first_of(call(one))
        if output_dim is None:
            return out
        if not isinstance(out, Tensor) or out.dim() < 3 or out.shape[output_dim] != 1:
            raise wrong_output(out, "a single time step", one)
        return out.squeeze(output_dim)

    return run

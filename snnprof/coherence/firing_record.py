"""The record of a layer of neurons that Theorem 4.2 speaks of: who fired, and the leak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnprof.spiking.neuron_equations import NeuronEquations, numbers


@dataclass(frozen=True)
class FiringRecord:
    """K steps of a layer, without gradients.

    Attributes:
        fired: booleans, [K, B, ...].
        passes: chi[t, t], booleans, [K, B, ...]; the same as ``fired`` but for integer spikes.
        leak: [K].
    """

    fired: Tensor
    passes: Tensor
    leak: Tensor


def firing_record(
    equations: NeuronEquations, stepped: Iterable[tuple[Tensor, Tensor]], steps: slice
) -> FiringRecord:
    """Who fired, by the neuron's own threshold.

    Args:
        equations: of the neuron, step and leak stated.
        stepped: (charged membrane, spike) of each time step, [B, ...] both.
        steps: the time steps.
    """
    fired: list[Tensor] = []
    passes: list[Tensor] = []
    heights = leak = None
    for t, (charged, spike) in enumerate(stepped):
        if leak is None:
            assert equations.leak is not None, "looked at when the layer was found"
            leak = numbers(equations.leak, steps, charged, "leak")
            if equations.threshold is not None:
                heights = numbers(equations.threshold, steps, charged, "threshold")
                heights = heights.to(charged.dtype)
        fired.append(spike != 0 if heights is None else charged >= heights[t])
        if equations.passes is not None:
            passes.append(equations.passes(charged))
    assert leak is not None, "an input has at least one time step"
    whole = torch.stack(fired)
    return FiringRecord(whole, torch.stack(passes) if passes else whole, leak)


def follow(
    equations: NeuronEquations, currents: Tensor, membrane: Tensor | None, first: int
) -> FiringRecord:
    """Who fires at these currents, by the neuron's step equation.

    Args:
        equations: of the neuron, step and leak stated.
        currents: [K, B, ...].
        membrane: before the first of them.
        first: time step of the first.
    """
    stepped = _steps(equations, currents, membrane, first)
    return firing_record(equations, stepped, slice(first, first + len(currents)))


def _steps(
    equations: NeuronEquations, currents: Tensor, membrane: Tensor | None, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    assert equations.step is not None, "looked at when the layer was found"
    for t, current in enumerate(currents, first):
        charged, spike, membrane = equations.step(membrane, current, t)
        yield charged, spike


def joined(records: Sequence[FiringRecord]) -> FiringRecord:
    """The records of pieces of a sequence as one."""
    if len(records) == 1:
        return records[0]
    return FiringRecord(
        torch.cat([record.fired for record in records]),
        torch.cat([record.passes for record in records]),
        torch.cat([record.leak for record in records]),
    )

"""What Theorem 4.2 has to know of our neurons: when they fire, their leak, and their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neurons import HDLIF, LIF, IntegerLIF, Neuron

SURROGATE = "a surrogate gradient passes at silent steps and through the reset"
MEMBRANE_NORM = "the norm of the membrane mixes neurons, so that dm_t/dm_{t-1} is no scalar leak"


@dataclass(frozen=True)
class Kind:
    """What a layer of neurons is, for Theorem 4.2.

    Attributes:
        name: of the neuron, variants included.
        unclaimed: why the exact identity is not claimed for it; None where it is.
    """

    name: str
    unclaimed: str | None = None


@dataclass(frozen=True)
class Trace:
    """What K steps of a layer did, without gradients.

    Attributes:
        fired: booleans, [K, B, ...].
        passes: chi[t, t], booleans, [K, B, ...]; the same as ``fired`` but for integer spikes.
        leak: [K].
    """

    fired: Tensor
    passes: Tensor
    leak: Tensor


def tap_of(neuron: Neuron) -> nn.Module | None:
    """The module in the neuron whose output, step by step, is m_t or its current.

    None: the neuron's input is its current.
    """
    if isinstance(neuron, HDLIF):
        return neuron.membrane_norm or neuron.channel_attention
    return None


# (neuron, what it sees [K, B, ...] (see tap_of), membrane before or None, its time steps)
Follow = Callable[[Any, Tensor, Tensor | None, slice], Trace]
Describe = Callable[[Any], Kind]
FOLLOWED: dict[type[Neuron], tuple[Describe, Follow]] = {}


def followed(kind: type[Neuron], describe: Describe) -> Callable[[Follow], Follow]:
    """Decorator: how to follow one of our neurons without gradients, and what it is."""

    def add(function: Follow) -> Follow:
        if kind in FOLLOWED:
            raise ValueError(f"{kind.__name__!r} is followed already")
        FOLLOWED[kind] = (describe, function)
        return function

    return add


def _find(neuron: Neuron) -> tuple[Describe, Follow]:
    for kind in type(neuron).__mro__:
        if kind in FOLLOWED:
            return FOLLOWED[kind]
    raise SnnprofError(
        f"{type(neuron).__name__} is a neuron whose membrane is not known: state its equations "
        "with snnprof.register_membrane"
    )


def trace(neuron: Neuron, seen: Tensor, membrane: Tensor | None, first: int) -> Trace:
    """What the neuron did from time step ``first`` on.

    Raises:
        SnnprofError: a neuron of the user's own that is none of ours.
    """
    _, follow = _find(neuron)
    return follow(neuron, seen, membrane, slice(first, first + len(seen)))


def kind_of(neuron: Neuron) -> Kind:
    """The neuron's name, and whether the identity is claimed for it.

    Raises:
        SnnprofError: a neuron of the user's own that is none of ours.
    """
    describe, _ = _find(neuron)
    return describe(neuron)


def _hdlif_kind(neuron: HDLIF) -> Kind:
    variants = {
        "four_bit": neuron.four_bit,
        "parallel": neuron.parallel,
        "mem_bn": neuron.membrane_norm is not None,
        "seca": neuron.channel_attention is not None,
        "literal": neuron.literal,
    }
    name = "+".join(["hdlif", *(variant for variant, on in variants.items() if on)])
    normed = neuron.membrane_norm is not None and not neuron.parallel
    return Kind(name, MEMBRANE_NORM if normed else None)


def _lif_kind(neuron: LIF) -> Kind:
    return Kind(f"lif+surrogate={neuron.settings.surrogate}", SURROGATE)


def _integer_kind(neuron: IntegerLIF) -> Kind:
    return Kind("ilif")


@followed(HDLIF, _hdlif_kind)
def _follow_hdlif(neuron: HDLIF, seen: Tensor, membrane: Tensor | None, steps: slice) -> Trace:
    threshold = neuron.threshold_logit[steps].sigmoid()
    heights = threshold.to(seen.dtype)
    per_step = heights.reshape(-1, *[1] * (seen.dim() - 1))
    if neuron.parallel:
        fired = seen >= per_step
        return Trace(fired, fired, torch.zeros_like(threshold))
    leak = neuron.leak_logit[steps].sigmoid()
    if neuron.membrane_norm is not None:  # what is seen is the membrane itself
        fired = seen >= per_step
        return Trace(fired, fired, leak)
    fired = torch.empty_like(seen, dtype=torch.bool)
    left = membrane
    for t, current in enumerate(seen):
        m = current if left is None else leak[t] * left + current
        torch.ge(m, heights[t], out=fired[t])
        left = m.masked_fill(fired[t], 0) if neuron.literal else torch.minimum(m, heights[t])
    return Trace(fired, fired, leak)


@followed(LIF, _lif_kind)
def _follow_lif(neuron: LIF, seen: Tensor, membrane: Tensor | None, steps: slice) -> Trace:
    settings = neuron.settings
    fired = torch.empty_like(seen, dtype=torch.bool)
    left = membrane
    for t, current in enumerate(seen):
        m = current if left is None else left * settings.leak + current
        torch.ge(m, settings.threshold, out=fired[t])
        hard = settings.reset == "hard"
        left = m.masked_fill(fired[t], 0) if hard else m - fired[t] * settings.threshold
    return Trace(fired, fired, seen.new_full((len(seen),), settings.leak))


@followed(IntegerLIF, _integer_kind)
def _follow_integer(
    neuron: IntegerLIF, seen: Tensor, membrane: Tensor | None, steps: slice
) -> Trace:
    fired, passes = (torch.empty_like(seen, dtype=torch.bool) for _ in range(2))
    left = membrane
    for t, current in enumerate(seen):
        m = current if left is None else left * neuron.leak + current
        spike = torch.round(m).clamp_(0, neuron.levels)
        torch.ne(spike, 0, out=fired[t])
        torch.logical_and(m >= 0, m <= neuron.levels, out=passes[t])
        left = m - spike
    return Trace(fired, passes, seen.new_full((len(seen),), neuron.leak))

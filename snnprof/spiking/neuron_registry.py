"""The neurons by name, as networks and the command line ask for them.

A specification is a name, variants joined to it with '+': ``"hdlif+four_bit+parallel"``,
``"lif+surrogate=arctan+leak=0.9"``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol

from snnprof.core.errors import SnnprofError, known
from snnprof.core.registry import Registry
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.ilif import IntegerLIF
from snnprof.spiking.learnable_lif import LearnableLIF
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.neuron import Neuron


class NeuronMaker(Protocol):
    """Makes one layer of neurons, as the networks ask for them."""

    def __call__(self, channels: int, *, second: bool = False) -> Neuron:
        """A layer of neurons.

        Args:
            channels: channels (features of a linear layer) of its input, dimension 2 of
                [T, B, C, ...].
            second: True for the second neuron of a block, which is the one that the
                parallel variant replaces.
        """
        ...


class NeuronFactory(Protocol):
    """Makes, from T and variants (keywords with defaults), the maker of the layers."""

    def __call__(self, timesteps: int) -> NeuronMaker: ...


NEURONS: Registry[NeuronFactory] = Registry("neuron")


@NEURONS.register("lif")
def lif(
    timesteps: int,
    *,
    leak: float = 0.5,
    threshold: float = 1.0,
    surrogate: str = "triangle",
    reset: str = "soft",
    detach_reset: bool = False,
    learnable: bool = False,
) -> NeuronMaker:
    """Leaky integrate-and-fire, :class:`LIF` or, learnable, :class:`LearnableLIF`."""
    settings = LIFSettings(leak, threshold, surrogate, reset, detach_reset)
    kind = LearnableLIF if learnable else LIF

    def make(channels: int, *, second: bool = False) -> Neuron:
        return kind(timesteps, settings)

    return make


@NEURONS.register("ilif")
def ilif(timesteps: int, *, leak: float = 0.5, levels: int = 4) -> NeuronMaker:
    """Integer LIF, :class:`IntegerLIF`."""

    def make(channels: int, *, second: bool = False) -> Neuron:
        return IntegerLIF(timesteps, leak, levels)

    return make


@NEURONS.register("hdlif")
def hdlif(
    timesteps: int,
    *,
    four_bit: bool = False,
    parallel: bool = False,
    mem_bn: bool = False,
    seca: bool = False,
    literal: bool = False,
    authors_code: bool = False,
) -> NeuronMaker:
    """Hybrid-driven LIF, :class:`HDLIF`; ``parallel`` is for the second of each block."""

    def make(channels: int, *, second: bool = False) -> Neuron:
        return HDLIF(
            timesteps,
            channels,
            four_bit=four_bit,
            parallel=parallel and second,
            mem_bn=mem_bn,
            seca=seca,
            literal=literal,
            authors_code=authors_code,
        )

    return make


def neuron_maker(specification: str, timesteps: int, **variants: object) -> NeuronMaker:
    """The maker of the neurons of a network.

    Args:
        specification: a name of :data:`NEURONS`, variants joined with '+'.
        timesteps: T.
        **variants: more variants.

    Raises:
        SnnprofError: an unknown neuron or variant, or a value that the variant cannot have.
    """
    name, given = parse_specification(specification, **variants)
    kind = NEURONS.find(name)
    return kind(timesteps, **_checked(name, kind, given))


def parse_specification(written: str, **variants: object) -> tuple[str, dict[str, object]]:
    """Name and variants of a specification, joined with more variants; neither is looked up."""
    name, *items = written.split("+")
    given = dict(variants)
    for item in items:
        key, equals, value = item.partition("=")
        given[key] = value if equals else True
    return name, given


def takes_variant(name: str, variant: str) -> bool:
    """Whether the neuron of that name has such a variant."""
    return name in NEURONS and variant in _variants_of(NEURONS[name])


def specification(written: str, **variants: object) -> str:
    """The specification with more variants joined to it: ``"hdlif+four_bit+parallel"``."""
    given = [
        name if value is True or value == "true" else f"{name}={value}"
        for name, value in variants.items()
        if value is not False and value != "false"
    ]
    return "+".join((written, *given))


def _variants_of(kind: NeuronFactory) -> dict[str, object]:
    """Its variants and their defaults."""
    parameters = inspect.signature(kind).parameters
    return {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def _checked(name: str, kind: NeuronFactory, given: Mapping[str, object]) -> dict[str, object]:
    """The variants in the type of their defaults."""
    takes = _variants_of(kind)
    checked = {}
    for key, value in given.items():
        if key not in takes:
            raise known(f"variant of {name}", key, takes)
        checked[key] = _as(type(takes[key]), f"{name}+{key}", value)
    return checked


_SWITCH = {"true": True, "false": False}


def _as(kind: type, what: str, value: object) -> object:
    """A value, perhaps written as text, in the type that is wanted."""
    if kind is bool:
        switch = _SWITCH.get(str(value).lower())
        if switch is None:
            raise SnnprofError(f"{what}={value}: a switch, true or false")
        return switch
    if isinstance(value, bool):
        raise SnnprofError(f"{what} needs a value: {what}=...")
    try:
        converted: object = kind(value)
    except (TypeError, ValueError):
        raise SnnprofError(f"{what}={value}: must be a number ({kind.__name__})") from None
    return converted

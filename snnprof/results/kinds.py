"""Kinds of operand, and the cost of one synaptic event between two of them: MAC or AC."""

from __future__ import annotations

from enum import StrEnum

# More levels than this and "multiples of a step" says nothing: an 8-bit image is no spike.
MAX_LEVELS = 64


class Kind(StrEnum):
    """Kinds of operand, from the narrowest to the widest."""

    BINARY = "BINARY"  # all non-zeros equal one positive value
    TERNARY = "TERNARY"  # non-zeros are +c and -c
    INTEGER = "INTEGER"  # whole multiples of a step, at most MAX_LEVELS of them
    REAL = "REAL"


class Operation(StrEnum):
    """The work of one synaptic event: accumulate only, or multiply and accumulate."""

    AC = "AC"
    MAC = "MAC"


def operation(input_kind: str, weight_kind: str, integer: str = "ac") -> Operation:
    """MAC or AC for one event, by the kinds of the two operands.

    Args:
        input_kind: kind of the layer's input.
        weight_kind: kind of its weight.
        integer: what an INTEGER input on a REAL weight is: ``"ac"`` (value k is k spikes,
            each an accumulate) or ``"mac"``.
    """
    spikes = (Kind.BINARY, Kind.TERNARY)
    if input_kind in spikes or weight_kind in spikes:
        return Operation.AC
    if input_kind == Kind.INTEGER and integer == "ac":
        return Operation.AC
    return Operation.MAC


def spiking_operand(first_kind: str, second_kind: str) -> int:
    """Which operand of a product of two activations is spikes: 0 or 1; 0 if both or none are."""
    return int(first_kind == Kind.REAL and second_kind != Kind.REAL)


def is_unrolled(input_kind: str, weight_kind: str, integer: str = "ac") -> bool:
    """True where an AC event of value k is billed as k events (INTEGER input, REAL weight)."""
    return (
        input_kind == Kind.INTEGER
        and weight_kind not in (Kind.BINARY, Kind.TERNARY)
        and integer == "ac"
    )

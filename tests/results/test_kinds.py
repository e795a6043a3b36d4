"""The rule of MAC or AC, for every pair of kinds."""

from __future__ import annotations

import pytest

from snnprof.results.kinds import Kind, is_unrolled, operation

# By input kind: the operation on a BINARY, TERNARY, INTEGER and REAL weight.
RULE = {
    "BINARY": ("AC", "AC", "AC", "AC"),
    "TERNARY": ("AC", "AC", "AC", "AC"),
    "INTEGER": ("AC", "AC", "AC", "AC"),
    "REAL": ("AC", "AC", "MAC", "MAC"),
}


def test_the_kinds_are_in_order_from_the_narrowest() -> None:
    assert list(Kind) == ["BINARY", "TERNARY", "INTEGER", "REAL"]


@pytest.mark.parametrize("input_kind", RULE)
def test_an_event_is_an_ac_if_either_operand_is_spikes(input_kind: str) -> None:
    assert tuple(operation(input_kind, weight) for weight in Kind) == RULE[input_kind]


def test_integer_inputs_on_real_weights_can_be_billed_as_macs() -> None:
    found = tuple(operation("INTEGER", weight, integer="mac") for weight in Kind)
    assert found == ("AC", "AC", "MAC", "MAC")
    for input_kind in ("BINARY", "TERNARY", "REAL"):
        found = tuple(operation(input_kind, weight, integer="mac") for weight in Kind)
        assert found == RULE[input_kind]


def test_only_integer_inputs_on_weights_with_levels_are_unrolled() -> None:
    unrolled = [(x, w) for x in Kind for w in Kind if is_unrolled(x, w)]
    assert unrolled == [("INTEGER", "INTEGER"), ("INTEGER", "REAL")]
    assert not any(is_unrolled(x, w, integer="mac") for x in Kind for w in Kind)

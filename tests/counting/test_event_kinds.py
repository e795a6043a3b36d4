"""An event is a MAC or an AC by the kinds of both operands; the stem."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row
from .values import ALPHA, SIGNS, choose, reals

RULE = {
    ("BINARY", "BINARY"): "AC",
    ("BINARY", "TERNARY"): "AC",
    ("BINARY", "INTEGER"): "AC",
    ("BINARY", "REAL"): "AC",
    ("TERNARY", "BINARY"): "AC",
    ("TERNARY", "TERNARY"): "AC",
    ("TERNARY", "INTEGER"): "AC",
    ("TERNARY", "REAL"): "AC",
    ("INTEGER", "BINARY"): "AC",
    ("INTEGER", "TERNARY"): "AC",
    ("INTEGER", "REAL"): "AC",
    ("REAL", "BINARY"): "AC",
    ("REAL", "TERNARY"): "AC",
    ("REAL", "REAL"): "MAC",
}
INPUTS = {
    "BINARY": choose([0.0, 1.0], (3, 12)),
    "TERNARY": choose([-1.0, 0.0, 1.0], (3, 12)),
    "INTEGER": choose([0.0, 1.0, 2.0], (3, 12)),
    "REAL": reals((3, 12)),
}
WEIGHTS = {
    "BINARY": torch.ones(5, 12),
    "TERNARY": SIGNS * ALPHA,
    "INTEGER": choose([-2.0, -1.0, 1.0, 2.0, 3.0], (5, 12)) * ALPHA,
    "REAL": reals((5, 12), seed=14) + 0.1,
}


@pytest.mark.parametrize(("input_kind", "weight_kind"), RULE)
def test_the_rule_of_mac_or_ac(input_kind: str, weight_kind: str):
    layer = nn.Linear(12, 5)
    layer.weight = nn.Parameter(WEIGHTS[weight_kind].clone())
    row = count_row(layer, INPUTS[input_kind])
    assert (row.input_kind, row.weight_kind) == (input_kind, weight_kind)
    assert row.operation == RULE[input_kind, weight_kind]


def test_the_stem_is_the_first_layer_if_its_input_is_real():
    net = nn.Sequential(nn.Linear(12, 4), nn.Sigmoid(), nn.Linear(4, 2))
    with SopCounter(net) as counter:
        net(reals((2, 12)))
    assert [row.stem for row in counter.result().rows] == [True, False]
    with SopCounter(net) as counter:
        net(INPUTS["BINARY"])
    assert [row.stem for row in counter.result().rows] == [False, False]

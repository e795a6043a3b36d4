"""Counters used again, and counters inside counters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import (
    fresh_counts,
    images,
    make,
)


def test_repeated_use_gives_equal_counts():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    counter = SopCounter(model)
    results = []
    for _ in range(3):
        with counter:
            model(images())
        results.append(counter.result())
    results.append(count(model, images()))
    assert all(result == results[0] for result in results)


def test_nested_counters_of_one_model_give_equal_counts():
    model = make().eval()
    with SopCounter(model) as outer, SopCounter(model) as inner:
        model(images())
        model(images(seed=2))
    assert outer.result() == inner.result() == fresh_counts()


def test_nested_counters_of_model_and_submodule_give_equal_counts():
    model = make().eval()
    with SopCounter(model) as outer, SopCounter(model.block) as inner:
        model(images())
        model(images(seed=2))
    assert outer.result() == fresh_counts()
    (row,) = inner.result().rows
    assert row.name == "0"
    assert row.synops == outer.result().by_layer()["block.0"].synops


@pytest.mark.parametrize("submodule_first", [True, False])
def test_the_order_of_nesting_does_not_matter(submodule_first: bool):
    model = make().eval()
    order = [model.block, model] if submodule_first else [model, model.block]
    with SopCounter(order[0]) as one, SopCounter(order[1]) as other:
        model(images())
        model(images(seed=2))
    whole = other if submodule_first else one
    assert whole.result() == fresh_counts()


def test_an_inner_counter_that_comes_and_goes_does_not_disturb_the_outer():
    model = make().eval()
    with SopCounter(model) as outer:
        with SopCounter(model) as inner:
            model(images())
        inner.result()
        model(images(seed=2))
    assert outer.result() == fresh_counts()


class Counting(nn.Module):
    """Counts a layer of its own, in its own forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        with SopCounter(self.layer) as inner:
            out = self.layer(x)
        self.inner = inner.result()
        return out


def test_a_result_read_inside_another_counters_model_adds_nothing():
    model = Counting()
    outer = count(model, torch.ones(1, 3))
    assert [(row.name, row.synops) for row in outer.rows] == [("layer", 6)]
    assert model.inner.rows[0].synops == 6
    assert outer.not_counted == ()


def test_counters_of_different_models_do_not_see_each_other():
    one, other = nn.Linear(3, 2), nn.Linear(4, 5)
    with SopCounter(one) as first, SopCounter(other) as second:
        one(torch.ones(1, 3))
        other(torch.ones(1, 4))
        F.linear(torch.ones(1, 3), torch.ones(7, 3))  # nobody's
    assert [row.synops for row in first.result().rows] == [6]
    assert [row.synops for row in second.result().rows] == [20]
    assert first.result().not_counted == ()

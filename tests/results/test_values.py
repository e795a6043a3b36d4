"""Kinds and steps, against a slow reference: fractions, and every pair of values compared."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest
import torch

from snnprof.results.kinds import Kind
from snnprof.results.values import Values, denominator

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52, torch.float16: 2.0**-10}


def read(values: list[float], rounding: float = 2.0**-23) -> Values:
    """Joined one by one; each is one event."""
    found = Values()
    for value in values:
        if value:
            one = Values.of(abs(value), rounding)
            found = found.join(Values(**{**fields(one), "levels": 1, "negative": value < 0}))
    return found


def fields(values: Values) -> dict:
    return {name: getattr(values, name) for name in Values.__slots__}


def exact_reference(values: list[float]) -> tuple[str, float, int | None]:
    """Kind, step and levels by fractions: no tolerance, for values that are exact."""
    magnitudes = [Fraction(abs(value)) for value in values if value]
    if not magnitudes:
        return "BINARY", 0.0, 0
    if len(set(magnitudes)) == 1:
        kind = "TERNARY" if min(values) < 0 else "BINARY"
        return kind, float(magnitudes[0]), len(magnitudes)
    steps = [Fraction(1, 2**power) for power in range(11)] + [min(magnitudes)]
    for step in steps:
        if max(magnitudes) <= 64 * step and all((x / step).denominator == 1 for x in magnitudes):
            return "INTEGER", float(step), int(sum(magnitudes) / step)
    return "REAL", math.nan, None


POOLS = {
    "spikes": [0.0, 1.0],
    "signs": [-0.75, 0.0, 0.75],
    "whole": [0.0, 1.0, 2.0, 3.0, 5.0],
    "even": [0.0, 2.0, 4.0, 6.0],
    "halves": [0.0, 1.0, 1.5, 2.0, 4.0],
    "quarters": [0.25, -0.75, 1.25],
    "coarse": [100.0, 150.0],
    "coarse and seen": [100.0, 200.0, 50.0],
    "64 levels": [1.0, 64.0],
    "65 levels": [1.0, 65.0],
    "image": [k / 256 for k in range(0, 256, 7)],
    "1 / 1024": [1 / 1024, 3 / 1024, 1 / 16],
    "1 / 2048": [3 / 2048, 5 / 2048],
    "1 / 2048 and seen": [1 / 2048, 3 / 2048],
    "late divisor": [0.375, 0.5, 0.0625],
}


@pytest.mark.parametrize("name", POOLS)
def test_exact_values_against_fractions_in_every_order(name: str):
    pool = POOLS[name]
    draw = random.Random(0)
    orders = itertools.permutations(pool) if len(pool) < 6 else [pool, pool[::-1]]
    for order in orders:
        values = [*order, *draw.choices(pool, k=5)]
        found = read(values).kind()
        kind, step, levels = exact_reference(values)
        assert (found.kind, found.levels) == (kind, levels)
        assert found.step == step or math.isnan(found.step) == math.isnan(step) == 1


@pytest.mark.parametrize("theta", [0.3, 0.7, 1 / 3, 0.1, 1.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiples_of_an_odd_step_in_every_order(theta: float, dtype: torch.dtype):
    levels = [6, 10, 15, 1]  # pairs of them have the divisors 2, 3 and 5
    heights = [(torch.tensor(theta, dtype=dtype) * k).item() for k in levels]
    for order in itertools.permutations(heights):
        found = read(list(order), EPS[dtype]).kind()
        assert (found.kind, found.levels) == ("INTEGER", 32)  # 6 + 10 + 15 + 1
    assert read(heights[:3], EPS[dtype]).kind().kind == "REAL"  # the step itself is not seen


@pytest.mark.parametrize(
    "values",
    [
        [0.6, 0.9],
        [1.0, 2.0, 1.7],
        [1.0] * 5 + [0.99991],
        [1.0, 1.0 + 2.0**-19],
        [1.0, math.pi],
        [0.3, 0.6, 0.9, 1.0],
        [1.0, math.nan],
        [1.0, math.inf],
    ],
)
def test_what_is_no_multiple_is_real_in_every_order(values: list[float]):
    for order in itertools.permutations(values[:6]):
        assert read(list(order)).kind().kind == "REAL"


def test_the_tolerance():
    """Estimates of one step may differ by 2^-20 of it, in float32; by 2^-40 in float64."""
    for rounding, spread in ((2.0**-23, 2.0**-20), (2.0**-52, 2.0**-40)):
        for order in itertools.permutations((1.0, 3 * (1 + spread / 2), 2.0)):
            assert read(list(order), rounding).kind().levels == 6
        for order in itertools.permutations((1.0, 3 * (1 + spread * 2), 2.0)):
            assert read(list(order), rounding).kind().kind == "REAL"
    assert read([1.0, 3 * (1 + 2.0**-21)], 2.0**-10).kind().kind == "REAL"  # half: none


def test_estimates_on_the_border_do_not_depend_on_the_order():
    """Each is within the tolerance of its neighbour, the outer two are not of each other."""
    for width, kind in ((0.9, "INTEGER"), (1.8, "REAL")):
        values = [1.0, 2 * (1 + width / 2 * 2.0**-20), 3 * (1 + width * 2.0**-20)]
        kinds = {read(list(order)).kind().kind for order in itertools.permutations(values)}
        assert kinds == {Kind(kind)}


def test_random_sets_joined_in_every_way():
    draw = random.Random(1)
    for _ in range(300):
        step = draw.choice([1.0, 0.25, 3.0, 0.3, 1 / 7, 640.0])
        values = [step * draw.choice([0, 1, 2, 3, 4, 6, 9, 20, 64]) for _ in range(12)]
        if draw.random() < 0.3:
            values[draw.randrange(12)] *= 1 + draw.choice([1e-7, 1e-5, 0.1, 0.5])
        values = torch.tensor(values).tolist()  # as float32 has them
        whole = read(values).kind()
        for _ in range(5):
            draw.shuffle(values)
            cut = draw.randrange(13)
            parts = read(values[:cut]).join(read(values[cut:])).kind()
            assert (parts.kind, parts.levels) == (whole.kind, whole.levels)


def test_denominators():
    for q in range(1, 65):
        for p in range(1, 65):
            assert denominator(p / q * (1 + 1e-7)) == q // math.gcd(p, q)
    assert denominator(1 / 65) == denominator(65.0) == denominator(math.pi) == 0

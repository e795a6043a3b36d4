"""Figures of one layer, and of several together."""

from __future__ import annotations

from dataclasses import replace

from snnprof.results import LayerCount
from snnprof.results.counts import SOFTMAX_PRODUCT
from snnprof.results.module_tree import figures_of

# 30 of 40 pixels are not 0; 10 of 40 elements are spikes.
STEM = LayerCount(
    "stem", "conv2d", "REAL", "REAL", "MAC", True, 1, 0.75, 400, None, 300.0, 400, 400, 30, 40
)
LAYER = LayerCount(
    "fc", "linear", "BINARY", "REAL", "AC", False, 1, 0.25, 100, 100, 100.0, 400, 400, 10, 40
)


def density(*layers: LayerCount) -> float | None:
    return figures_of(layers, (), 2, ()).input_density


def test_the_density_of_one_layer_is_its_own_whatever_it_is() -> None:
    assert density(STEM) == 0.75
    assert density(replace(LAYER, op=SOFTMAX_PRODUCT)) == 0.25
    assert density(LAYER) == 0.25
    assert density() is None


def test_of_several_the_stem_and_softmax_weights_are_left_out() -> None:
    product = replace(LAYER, name="av", op=SOFTMAX_PRODUCT, nonzeros=40)
    other = replace(LAYER, name="out", nonzeros=30)
    assert density(STEM, LAYER, product) == 0.25
    assert density(STEM, LAYER, product, other) == 0.5  # (10 + 30) / (40 + 40)
    assert density(STEM, product) is None

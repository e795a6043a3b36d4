"""Registries by name, by class and by function."""

import pytest
import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByClass, ByFunction, Registry


def test_a_name_is_registered_once_and_an_unknown_one_lists_the_known() -> None:
    colours: Registry[int] = Registry("colour")
    assert colours.register("red")(1) == 1
    colours.register("blue")(2)
    assert colours.find("blue") == 2
    with pytest.raises(ValueError, match="colour 'red' is already registered"):
        colours.register("red")(3)
    assert colours.find("red") == 1
    with pytest.raises(SnnprofError, match="unknown colour 'green'; known: blue, red"):
        colours.find("green")


def test_a_derived_class_has_what_the_nearest_of_its_bases_has() -> None:
    sizes: ByClass[str] = ByClass("layer")
    sizes.register(nn.Module)("any")
    sizes.register(nn.Linear)("linear")

    class Mine(nn.Linear):
        pass

    assert sizes[sizes.nearest(Mine(1, 1))] == "linear"
    assert sizes[sizes.nearest(nn.ReLU())] == "any"
    assert sizes.nearest("no module") is None


def test_functions_are_told_apart_by_identity() -> None:
    names: ByFunction[str] = ByFunction("operation")
    names.register(torch.add)("add")
    assert names.get(torch.add) == "add"
    assert names.get(torch.Tensor.add) is None
    with pytest.raises(ValueError, match="operation 'add' is already registered"):
        names.register(torch.add)("again")


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (Registry("thing"), len),
        (Registry("thing"), ""),
        (ByClass("thing"), 3),
        (ByFunction("thing"), 3),
    ],
)
def test_what_is_no_key_is_refused(table, key) -> None:
    with pytest.raises(SnnprofError, match="a thing is registered"):
        table.register(key)
    assert not table

"""Layer names without what wrappers add to them."""

import torch
from torch import nn

from snnprof.core.module_names import ParameterOwners, module_names, strip_wrappers, unwrapped


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_wrappers_are_stripped_wherever_they_stand() -> None:
    assert strip_wrappers("module._orig_mod.conv1") == "conv1"
    assert strip_wrappers("blocks._checkpoint_wrapped_module.0.module.fc") == "blocks.0.fc"
    assert strip_wrappers("modules.fc") == "modules.fc"


def test_the_root_goes_by_its_class_and_layers_by_their_own_names() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    root = Wrapper(inner)
    names = module_names(root)
    assert names[inner[0]] == "0"
    assert names[root] == "Wrapper"
    assert unwrapped(root) is inner


def test_names_that_stripping_would_make_equal_stay_as_they_are() -> None:
    root = nn.Module()
    root.fc = nn.Linear(1, 1)
    root.module = nn.Module()
    root.module.fc = nn.Linear(1, 1)
    names = module_names(root)
    assert {names[root.fc], names[root.module.fc]} == {"fc", "module.fc"}


def test_a_view_of_a_weight_belongs_to_the_weights_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    owners = ParameterOwners(model)
    assert owners.name_of(model[0].weight) == "0"
    assert owners.name_of(model[0].weight.t()) == "0"
    assert owners.name_of(model[0].bias) == "0.bias"
    assert owners.name_of(torch.empty(3)) is None

"""Divided parameters, of one process; two are in tests/cli/test_many_processes.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import ALONE
from snnprof.training.adapters import adapt
from snnprof.training.divided_parameters import (
    divide,
    explained_errors,
    has_divided,
    is_divided,
    load_whole_state,
    own_part,
    whole_state,
)
from snnprof.training.parameter_reads import Division
from snnprof.training.step_runner import StepSetup
from snnprof.training.stepped_model import SteppedModel, stepwise

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("needs torch.distributed with gloo")
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def divided(model: nn.Module, division: Division) -> SteppedModel:
    stepped = stepwise(model, reset=lambda: None, detach=lambda: None)
    return divide(stepped, division, CPU, ALONE)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_modules_stay_what_they_are_and_parameters_are_divided() -> None:
    model = layers()
    model.scale = nn.Parameter(torch.tensor(2.0))
    stepped = divided(model, Division(groups=("0",), whole=("scale",)))
    assert [type(module) for module in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert {name for name, p in model.named_parameters() if not is_divided(p)} == {"scale"}
    assert own_part(model[0].weight).shape == (4, 3)
    assert not has_divided(layers())
    seen: list[Tensor] = []
    model[2].register_forward_pre_hook(lambda module, args: seen.extend(module.parameters()))
    out = stepped.run_step(torch.ones(5, 3))
    torch.testing.assert_close(out, layers()(torch.ones(5, 3)))
    assert not any(map(is_divided, seen))  # gathered with the network's
    assert has_divided(model)


def test_whole_states_are_ordinary_and_load_again() -> None:
    model = layers()
    stepped = divided(model, Division(groups=("0",)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    stepped.run_step(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    of_model, of_optimizer = whole_state(model.state_dict()), whole_state(optimizer.state_dict())
    plain = layers()
    of_plain = torch.optim.Adam(plain.parameters(), lr=0.1)
    plain(torch.ones(5, 3)).sum().backward()
    of_plain.step()
    torch.testing.assert_close(of_model, dict(plain.state_dict()))
    torch.testing.assert_close(of_optimizer, of_plain.state_dict())

    again = layers()
    divided(again, Division(groups=("2",)))
    of_again = torch.optim.Adam(again.parameters(), lr=0.5)
    load_whole_state(again, of_again, of_model, of_optimizer)
    torch.testing.assert_close(whole_state(again.state_dict()), of_model)
    torch.testing.assert_close(whole_state(of_again.state_dict()), of_optimizer)
    state = of_again.state[again[0].weight]
    assert is_divided(state["exp_avg"])
    assert not is_divided(state["step"])  # one number


def test_a_parameter_that_is_held_elsewhere_is_refused() -> None:
    model = layers()
    held = [model[2].bias]
    with pytest.raises(SnnprofError, match=r"^fsdp: 2\.bias of Sequential is held elsewhere too"):
        divided(model, Division())
    assert held


def test_a_divided_parameter_that_is_used_as_a_whole_one_is_one_line() -> None:
    model = layers()
    divided(model, Division())
    line = r"^fsdp: something uses [^\n]*: leave fsdp out$"
    with pytest.raises(SnnprofError, match=line), explained_errors():
        model[0].weight + torch.ones(4, 3)
    with pytest.raises(RuntimeError, match=r"^other$"), explained_errors():
        raise RuntimeError("other")


def test_what_does_not_run_divided_is_refused() -> None:
    given = {"compile": True, "channels_last": True, "amp": "fp16"}
    for name, value in given.items():
        with pytest.raises(SnnprofError, match=rf"^fsdp does not run with {name}.*: leave one"):
            StepSetup(lambda: adapt(layers()), fsdp=True, **{name: value})

"""ReLU in the place of neurons, on a copy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.neuron import neurons_of
from snnprof.spiking.neuron_equations import NeuronCall, NeuronEquations, equations_of_class


def lif() -> LIF:
    return LIF(2, LIFSettings())


def test_the_twin_computes_relu_where_neurons_fired() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), lif(), nn.Linear(4, 2))
    twin = snnprof.dense_twin(model)
    x = torch.randn(1, 5, 3)
    assert torch.equal(twin(x), model[2](torch.relu(model[0](x))))
    assert not torch.equal(twin(x), model(x))


def test_the_model_stays_as_it_was() -> None:
    model = snnprof.models.create("vgg5", in_channels=1, image_size=8, timesteps=2).eval()
    modules, weights = [*model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    twin = snnprof.dense_twin(model)
    assert [*model.modules()] == modules
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in twin.parameters())
    assert neurons_of(twin) == []
    relus = [m for m in twin.modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == len(neurons_of(model)) == 4  # 3 convolutions, 1 hidden linear layer
    assert not any(m.training for m in twin.modules())


def test_after_a_training_step_too() -> None:
    model = snnprof.models.create("vgg5", in_channels=1, image_size=8, timesteps=2)
    model(torch.rand(1, 2, 1, 8, 8)).sum().backward()  # one step of two: a membrane with a graph
    assert all(neuron.membrane is not None for neuron in neurons_of(model))
    assert snnprof.dense_twin(model)(torch.rand(1, 2, 1, 8, 8)).shape == (1, 2, 10)


def test_a_neuron_in_several_places_is_one_activation() -> None:
    shared = lif()
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(nn.Linear(2, 2), shared)})
    model.also = [shared]  # type: ignore[assignment]
    twin: Any = snnprof.dense_twin(model)
    assert isinstance(twin["a"], nn.ReLU)
    assert twin["a"] is twin["b"][1] is twin.also[0]


def test_a_layer_of_neurons_alone() -> None:
    assert isinstance(snnprof.dense_twin(lif()), nn.ReLU)


@pytest.mark.parametrize("name", ["resnet18", "sew_resnet18", "spikformer_2_384"])
def test_our_networks(name: str) -> None:
    with torch.device("meta"):
        model = snnprof.models.create(name, timesteps=1, image_size=16)
        out = snnprof.dense_twin(model).eval()(torch.empty(2, 3, 16, 16))
    assert out.shape == (1, 2, 10)


class Returning(nn.Module):
    """Neurons that return their state too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Integrating(nn.Module):
    """A readout that does not fire."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Untold(nn.Module):
    """Neurons of which nothing is known."""


_HERE = __name__


@equations_of_class(f"{_HERE}.Returning")
def _returning(neuron: Returning) -> NeuronEquations:
    call = NeuronCall(lambda x: (x, None), lambda s, v: (s, v), returns_state=True)
    return NeuronEquations(call=call)


@equations_of_class(f"{_HERE}.Integrating")
def _integrating(neuron: Integrating) -> NeuronEquations:
    return NeuronEquations(spiking=False)


@equations_of_class(f"{_HERE}.Untold")
def _untold(neuron: Untold) -> NeuronEquations:
    return NeuronEquations(unknown="it has recurrent weights inside it")


def test_an_integrator_becomes_the_identity() -> None:
    twin: Any = snnprof.dense_twin(nn.Sequential(nn.Linear(2, 2), lif(), Integrating()))
    assert [type(m) for m in twin] == [nn.Linear, nn.ReLU, nn.Identity]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), "Linear has no layer of neurons that snnprof knows.*register_neuron"),
        (
            nn.Sequential(nn.Linear(2, 2), Returning(), Returning()),
            r"no ReLU can stand in the place of 1 \(Returning: its call returns its state beside "
            r"the spikes\) and 1 more: .*--baseline package.module:function",
        ),
        (nn.Sequential(Untold()), r"of 0 \(Untold: it has recurrent weights inside it\): write"),
        ("vgg5", "dense_twin takes a torch.nn.Module, not a str"),
    ],
)
def test_what_has_no_twin_is_one_line(model: Any, message: str) -> None:
    with pytest.raises(SnnprofError, match=message) as error:
        snnprof.dense_twin(model)
    assert "\n" not in str(error.value)

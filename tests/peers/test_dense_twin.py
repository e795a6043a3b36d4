"""ReLU in the place of each library's neurons."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError

from .library import library, spikingjelly


def between(neuron: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), neuron, nn.Linear(6, 2))


def assert_relu_takes_the_place(neuron: nn.Module, x: Tensor) -> None:
    """The twin is the same layers with ReLU, and the model as it was, whatever it has run."""
    model = between(neuron)
    before = copy.deepcopy(model.state_dict())
    twin = snnprof.dense_twin(model)
    assert torch.equal(twin(x), model[2](torch.relu(model[0](x))))
    assert model[1] is neuron
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


SPIKINGJELLY: dict[str, Callable[[Any], nn.Module]] = {
    "IFNode": lambda neuron: neuron.IFNode(),
    "LIFNode": lambda neuron: neuron.LIFNode(),
    "ParametricLIFNode": lambda neuron: neuron.ParametricLIFNode(),
    "QIFNode": lambda neuron: neuron.QIFNode(),  # its equations are not known; how it is called is
}


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_spikingjelly(name: str) -> None:
    assert_relu_takes_the_place(SPIKINGJELLY[name](spikingjelly().neuron), torch.rand(3, 5))


def test_spikingjelly_over_time() -> None:
    theirs = spikingjelly()
    if theirs.package == "clock_driven":
        neuron = theirs.neuron.MultiStepLIFNode()
    else:
        neuron = theirs.neuron.LIFNode(step_mode="m")
    assert_relu_takes_the_place(neuron, torch.rand(1, 3, 5))


def test_a_spikingjelly_neuron_with_a_forward_of_its_own() -> None:
    base = spikingjelly().neuron.LIFNode

    class Mine(base):  # type: ignore[misc,valid-type]
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), self.v

    with pytest.raises(SnnprofError, match=r"of 1 \(Mine: Mine.forward replaces"):
        snnprof.dense_twin(between(Mine()))


@pytest.mark.parametrize("name", ["Leaky", "Synaptic", "Lapicque"])
def test_snntorch_with_hidden_states(name: str) -> None:
    snn = library("snntorch")
    settings = {"Leaky": {"beta": 0.5}, "Synaptic": {"alpha": 0.5, "beta": 0.5}}
    kind = getattr(snn, name)
    given = settings.get(name, {"beta": 0.5})
    assert_relu_takes_the_place(kind(init_hidden=True, **given), torch.rand(3, 5))


def test_snntorch_after_a_step() -> None:
    # The membrane that it keeps has a graph, which no deep copy takes.
    snn = library("snntorch")
    model = between(snn.Leaky(beta=0.5, init_hidden=True))
    model(torch.rand(3, 5))
    assert isinstance(snnprof.dense_twin(model), nn.Sequential)


@pytest.mark.parametrize("given", [{}, {"init_hidden": True, "output": True}])
def test_snntorch_with_states_handed_over(given: dict[str, bool]) -> None:
    snn = library("snntorch")
    with pytest.raises(SnnprofError, match=r"1 \(Leaky: its call returns its state beside the"):
        snnprof.dense_twin(between(snn.Leaky(beta=0.5, **given)))


def test_snntorch_with_recurrent_weights() -> None:
    snn = library("snntorch")
    recurrent = snn.RLeaky(beta=0.5, linear_features=6, init_hidden=True)
    with pytest.raises(SnnprofError, match=r"RLeaky: it has recurrent weights inside it"):
        snnprof.dense_twin(between(recurrent))


@pytest.mark.parametrize("name", ["LIF", "LIFCell", "LIFBoxCell", "LICell"])
def test_norse_hands_states_over(name: str) -> None:
    norse = library("norse.torch")
    model = norse.SequentialState(nn.Linear(5, 6), getattr(norse, name)(), nn.Linear(6, 2))
    with pytest.raises(SnnprofError, match=f"{name}: its call returns its state beside the spikes"):
        snnprof.dense_twin(model)


@pytest.mark.parametrize(
    ("name", "given", "shape"),
    [
        ("LIF", {"tau_mem": 10.0}, (3, 1, 5)),
        ("IAF", {}, (3, 1, 5)),
        ("LIFSqueeze", {"tau_mem": 10.0, "batch_size": 3}, (3, 5)),
        ("IAFSqueeze", {"batch_size": 3}, (3, 5)),
    ],
)
def test_sinabs(name: str, given: dict[str, Any], shape: tuple[int, ...]) -> None:
    layers = library("sinabs.layers")
    assert_relu_takes_the_place(getattr(layers, name)(**given), torch.rand(shape))


def test_a_sinabs_readout_is_the_identity() -> None:
    layers = library("sinabs.layers")
    model = nn.Sequential(nn.Linear(5, 6), layers.IAF(), nn.Linear(6, 2), layers.ExpLeak(10.0))
    twin: Any = snnprof.dense_twin(model)
    assert [type(m) for m in twin] == [nn.Linear, nn.ReLU, nn.Linear, nn.Identity]


def test_a_row_of_a_run() -> None:
    theirs = spikingjelly()

    def build(timesteps: int) -> nn.Module:
        return between(theirs.neuron.LIFNode())

    batches = [(torch.rand(4, 5), torch.tensor([0, 1, 0, 1]))] * 2
    data = (batches, batches)
    report = snnprof.run(
        model=build, data=data, timesteps=2, epochs=1, modes="stbp", device="cpu", baseline="dense"
    )
    spiking, dense = report.rows
    assert (spiking.layout, dense.layout, dense.timesteps) == ("step", "step", 1)
    assert dense.counts is not None
    assert dense.counts.per_sample("nominal_macs") == 5 * 6 + 6 * 2

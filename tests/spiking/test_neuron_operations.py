"""NOPs counted as neurons run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS, NeuronEquations, register_neuron
from snnprof.spiking.neuron_operations import NeuronOperations


class Cell(nn.Module):
    """A neuron that hands back (spikes, state)."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x, None


@pytest.fixture
def cell() -> Cell:
    register_neuron(Cell)(lambda module: NeuronEquations(operations_per_step=3))
    yield Cell()
    del NEURON_EQUATIONS[Cell]


@pytest.mark.parametrize("neuron", ["lif", "hdlif+parallel"])
def test_ours_are_what_they_count_themselves(neuron: str) -> None:
    net = snnprof.models.create("vgg5", neuron=neuron, in_channels=1, image_size=8, timesteps=3)
    with NeuronOperations(net) as operations, torch.no_grad():
        net(torch.randn(2, 1, 8, 8))
        assert operations.per_sample(2) == snnprof.neuron_ops(net) > 0
        snnprof.reset(net)
        net(torch.randn(5, 1, 8, 8))
    assert operations.per_sample(7) == snnprof.neuron_ops(net)
    net(torch.randn(2, 1, 8, 8))  # not counted any more
    assert operations.per_sample(7) == snnprof.neuron_ops(net)


def test_every_call_counts(cell: Cell) -> None:
    with NeuronOperations(cell) as operations:
        assert operations.total is None  # nothing has run
        for _ in range(4):
            cell(torch.zeros(2, 5))
    assert operations.total == 3 * 2 * 5 * 4
    assert operations.per_sample(2) == 3 * 5 * 4
    assert operations.per_sample(7) is None  # 120 is no multiple of 7
    with pytest.raises(snnprof.SnnprofError, match="samples=0: must be at least 1"):
        operations.per_sample(0)


def test_a_neuron_that_states_none_leaves_the_sum_open(cell: Cell) -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    register_neuron(Other)(lambda module: NeuronEquations(leak=0.5, unknown="nobody knows"))
    try:
        net = nn.ModuleDict({"cell": cell, "other": Other()})
        with NeuronOperations(net) as operations:
            net["cell"](torch.zeros(1, 2))
            assert operations.total == 6
            net["other"](torch.zeros(1, 2))
        assert operations.total is None
        assert operations.unstated == {"other": "nobody knows"}
    finally:
        del NEURON_EQUATIONS[Other]

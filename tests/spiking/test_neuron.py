"""Every neuron: steps and sequences alike, gradients against torch's, memory, operations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import snnprof
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.ilif import IntegerLIF
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import (
    neuron_ops,
)

from .variants import LIFS, VARIANTS, all_neurons, gradients, plain_run


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad])
def test_step_by_step_equals_all_at_once_to_the_last_bit(grad: Callable[[], object]) -> None:
    for whole, stepwise in zip(all_neurons(5), all_neurons(5), strict=True):
        stepwise.load_state_dict(whole.state_dict())
        whole.eval(), stepwise.eval()
        currents = torch.randn(5, 3, 4, 2) + 0.5
        with grad():  # type: ignore[attr-defined]
            expected = whole(currents)
            parts = [stepwise(current.unsqueeze(0)) for current in currents]
        assert torch.equal(torch.cat(parts), expected)
        if whole.membrane is not None:
            assert stepwise.membrane is not None
            assert torch.equal(whole.membrane, stepwise.membrane)


@pytest.mark.parametrize("timesteps", [1, 2, 6])
@pytest.mark.parametrize("chunk", [1, 6])
def test_gradients_equal_those_of_the_plain_equations(timesteps: int, chunk: int) -> None:
    neurons = [
        *(HDLIF(timesteps, **v) for v in VARIANTS if not (v["mem_bn"] or v["seca"])),
        *(LIF(timesteps, s) for s in LIFS),
    ]
    for neuron in neurons:
        neuron.double()
        for parameter in neuron.parameters():
            torch.nn.init.normal_(parameter)
        currents = torch.randn(timesteps, 3, 4, dtype=torch.float64)

        def lean(x: Tensor, neuron: Neuron = neuron) -> Tensor:
            neuron.reset()
            return torch.cat([neuron(part) for part in x.split(chunk)])

        found = gradients(neuron, lean, currents)
        expected = gradients(neuron, lambda x, n=neuron: plain_run(n, x), currents)  # type: ignore[misc]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes of everything that autograd keeps for the backward pass, parameters left out."""
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes if tensor.dim() > 1 else 0
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    assert out.requires_grad or not total
    return total


T, NEURONS_EACH = 6, 50


@pytest.mark.parametrize(
    ("neuron", "whole", "single"),
    [
        (LIF(T), 4, 4),
        (HDLIF(T), 4, 5),  # the membrane; the membrane and a byte
        (HDLIF(T, literal=True), 4, 5),
        (HDLIF(T, four_bit=True), 4, 5),
        (HDLIF(T, parallel=True), 1, 1),
        (IntegerLIF(T), 1, 1),
    ],
)
def test_bytes_saved_per_neuron_and_step(neuron: Neuron, whole: float, single: float) -> None:
    currents = torch.randn(T, 5, NEURONS_EACH // 5).requires_grad_()
    assert saved_bytes(lambda: neuron(currents)) == round(whole * T) * NEURONS_EACH
    neuron.reset()
    neuron(currents[:1])
    assert saved_bytes(lambda: neuron(currents[1:2])) == single * NEURONS_EACH
    neuron.reset()
    with torch.no_grad():
        assert saved_bytes(lambda: neuron(currents)) == 0
        assert neuron.membrane is None or not neuron.membrane.requires_grad


def test_a_step_too_many_says_what_to_do() -> None:
    neuron = HDLIF(2)
    neuron(torch.zeros(2, 1, 1))
    with pytest.raises(snnprof.SnnprofError, match="reset"):
        neuron(torch.zeros(1, 1, 1))


def test_neuron_ops_are_three_per_neuron_and_step() -> None:
    net = torch.nn.Sequential(LIF(4), HDLIF(4, parallel=True))
    assert neuron_ops(net) is None
    net(torch.zeros(4, 2, 10))
    assert neuron_ops(net) == 10 * 4 * 3 + 10 * 4 * 1  # neurons * steps * operations
    snnprof.reset(net)
    assert neuron_ops(net) == 160  # of the last run

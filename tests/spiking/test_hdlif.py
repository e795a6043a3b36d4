"""The HD-LIF neuron by hand, and against its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnprof.spiking.hdlif import HDLIF, four_bit_, hdlif_step

from .variants import VARIANTS, plain_run, sequence


def test_hdlif_by_hand() -> None:
    # leak 0.5, threshold 0.5: 0.75 fires 0.25, left at 0.5; 0.25 + 0.125 silent
    neuron = HDLIF(2).double()
    assert neuron(sequence(0.75, 0.125)).flatten().tolist() == [0.25, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0.375


def test_hdlif_read_literally_by_hand() -> None:
    # 0.75 fires 0.75, left at 0; 0 + 0.5 fires 0.5 on the threshold itself
    neuron = HDLIF(2, literal=True).double()
    assert neuron(sequence(0.75, 0.5)).flatten().tolist() == [0.75, 0.5]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0


def test_parallel_hdlif_by_hand() -> None:
    neuron = HDLIF(3, parallel=True).double()
    assert neuron(sequence(0.75, 0.25, 1.0)).flatten().tolist() == [0.25, 0.0, 0.5]
    assert neuron.membrane is None


@pytest.mark.parametrize(("authors_code", "last"), [(False, 0.25), (True, 0.5)])
def test_thresholds_of_a_parallel_neuron(authors_code: bool, last: float) -> None:
    # Thresholds sigmoid(0) = 0.5 and sigmoid(ln 3) = 0.75. The paper: 1 - 0.75 at step 1; the
    # authors' code never advances t: 1 - 0.5.
    neuron = HDLIF(2, parallel=True, authors_code=authors_code).double()
    with torch.no_grad():
        neuron.threshold_logit[1] = math.log(3)
    assert neuron(sequence(1.0, 1.0)).flatten().tolist() == pytest.approx([0.5, last], abs=1e-15)
    neuron.reset()
    parts = [neuron(sequence(1.0)), neuron(sequence(1.0))]  # step by step likewise
    assert torch.cat(parts).flatten().tolist() == pytest.approx([0.5, last], abs=1e-15)


def test_a_parallel_neuron_has_no_membrane_to_norm() -> None:
    assert HDLIF(2, 3, mem_bn=True).membrane_norm is not None
    parallel = HDLIF(2, 3, parallel=True, mem_bn=True)
    assert parallel.membrane_norm is None
    assert [name for name, _ in parallel.named_parameters()] == ["threshold_logit"]


def test_four_bit_by_hand() -> None:
    # quarters, rounded; 15 quarters at the most
    spikes = torch.tensor([0.0, 0.1, 0.2, 1.0, 1.13, 9.0])
    assert four_bit_(spikes).tolist() == [0.0, 0.0, 0.25, 1.0, 1.25, 3.75]


def test_four_bit_spikes_leave_the_membrane_as_it_would_be() -> None:
    plain, four_bit = HDLIF(3), HDLIF(3, four_bit=True)
    currents = torch.rand(3, 2, 7)
    spikes = four_bit(currents)
    assert torch.equal(spikes, four_bit_(plain(currents)))
    assert plain.membrane is not None
    assert four_bit.membrane is not None
    assert torch.equal(plain.membrane, four_bit.membrane)


def test_hdlif_derivatives_are_those_of_the_paper() -> None:
    # S1: ds/dm = 1 where it fires, else 0; dm_next/dm = 0 where it fired, else leak.
    leak, threshold = torch.tensor(0.25), torch.tensor(0.5)
    membrane = torch.tensor([1.0, 0.25], requires_grad=True)
    spike, after = hdlif_step(membrane, torch.tensor([0.5, 0.0]), leak, threshold)
    (to_spike,) = torch.autograd.grad(spike.sum(), membrane, retain_graph=True)
    assert to_spike.tolist() == [0.25, 0.0]  # leak * 1, leak * 0
    (to_next,) = torch.autograd.grad(after.sum(), membrane)
    assert to_next.tolist() == [0.0, 0.25]  # cut by the spike; leak


@pytest.mark.parametrize("literal", [False, True])
def test_on_the_threshold_it_fires(literal: bool) -> None:
    currents = sequence(0.5).requires_grad_()
    neuron = HDLIF(1, literal=literal).double()
    neuron(currents).sum().backward()
    assert currents.grad is not None
    assert currents.grad.item() == 1


def test_hdlif_starts_at_one_half_and_learns_each_step() -> None:
    neuron = HDLIF(3)
    assert torch.sigmoid(neuron.leak_logit).tolist() == [0.5] * 3
    neuron(torch.rand(3, 2, 5) + 0.2).sum().backward()
    assert neuron.threshold_logit.grad is not None
    assert (neuron.threshold_logit.grad != 0).all()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v["four_bit"]])
def test_gradcheck_of_hdlif(variant: dict[str, bool]) -> None:
    torch.manual_seed(0)
    neuron = HDLIF(3, 2, **variant).double().train()

    def run(currents: Tensor, *parameters: Tensor) -> Tensor:
        neuron.reset()
        names = [name for name, _ in neuron.named_parameters()]
        held = dict(zip(names, parameters, strict=True))
        out: Tensor = torch.func.functional_call(neuron, held, (currents,))
        return out

    currents = (torch.randn(3, 4, 2, 2, dtype=torch.float64) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(run, (currents, *neuron.parameters()), eps=1e-7, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.lists(st.floats(-2, 2, width=32), min_size=8, max_size=8),
    st.floats(-2, 2, width=32),
    st.floats(-2, 2, width=32),
)
def test_hdlif_against_the_definition(
    timesteps: int, values: list[float], leak: float, threshold: float
) -> None:
    neuron = HDLIF(timesteps).double()
    torch.nn.init.constant_(neuron.leak_logit, leak)
    torch.nn.init.constant_(neuron.threshold_logit, threshold)
    currents = torch.tensor(values[:timesteps], dtype=torch.float64).reshape(-1, 1, 1)
    torch.testing.assert_close(neuron(currents), plain_run(neuron, currents), rtol=0, atol=1e-15)

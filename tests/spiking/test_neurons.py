"""Neuron equations by hand, and the lean sequences against torch's own differentiation."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snnprof
from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.hdlif import HDLIF, four_bit_, hdlif_step
from snnprof.spiking.ilif import IntegerLIF
from snnprof.spiking.lif import LIF, LIFSettings, lif_step
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import (
    neuron_ops,
)
from snnprof.spiking.neuron_registry import neuron_maker
from snnprof.spiking.surrogates import SURROGATES, surrogate_spike


def sequence(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


# --- by hand ---------------------------------------------------------------------------------


def test_lif_by_hand() -> None:
    # leak 0.5, threshold 1: 0.8 silent; 0.4 + 0.7 = 1.1 fires, 0.1 left; 0.05 + 0.5 silent
    neuron = LIF(3)
    spikes = neuron(sequence(0.8, 0.7, 0.5)).flatten()
    assert spikes.tolist() == [0.0, 1.0, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(0.55)


def test_hard_reset_by_hand() -> None:
    # 1.5 fires, 0 left; 0 + 0.75 silent; 0.375 + 0.75 = 1.125 fires, 0 left
    neuron = LIF(3, LIFSettings(reset="hard"))
    assert neuron(sequence(1.5, 0.75, 0.75)).flatten().tolist() == [1.0, 0.0, 1.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0


def test_lif_fires_on_the_threshold_itself() -> None:
    spike, membrane = lif_step(None, torch.tensor([1.0]))
    assert (spike.item(), membrane.item()) == (1.0, 0.0)
    assert LIF(1)(sequence(1.0)).item() == 1


def test_a_spike_is_as_high_as_the_threshold() -> None:
    neuron = LIF(1, LIFSettings(threshold=1.25))
    assert neuron(sequence(2.0)).item() == 1.25
    assert neuron.membrane is not None
    assert neuron.membrane.item() == 0.75


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        ("triangle", [0.0, 0.0, 0.75, 1.0, 0.5, 0.0]),
        ("rectangle", [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),  # 1/2 is outside
        # 1 / (1 + (pi d)^2)
        ("arctan", [1 / (1 + (torch.pi * d) ** 2) for d in (-1.5, -1.0, -0.25, 0.0, 0.5, 2.0)]),
    ],
)
def test_surrogates(name: str, slopes: list[float]) -> None:
    values = [-1.5, -1.0, -0.25, 0.0, 0.5, 2.0]
    distance = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    spike = surrogate_spike(distance, name)
    assert spike.tolist() == [0, 0, 0, 1, 1, 1]
    spike.sum().backward()
    assert distance.grad is not None
    assert distance.grad.tolist() == pytest.approx(slopes, abs=1e-15)


def test_integer_lif_by_hand() -> None:
    # leak 0.5: 2.4 -> 2, 0.4 left; 0.2 + 0.2 = 0.4 -> 0; 0.2 + 9 -> 4 (the most), 5.2 left
    neuron = IntegerLIF(3)
    assert neuron(sequence(2.4, 0.2, 9.0)).flatten().tolist() == [2, 0, 4]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(5.2)


def test_integer_spikes_are_the_counters_integers() -> None:
    model = torch.nn.Sequential(IntegerLIF(2), torch.nn.Linear(6, 3))
    with snnprof.SopCounter(model, batch_dim=1) as counter:
        model(torch.rand(2, 5, 6) * 6)
    (row,) = counter.result().rows
    assert (row.input_kind, row.operation) == ("INTEGER", "AC")
    assert row.unrolled_synops is not None
    assert row.unrolled_synops > row.synops


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


def test_channel_attention_by_hand() -> None:
    attention = ChannelAttention()
    torch.nn.init.constant_(attention.mix.weight, 1.0)
    x = torch.zeros(1, 3, 2, 2)
    x[0, 1] = 4.0  # means 0, 4, 0; every window of five channels sums to 4
    expected = 4 * torch.sigmoid(torch.tensor(4.0))
    torch.testing.assert_close(attention(x)[0, 1], expected.expand(2, 2))
    assert attention(torch.rand(3, 8)).shape == (3, 8)


def test_membrane_norm_mixes_the_normed_and_the_plain_membrane() -> None:
    neuron = HDLIF(1, 2, mem_bn=True).double().train()
    currents = torch.randn(1, 16, 2, 3, dtype=torch.float64)
    normed = torch.nn.functional.batch_norm(currents[0], None, None, training=True)
    charged = 0.5 * normed + 0.5 * currents[0]  # both sigmoids start at one half
    torch.testing.assert_close(neuron(currents)[0], torch.relu(charged - 0.5))


def test_hdlif_derivatives_are_those_of_the_seed() -> None:
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


# --- both forms, both ways to differentiate ----------------------------------------------------

SWITCHES = ("four_bit", "parallel", "mem_bn", "seca", "literal")
VARIANTS = [dict(zip(SWITCHES, values, strict=True)) for values in product((False, True), repeat=5)]
LIFS = [
    LIFSettings(surrogate=surrogate, reset=reset, detach_reset=detached, threshold=threshold)
    for surrogate, reset, detached, threshold in product(
        SURROGATES, ("soft", "hard"), (False, True), (1.0, 0.75)
    )
]


def all_neurons(timesteps: int) -> list[Neuron]:
    hdlifs = [HDLIF(timesteps, 4, **variant) for variant in VARIANTS]
    return [*hdlifs, *(LIF(timesteps, s) for s in LIFS), IntegerLIF(timesteps)]


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


def plain_run(neuron: Neuron, currents: Tensor) -> Tensor:
    """By the step equations, differentiated by torch."""
    membrane, spikes = None, []
    for t, current in enumerate(currents):
        if isinstance(neuron, LIF):
            spike, membrane = lif_step(membrane, current, neuron.settings)
        else:
            assert isinstance(neuron, HDLIF)
            threshold = neuron.threshold_logit[t].sigmoid()
            leak = threshold if neuron.parallel else neuron.leak_logit[t].sigmoid()
            before = None if neuron.parallel else membrane
            spike, membrane = hdlif_step(before, current, leak, threshold, neuron.literal)
            if neuron.four_bit:
                spike = spike + (four_bit_(spike.detach().clone()) - spike).detach()
        spikes.append(spike)
    return torch.stack(spikes)


def gradients(neuron: Neuron, run: Callable[[Tensor], Tensor], currents: Tensor) -> list[Tensor]:
    currents = currents.clone().requires_grad_()
    out = run(currents)
    torch.manual_seed(3)
    torch.autograd.backward(out, torch.randn_like(out))
    leaves = [currents, *neuron.parameters()]
    found = [torch.zeros_like(x) if x.grad is None else x.grad.clone() for x in leaves]
    neuron.zero_grad()
    return found


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


def test_integer_lif_passes_the_gradient_inside_its_range() -> None:
    # m: 2.4 inside; 0.2 - 1 = -0.8 outside; -0.4 + 9 outside; leak 0.5.
    currents = sequence(2.4, -1.0, 9.0).requires_grad_()
    neuron = IntegerLIF(3)
    neuron(currents).sum().backward()
    assert currents.grad is not None
    # t=2: outside, ds/dm = 0. t=1: outside, m' = m, dm_2/dm' = 0.5 * 0. t=0: ds/dm = 1, m' fixed
    assert currents.grad.flatten().tolist() == [1, 0, 0]


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


# --- memory ------------------------------------------------------------------------------------


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


# --- specifications ----------------------------------------------------------------------------


def test_a_specification_names_variants() -> None:
    neuron = neuron_maker("hdlif+four_bit+parallel", 2)(3, second=True)
    assert isinstance(neuron, HDLIF)
    assert neuron.four_bit
    assert neuron.parallel
    first = neuron_maker("hdlif+parallel", 2, mem_bn=True)(3)
    assert isinstance(first, HDLIF)
    assert not first.parallel
    assert first.membrane_norm is not None
    lif = neuron_maker("lif+surrogate=arctan+leak=0.9+detach_reset", 2)(3)
    assert isinstance(lif, LIF)
    assert lif.settings == LIFSettings(leak=0.9, surrogate="arctan", detach_reset=True)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("if", "unknown neuron 'if'; known: hdlif, ilif, lif"),
        ("hdlif+wings", "unknown variant of hdlif 'wings'; known: four_bit, literal, mem_bn"),
        ("lif+four_bit", "unknown variant of lif 'four_bit'"),
        ("lif+surrogate=sine", "unknown surrogate 'sine'; known: arctan, rectangle, triangle"),
        ("lif+reset=medium", "unknown reset 'medium'; known: hard, soft"),
        ("lif+leak=big", r"lif\+leak=big: must be a number"),
        ("lif+leak", r"lif\+leak needs a value"),
        ("lif+threshold=0", "threshold=0.0: must be above 0, and finite"),
        ("lif+threshold=inf", "threshold=inf: must be above 0, and finite"),
        ("lif+leak=nan", "leak=nan: must be finite"),
        ("ilif+leak=inf", "leak=inf: must be finite"),
        ("ilif+levels=0", "levels=0: must be at least 1"),
        ("hdlif+seca=4", r"hdlif\+seca=4: a switch"),
    ],
)
def test_what_is_refused(specification: str, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        neuron_maker(specification, 2)(3)


def test_a_step_too_many_says_what_to_do() -> None:
    neuron = HDLIF(2)
    neuron(torch.zeros(2, 1, 1))
    with pytest.raises(snnprof.SnnprofError, match="reset"):
        neuron(torch.zeros(1, 1, 1))


# --- neuron operations -------------------------------------------------------------------------


def test_neuron_ops_are_three_per_neuron_and_step() -> None:
    net = torch.nn.Sequential(LIF(4), HDLIF(4, parallel=True))
    assert neuron_ops(net) is None
    net(torch.zeros(4, 2, 10))
    assert neuron_ops(net) == 10 * 4 * 3 + 10 * 4 * 1  # neurons * steps * operations
    snnprof.reset(net)
    assert neuron_ops(net) == 160  # of the last run

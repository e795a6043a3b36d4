"""Presynaptic traces, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad

import snnprof
from snnprof.models import create
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.network import PerStep
from snnprof.spiking.neuron import Neuron
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode
from snnprof.training.presynaptic_traces import (
    CODED_NDOT,
    LEAKY,
    PUBLISHED_NDOT,
    PresynapticTrace,
    TraceRule,
)

STEPS, BATCH = 5, 3


def train(model: nn.Module, x: Tensor, target: Tensor, mode: str) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    find_mode(mode)(BatchRun(adapt(model), x, target, optimizer))


def lif(leak: float) -> Neuron:
    return LIF(STEPS, LIFSettings(leak=leak))


def hdlif(leak: float) -> Neuron:
    neuron = HDLIF(STEPS).double()
    with torch.no_grad():
        neuron.leak_logit.copy_(torch.linspace(-1.0, 1.0, STEPS))
    return neuron


def factor(mode: str, left: list[float], fell: list[float], t: int, leak: float) -> float:
    """e of one neuron in time step t, from the equations.

    Args:
        left: its membrane after the reset of each step, u - V s.
        fell: what each reset took off, V s.
    """
    if mode.startswith("ottt"):
        return leak
    if mode in ("ndot", "ndot-step"):  # e[t-1] = left[t-1] / left[t-2]
        if t < 2 or left[t - 2] == 0:
            return leak
        return left[t - 1] / left[t - 2]
    now, before = left[t] - fell[t], left[t - 1] - fell[t - 1]
    if before == 0:  # now / 0 is a NaN, or infinite with the sign of now
        return math.copysign(leak, now) * math.copysign(1.0, before) if now else leak
    return max(-leak, min(leak, now / before)) or leak


def traces(
    mode: str, neuron: Neuron, spikes: Tensor, left: Tensor, taken_off: Tensor | None = None
) -> list[Tensor]:
    """The definition, on recorded spikes and membranes after the reset, [T, B, features].

    Args:
        taken_off: by the reset; None for the spikes.
    """
    taken_off = spikes if taken_off is None else taken_off
    found = [spikes[0]]
    for t in range(1, len(spikes)):
        if isinstance(neuron, HDLIF):
            leak = neuron.leak_logit[t].sigmoid().item()
        else:
            assert isinstance(neuron, LIF)
            leak = neuron.settings.leak
        factors = torch.empty_like(spikes[t])
        for place in [(b, i) for b in range(len(factors)) for i in range(factors.shape[1])]:
            was, fell = (x[:, place[0], place[1]].tolist() for x in (left, taken_off))
            factors[place] = factor(mode, was, fell, t, leak)
        found.append(factors * found[-1] + spikes[t])
    return found


@pytest.mark.parametrize("mode", ["ottt", "ndot", "ndot-code"])
@pytest.mark.parametrize("make", [lif, hdlif])
def test_two_layers_by_hand(make: Callable[[float], Neuron], mode: str) -> None:
    """Linear, neuron, linear: dL/dW2 = sum_t delta_t (x) a_t; the rest as online."""
    torch.manual_seed(0)
    first, second, neuron = nn.Linear(4, 6), nn.Linear(6, 3), make(0.7)
    model = nn.Sequential(PerStep(first), neuron, PerStep(second)).double()
    x = 2 * torch.randn(STEPS, BATCH, 4, dtype=torch.float64)
    target = torch.tensor([0, 2, 1])

    with torch.no_grad():
        spikes, left = [], []
        for current in x:
            spikes.append(neuron(first(current).unsqueeze(0))[0])
            assert neuron.membrane is not None
            left.append(neuron.membrane.reshape(BATCH, 6).clone())
        neuron.reset()
    assert 0 < sum(int((s != 0).sum()) for s in spikes) < STEPS * BATCH * 6
    expected = torch.zeros_like(second.weight)
    expected_bias = torch.zeros_like(second.bias)
    for s, a in zip(
        spikes, traces(mode, neuron, torch.stack(spikes), torch.stack(left)), strict=True
    ):
        # d(CE / T)/d(logits) = (softmax - one-hot) / (B T)
        delta = (second(s).softmax(1) - F.one_hot(target, 3)) / (BATCH * STEPS)
        expected += (delta.T @ a).detach()
        expected_bias += delta.sum(0).detach()

    train(model, x, target, "online")
    online = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    train(model, x, target, mode)
    assert second.weight.grad is not None
    torch.testing.assert_close(second.weight.grad, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(second.bias.grad, expected_bias, rtol=1e-12, atol=1e-14)
    # Only that weight's gradient differs from online training: the stem sees the image.
    for p, before in zip(model.parameters(), online, strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad, before) == (p is not second.weight)


@pytest.mark.parametrize("mode", ["ottt", "ndot", "ndot-code"])
def test_four_bit_spikes_by_hand(mode: str) -> None:
    """As two layers by hand: the membrane is that of unrounded spikes, the trace sums rounded ones.

    The reset takes off s' = m - min(m, threshold), and ``ndot-code`` that once more, not what is
    sent on: s = clamp(round(4 s'), 0, 15) / 4.
    """
    torch.manual_seed(0)
    first, second, neuron = nn.Linear(4, 6), nn.Linear(6, 3), HDLIF(STEPS, four_bit=True)
    model = nn.Sequential(PerStep(first), neuron, PerStep(second)).double()
    x, target = 4 * torch.randn(STEPS, BATCH, 4, dtype=torch.float64), torch.tensor([0, 2, 1])
    spikes, left, fell, membrane = [], [], [], torch.zeros(BATCH, 6, dtype=torch.float64)
    for current in x:
        charged = 0.5 * membrane + first(current).detach()
        membrane = charged.clamp(max=0.5)
        left.append(membrane)
        fell.append(charged - membrane)
        spikes.append((4 * fell[-1]).round().clamp(0, 15) / 4)
    assert any((s != s.round()).any() for s in spikes)
    expected = torch.zeros_like(second.weight)
    found = traces(mode, neuron, torch.stack(spikes), torch.stack(left), torch.stack(fell))
    for s, a in zip(spikes, found, strict=True):
        delta = (second(s).softmax(1) - F.one_hot(target, 3)) / (BATCH * STEPS)
        expected += (delta.T @ a).detach()
    train(model, x, target, mode)
    torch.testing.assert_close(second.weight.grad, expected, rtol=1e-12, atol=1e-14)


CONVOLUTIONS = {
    "padded": nn.Conv2d(2, 3, 3, padding=1),
    "strided, grouped": nn.Conv2d(2, 4, 3, stride=2, groups=2),
    "circular": nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    "transposed": nn.ConvTranspose2d(2, 3, 2, stride=2),
    "pooled": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, bias=False)),
    "pooled by maximum": nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, bias=False)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_see_the_trace(name: str) -> None:
    """W's gradient is that of the layer run on the trace, with the same delta."""
    torch.manual_seed(0)
    layer, neuron = CONVOLUTIONS[name].double(), lif(0.5)
    head = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    model = nn.Sequential(neuron, PerStep(layer), PerStep(head)).double()
    x = 2 * torch.randn(STEPS, BATCH, 2, 6, 6, dtype=torch.float64)
    model(x[:1])  # sizes of the lazy layer
    neuron.reset()
    target = torch.tensor([0, 2, 1])
    weights = [p for p in layer.parameters() if p.dim() == 4]

    with torch.no_grad():
        spikes = neuron(x)
        neuron.reset()
    expected = torch.zeros_like(weights[0])
    trace = torch.zeros_like(spikes[0])
    for s in spikes:
        trace = 0.5 * trace + s
        out = layer(s)
        logits = head(out)
        (delta,) = torch.autograd.grad(F.cross_entropy(logits, target) / STEPS, out)
        if name == "pooled by maximum":  # the trace of the neuron that was chosen
            _, chosen = F.max_pool2d(s, 2, return_indices=True)
            seen = layer[1](trace.flatten(2).gather(2, chosen.flatten(2)).view(chosen.shape))
        else:
            seen = layer(trace)
        expected += torch.autograd.grad(seen, weights, delta)[0]
    train(model, x, target, "ottt")
    assert weights[0].grad is not None
    torch.testing.assert_close(weights[0].grad, expected, rtol=1e-11, atol=1e-14)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["resnet18", "sew_resnet18", "spikformer_2_384"])
@pytest.mark.parametrize("mode", ["ottt", "ndot", "ndot-code"])
def test_every_kind_of_network_carries_traces(name: str, mode: str) -> None:
    torch.manual_seed(0)
    model = create(name, timesteps=2, image_size=32)
    x = torch.randn(2, 2, 3, 32, 32)
    train(model, x, torch.tensor([0, 1]), mode)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_a_model_without_known_neurons_is_refused() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(snnprof.SnnprofError, match="register_neuron"):
        train(model, torch.randn(2, 3, 4), torch.tensor([0, 1, 2]), "ottt")


def test_an_operation_that_saves_a_copy_is_refused_not_passed_over() -> None:
    layer = nn.Conv2d(2, 3, 2, padding="same")  # pads on one side: on a copy
    head = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    model = nn.Sequential(lif(0.5), PerStep(layer), PerStep(head))
    with pytest.raises(snnprof.SnnprofError, match="saves no input to swap"):
        train(model, torch.randn(2, 3, 2, 4, 4), torch.tensor([0, 1, 2]), "ottt")


@pytest.mark.parametrize("mode", ["ottt", "ndot", "ndot-code"])
def test_the_trace_of_a_stateless_neuron_is_its_spikes(mode: str) -> None:
    torch.manual_seed(0)
    neuron = HDLIF(STEPS, parallel=True)
    model = nn.Sequential(PerStep(nn.Linear(4, 6)), neuron, PerStep(nn.Linear(6, 3))).double()
    x = 2 * torch.randn(STEPS, BATCH, 4, dtype=torch.float64)
    found = []
    for name in ("online", mode):
        train(model, x, torch.tensor([0, 2, 1]), name)
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


class Recorded(nn.Module):
    """A neuron that plays back spikes and membranes; its leak is 1/2."""

    def __init__(self, spikes: Sequence[float], left: Sequence[float], height: float) -> None:
        super().__init__()
        self.played = list(zip(spikes, left, strict=True))
        self.height = height
        self.membrane: Tensor | None = None

    def forward(self) -> Tensor:
        spike, left = self.played.pop(0)
        self.membrane = torch.tensor([[left]], dtype=torch.float64)
        return torch.tensor([[spike]], dtype=torch.float64)


@snnprof.register_neuron(Recorded)
def _recorded(neuron: Recorded) -> snnprof.NeuronEquations:
    return snnprof.NeuronEquations(leak=0.5, threshold=neuron.height, membrane=neuron.membrane)


def trace_of(
    rule: TraceRule, spikes: Sequence[float], left: Sequence[float], height: float = 1.0
) -> list[float]:
    """The trace in each step of one neuron with these spikes and membranes after the reset."""
    neuron, trace = Recorded(spikes, left, height), PresynapticTrace(rule)
    neuron.register_forward_hook(trace.after)
    found = []
    for _ in spikes:
        with forward_ad.dual_level():
            found.append(forward_ad.unpack_dual(neuron())[1].item())
    return found


# left: 0.5 silent, 0.25 after a spike, 0.75 silent, 0.375 silent
SPIKES, LEFT = (0.0, 1.0, 0.0, 0.0), (0.5, 0.25, 0.75, 0.375)
BY_HAND = {
    # a: 0;  1/2 * 0 + 1;  1/2 * 1 + 0;  1/2 * 1/2
    "ottt": (LEAKY, SPIKES, LEFT, (0, 1, 0.5, 0.25)),
    # a2 = e1 * 1, e1 = 0.25 / 0.5 = 1/2;  a3 = e2 * a2, e2 = 0.75 / 0.25 = 3, beyond the leak
    "ndot": (PUBLISHED_NDOT, SPIKES, LEFT, (0, 1, 0.5, 1.5)),
    # less the spike once more: 0.5, -0.75, 0.75, 0.375. e2 = -1 -> -1/2; e3 = 1/2
    "ndot-code": (CODED_NDOT, SPIKES, LEFT, (0, 1, -0.5, -0.25)),
    # a1 = 1/2 * 1 + 0;  e1 = 0.5 / 0: the leak;  e2 = 0.25 / 0.5
    "ndot, from 0": (PUBLISHED_NDOT, (1.0, 0, 0, 0), (0.0, 0.5, 0.25, 1), (1, 0.5, 0.25, 0.125)),
    # 0 / 0 in every step: never touched, and silent
    "ndot, silent": (PUBLISHED_NDOT, (0.0,) * 4, (0.0,) * 4, (0, 0, 0, 0)),
    # e2 = 0 / 0.5 = 0: the trace ends
    "ndot, to 0": (PUBLISHED_NDOT, (1.0, 0, 0, 0), (0.5, 0.0, 1, 1), (1, 0.5, 0, 0)),
    # less the spike: 1 - 1 = 0, 0: 0 / 0 is no number: the leak
    "ndot-code, NaN": (CODED_NDOT, (1.0, 0), (1.0, 0.0), (1, 0.5)),
    # 0 / -0.5 = 0: the leak
    "ndot-code, 0": (CODED_NDOT, (1.0, 0), (0.5, 0.0), (1, 0.5)),
    # 0.5 / 0 is infinite: clamped to the leak, and -0.5 / 0 to its negative
    "ndot-code, x / 0": (CODED_NDOT, (1.0, 0), (1.0, 0.5), (1, 0.5)),
    "ndot-code, -x / 0": (CODED_NDOT, (1.0, 0), (1.0, -0.5), (1, -0.5)),
    # 0.25 / (1.25 - 1) = 1 -> 1/2;  0.0625 / 0.25 = 1/4: inside
    "ndot-code, inside": (CODED_NDOT, (1.0, 0, 0), (1.25, 0.25, 0.0625), (1, 0.5, 0.125)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_trace_by_hand(name: str) -> None:
    rule, spikes, left, expected = BY_HAND[name]
    assert trace_of(rule, spikes, left) == list(expected)


def test_what_the_reset_took_off_is_the_threshold_where_spikes_are_ones() -> None:
    # threshold 2: 2.5 - 2 * 1 = 0.5, then 0.125: e1 = 1/4. With a threshold of 1: 0.125 / 1.5
    assert trace_of(CODED_NDOT, (1.0, 0), (2.5, 0.125), height=2.0) == [1, 0.25]
    assert trace_of(CODED_NDOT, (1.0, 0), (2.5, 0.125), height=1.0) == [1, 0.125 / 1.5]


@settings(max_examples=60, deadline=None)
@given(
    played=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0]),
            st.one_of(st.sampled_from([0.0, 1.0, -0.0]), st.floats(-3, 3)),
        ),
        min_size=1,
        max_size=12,
    ),
    mode=st.sampled_from(["ottt", "ndot", "ndot-code"]),
)
def test_a_trace_of_any_length(played: list[tuple[float, float]], mode: str) -> None:
    """Against the equations, with membranes of 0, silent neurons and ratios of any size."""
    spikes, left = zip(*played, strict=True)
    expected = [spikes[0]]
    for t in range(1, len(played)):
        before = left[t - 2] if t > 1 else 0.0
        if mode == "ndot" and before and not math.isfinite(left[t - 1] / before):
            return  # beyond what a double holds
        expected.append(factor(mode, list(left), list(spikes), t, 0.5) * expected[-1] + spikes[t])
    rule = {"ottt": LEAKY, "ndot": PUBLISHED_NDOT, "ndot-code": CODED_NDOT}[mode]
    assert trace_of(rule, spikes, left) == pytest.approx(expected, rel=1e-12, nan_ok=True)

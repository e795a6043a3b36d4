"""Firing rates of neuron layers, off their outputs, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.results import CountResult, NeuronRate
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS

from ..support.counting import Function, Loop, count


class Fire(nn.Module):
    """Neurons of nobody's library that fire where their input is positive."""

    def forward(self, x: Tensor) -> Any:
        return (x > 0).to(x.dtype)


class FireAndState(Fire):
    """The same, with a state beside the spikes."""

    def forward(self, x: Tensor) -> Any:
        return (super().forward(x), x)


class Integrator(nn.Module):
    """Never fires: its output is its membrane."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    """Both classes are registered in this file alone."""
    snnprof.register_neuron(Fire)(lambda neuron: snnprof.NeuronEquations())
    snnprof.register_neuron(Integrator)(lambda neuron: snnprof.NeuronEquations(spiking=False))
    yield
    for kind in (Fire, Integrator):
        del NEURON_EQUATIONS[kind]


# [T = 2, B = 3, 4 features]: 5 ones in step 0, 2 in step 1, and a negative zero.
SPIKES = torch.tensor(
    [
        [[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, -0.0]],
        [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    ]
)


def rate(model: nn.Module, *calls: Any, **options: Any) -> NeuronRate:
    (row,) = count(model, *calls, **options).neurons
    return row


def test_a_sequence_in_one_call() -> None:
    # 7 of 24 fire; 5 of 12 and 2 of 12 per step
    expected = NeuronRate("0", 7 / 24, (5 / 12, 2 / 12), 24, 7, 1)
    net = nn.Sequential(Fire(), nn.Linear(4, 2))
    assert rate(net, SPIKES, layout="time-first") == expected
    by_batch = SPIKES.transpose(0, 1)
    assert rate(net, by_batch, layout="batch-first") == expected
    assert rate(net, by_batch.contiguous(), layout="batch-first") == expected


def test_a_time_step_a_call() -> None:
    net = nn.Sequential(Fire(), nn.Linear(4, 2))
    row = rate(net, *SPIKES, layout="step", timesteps=2)
    assert row == NeuronRate("0", 7 / 24, (5 / 12, 2 / 12), 24, 7, 2)


def test_steps_and_samples_as_one_dimension() -> None:
    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire = Fire()

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    assert rate(Merged(), SPIKES, layout="time-first").firing_rate_by_step == (5 / 12, 2 / 12)
    by_batch = SPIKES.transpose(0, 1)
    assert rate(Merged(), by_batch, layout="batch-first").firing_rate_by_step == (5 / 12, 2 / 12)


def test_a_loop_over_time_inside() -> None:
    row = rate(Loop(Fire()), SPIKES, layout="time-first")
    assert row == NeuronRate("layer", 7 / 24, (5 / 12, 2 / 12), 24, 7, 2)


def test_steps_that_are_not_known_have_no_rates_of_their_own() -> None:
    row = rate(Fire(), SPIKES)
    assert row == NeuronRate("Fire", 7 / 24, None, 24, 7, 1)


def test_twice_in_one_call_no_step_is_known() -> None:
    fire = Fire()
    row = rate(nn.Sequential(fire, fire), SPIKES, layout="time-first")
    assert row == NeuronRate("0", 14 / 48, None, 48, 14, 2)


def test_the_overall_rate_weighs_elements() -> None:
    net = nn.Sequential(Fire(), nn.Linear(4, 1), Fire())
    nn.init.ones_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    result = count(net, SPIKES, layout="time-first")
    # 7 of 24, then 5 of 6: every row but one has a spike
    assert [row.nonzeros for row in result.neurons] == [7, 5]
    assert result.firing_rate == 12 / 30
    assert result.input_density == 7 / 24


def test_the_first_of_several_outputs_is_counted() -> None:
    assert rate(FireAndState(), SPIKES, layout="time-first").nonzeros == 7


def test_an_integrator_is_no_neuron() -> None:
    result = count(nn.Sequential(nn.Linear(4, 2), Integrator()), SPIKES, layout="time-first")
    assert result.neurons == () and result.firing_rate is None


def test_no_known_neuron_is_an_empty_cell_and_a_sentence(tmp_path: Any) -> None:
    result = count(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), SPIKES, layout="time-first")
    assert result.firing_rate is None and "firing_rate" not in result.to_dict()
    result.save(tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "No firing rate: no layer of neurons is known" in text
    assert "snnprof.register_neuron" in text


def test_a_neuron_inside_another_is_a_part_of_it() -> None:
    class Outer(Fire):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fire()

        def forward(self, x: Tensor) -> Any:
            return self.inner(x) * 0

    row = rate(nn.Sequential(Outer()), SPIKES, layout="time-first")
    assert (row.name, row.nonzeros) == ("0", 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    assert rate(Fire(), SPIKES.to(dtype), layout="time-first").nonzeros == 7


def test_graded_and_negative_spikes_are_spikes() -> None:
    class Graded(Fire):
        def forward(self, x: Tensor) -> Any:
            return x * -0.5

    assert rate(Graded(), SPIKES, layout="time-first").nonzeros == 7


def test_channels_last_is_not_copied_to_be_counted() -> None:
    x = (torch.rand(6, 8, 5, 5) > 0.7).float()
    plain = rate(Fire(), x)
    assert rate(Fire(), x.to(memory_format=torch.channels_last)) == plain
    assert plain.nonzeros == int(x.sum())


def test_our_neurons_over_a_sequence_and_in_training() -> None:
    torch.manual_seed(0)
    net = snnprof.models.create("vgg5", timesteps=3, image_size=8)
    outputs: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, LIF):
            keep = outputs.setdefault(name, [])
            module.register_forward_hook(lambda m, a, out, keep=keep: keep.append(out.detach()))
    x = torch.randn(2, 3, 8, 8)
    with snnprof.SopCounter(net) as sops:
        net(x).sum().backward()
    result = sops.result()
    assert [row.name for row in result.neurons] == list(outputs)
    for row in result.neurons:
        (spikes,) = outputs[row.name]
        assert (row.outputs, row.nonzeros) == (spikes.numel(), int(spikes.count_nonzero()))
        assert row.firing_rate_by_step is not None
        steps = [float(step.double().mean()) for step in spikes]
        assert row.firing_rate_by_step == pytest.approx(steps, rel=1e-12)
    hooks = sum(len(m._forward_hooks) for m in net.modules())
    assert hooks == len(outputs)  # the test's own


def test_what_is_no_tensor_is_listed() -> None:
    class Words(Fire):
        def forward(self, x: Tensor) -> Any:
            return {"spikes": x}

    result = count(nn.Sequential(Words()), SPIKES)
    assert result.neurons == ()
    assert result.not_counted == (("0", "firing rate: its output is a dict, no tensor"),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.to_sparse(), "a sparse output"),
        (lambda x: x.to("meta"), "outputs without values (on the meta device)"),
        (lambda x: x.to(torch.complex64).to_sparse(), "a sparse output"),
    ],
)
def test_outputs_without_readable_values_are_listed(change: Any, reason: str) -> None:
    class Strange(Fire):
        def forward(self, x: Tensor) -> Any:
            return change(x)

    result = count(nn.Sequential(Strange()), SPIKES)
    assert result.neurons == ()
    assert result.not_counted == (("0", f"firing rate: {reason}"),)


def test_a_fault_in_counting_is_listed_and_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("injected")

    monkeypatch.setattr("snnprof.counting.neuron_rates.count_nonzeros", fail)
    result = count(nn.Sequential(Fire(), nn.Linear(4, 2)), SPIKES)
    assert result.neurons == () and result.firing_rate is None
    reason = "firing rate: counting it failed (ZeroDivisionError: injected)"
    assert result.not_counted == (("0", reason),)


def test_equations_that_fail_are_listed() -> None:
    class Broken(nn.Identity):
        pass

    snnprof.register_neuron(Broken)(lambda neuron: neuron.missing)
    try:
        result = count(nn.Sequential(Broken(), nn.Linear(4, 2)), SPIKES)
    finally:
        del NEURON_EQUATIONS[Broken]
    (entry,) = result.not_counted
    assert entry[0] == "0" and "firing rate: its equations failed (AttributeError" in entry[1]


def test_outside_a_call_of_the_model_and_in_recomputation_nothing_is_counted() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fire = nn.Linear(4, 4), Fire()

        def forward(self, x: Tensor) -> Tensor:
            run = torch.utils.checkpoint.checkpoint
            out: Tensor = run(lambda y: self.fc(y) + self.fire(y), x, use_reentrant=False)
            return out

    net = Checkpointed()
    with snnprof.SopCounter(net, layout="time-first") as sops:
        net(SPIKES.clone().requires_grad_()).sum().backward()
        net.fire(SPIKES)
    (row,) = sops.result().neurons
    assert (row.calls, row.nonzeros) == (1, 7)


def test_case_9_the_rate_is_of_the_operand_that_is_spikes() -> None:
    spikes = torch.zeros(1, 8, 16)
    spikes[0, :, 0] = 1.0  # 8 of 128: a rate of 1/16
    real = torch.rand(1, 8, 64) + 0.5

    def synops(product: Any) -> tuple[float, int, str]:
        (row,) = count(Function(product), (spikes, real)).rows
        return row.rate_synops, row.synops, row.input_kind

    # 64 * 8 * 16 = 8,192 MACs, 1/16 of them; 8 spikes meet 64 columns
    assert synops(lambda s, r: r.transpose(1, 2) @ s) == (512.0, 512, "REAL")
    assert synops(lambda s, r: s.transpose(1, 2) @ r) == (512.0, 512, "BINARY")


def test_case_10_both_numbers_under_their_own_names() -> None:
    """Max pooling of spikes: the layer behind it sees more than the neurons fire."""
    net = nn.Sequential(Fire(), nn.MaxPool1d(2), nn.Linear(2, 3))
    result: CountResult = count(net, SPIKES[0])
    # rows 1001, 0100, 1100: 5 of 12 fire; of pairs 11, 10, 10: 4 of 6
    assert result.firing_rate == 5 / 12
    assert result.input_density == result.rows[0].input_density == 4 / 6

"""What ran below torch's functions is listed; what other tools see is what they saw before."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import snnprof
from snnprof import SopCounter
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS

from ..support.counting import Function, count


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.5).float()


X = spikes(2, 1, 8, 8)


def numbers(model: nn.Module, x: Tensor = X) -> list[tuple[str, int, int]]:
    return [(row.op, row.synops, row.nominal_macs) for row in count(model, (x,)).rows]


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.export.export(net(), (X,)).module(),
        lambda: torch.fx.symbolic_trace(net()),
    ],
    ids=["torch.export", "torch.fx"],
)
def test_graphs_that_call_operators_directly_are_counted(made: Callable[[], nn.Module]) -> None:
    assert numbers(made()) == numbers(net())


def test_exported_attention_is_counted() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2) @ x

    x = spikes(2, 3, 4)
    exported = torch.export.export(Attention(), (x,)).module()
    assert numbers(exported, x) == numbers(Attention(), x)


def reason(model: nn.Module, *inputs: Tensor) -> str:
    with torch.no_grad():
        result = count(model, inputs)
    assert result.rows == ()
    return "; ".join(f"{name}: {why}" for name, why in result.not_counted)


def test_a_sparse_product_is_listed() -> None:
    weight = torch.eye(8).to_sparse()
    said = reason(Function(lambda x: torch.sparse.mm(weight, x)), spikes(8, 2))
    assert "_sparse_addmm of (8, 2) x (8, 8) x (8, 2): ran below torch's functions" in said


def test_a_custom_operator_is_listed_with_its_namespace() -> None:
    library = torch.library.Library("snnprof_test", "DEF")
    library.define("mymm(Tensor a, Tensor b) -> Tensor")
    library.impl("mymm", lambda a, b: a @ b, "CPU")
    weight = torch.ones(4, 3)
    said = reason(Function(lambda x: torch.ops.snnprof_test.mymm(x, weight)), spikes(2, 4))
    assert "snnprof_test::mymm of (2, 4) x (4, 3): an operator that is not known" in said


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_layer_is_listed_under_its_name() -> None:
    quantised = torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, torch.qint8)
    result = count(quantised, (X,))
    assert [row.op for row in result.rows] == ["conv2d"]
    assert result.not_counted[0][0] == "3"
    assert "quantized::linear_dynamic of (2, 144)" in result.not_counted[0][1]


def test_products_of_spikes_element_by_element_are_listed() -> None:
    """Case 12."""
    masked = Function(lambda q: q * ((q * q).sum(-2, keepdim=True) > 1))
    said = reason(masked, spikes(2, 4, 8))
    assert "element-wise product of spikes, (2, 4, 8) x (2, 1, 8)" in said


@pytest.mark.parametrize(
    "function",
    [
        lambda x: nn.functional.dropout(x, 0.5, training=True),
        lambda x: x * 0.5,
        lambda x: x * torch.rand(2, 4, 8),
        lambda x: x + x,
    ],
)
def test_what_multiplies_no_two_spikes_is_not_listed(function: Callable[..., Tensor]) -> None:
    assert reason(Function(function), spikes(2, 4, 8)) == ""


def test_the_reset_of_a_known_neuron_is_not_listed() -> None:
    """A hard reset, (1 - spike) * membrane: on equal currents both are 0 or one other value."""

    class Resetting(nn.Module):
        def forward(self, membrane: Tensor) -> Tensor:
            spike = (membrane >= 1).float()
            kept: Tensor = (1 - spike) * membrane
            return spike + 0 * kept

    membrane = 0.5 * spikes(2, 8)
    model = nn.Sequential(Resetting())
    assert "element-wise product of spikes" in reason(model, membrane)
    snnprof.register_neuron(Resetting)(lambda module: snnprof.NeuronEquations())
    try:
        assert "element-wise product" not in reason(model, membrane)
    finally:
        NEURON_EQUATIONS.pop(Resetting)


def test_a_model_in_which_nothing_was_counted_says_so() -> None:
    said = reason(nn.BatchNorm1d(8), spikes(2, 8))
    assert "no synaptic operation was counted in it: 0 is what was seen, not what ran" in said


def test_the_audit_can_be_left_out_and_is_of_the_first_call() -> None:
    masked = Function(lambda q: q * q)
    with SopCounter(masked, audit=False) as counter:
        masked(spikes(2, 4, 8))
    said = "audit=False: what ran below torch's functions was not looked for"
    assert counter.result().not_counted == (("Function", said),)
    calls: list[None] = []

    def later(q: Tensor) -> Tensor:
        calls.append(None)
        return q * q if len(calls) > 1 else q

    model = Function(later)
    with SopCounter(model) as counter:
        model(spikes(2, 4, 8))
        model(spikes(2, 4, 8))
    assert counter.result().not_counted == ()


def test_a_fault_of_the_audit_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr("snnprof.counting.audit._reason", fail)
    out = net()(X)
    with SopCounter(model := net()) as counter:
        assert torch.equal(model(X), out)
    assert any(
        "looking at it failed (ValueError)" in why for _, why in counter.result().not_counted
    )


# -- beside other tools


def test_a_flop_counter_reads_what_it_reads_without_the_counter() -> None:
    """Case 15, in both orders, the result read inside too."""
    model = net()
    with FlopCounterMode(display=False) as alone:
        model(X)
    with FlopCounterMode(display=False) as outside, SopCounter(model) as counter:
        model(X)
        counter.result()
    with SopCounter(model), FlopCounterMode(display=False) as inside:
        model(X)
    assert outside.get_total_flops() == inside.get_total_flops() == alone.get_total_flops()


def test_the_compile_stance_is_put_back_in_any_order() -> None:
    """Case 14."""
    before = eval_frame._stance.stance
    first, second = SopCounter(net()), SopCounter(net())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert eval_frame._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert eval_frame._stance.stance == before


def test_counters_of_several_threads_count_their_own() -> None:
    expected = numbers(net())
    found: list[list[tuple[str, int, int]]] = []

    def work(model: nn.Module) -> None:
        found.append(numbers(model))

    models = [net() for _ in range(8)]  # not in the threads, which share torch's random numbers
    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_a_counted_model_is_freed_with_its_last_name() -> None:
    """Case 17: without waiting for the collector of circles."""
    model = nn.Sequential(nn.Linear(4, 4))
    alive = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        with SopCounter(model) as counter:
            model(torch.ones(2, 4))
        counter.result()
        del model, counter
        assert alive() is None
    finally:
        gc.enable()


# -- operands that are no plain tensors: the model runs, the layer is listed


def listed(model: nn.Module, x: Any) -> str:
    with SopCounter(model) as counter:
        model(x)
    ((_, why),) = counter.result().not_counted
    return why


def test_fake_tensors() -> None:
    with FakeTensorMode():
        assert "an operand of class FakeTensor" in listed(nn.Linear(4, 4), torch.rand(2, 4))


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors() -> None:
    nested = torch.nested.nested_tensor([torch.rand(2, 4), torch.rand(3, 4)])
    assert "a nested tensor" in listed(nn.Linear(4, 4), nested)


def test_a_default_device_without_values() -> None:
    """Case 18: the counter makes its own tensors where its operands are."""
    layer, x = nn.Linear(4, 3), torch.ones(2, 4)
    torch.set_default_device("meta")
    try:
        with SopCounter(layer) as counter:
            layer(x)
        assert counter.result().rows[0].synops == 2 * 4 * 3
    finally:
        torch.set_default_device(None)


def test_a_torchscript_model_is_one_line() -> None:
    traced = torch.jit.trace(nn.Linear(4, 4), torch.ones(1, 4))
    with pytest.raises(snnprof.SnnprofError, match="TorchScript module, which runs outside Python"):
        SopCounter(traced)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = torch.cond(x.sum() > 0, lambda x: self.a(x), lambda x: self.b(x), (x,))
        return out


def test_a_model_with_a_higher_order_operator_runs_and_the_operator_is_listed() -> None:
    model, x = Branches(), torch.ones(4, 3)
    with torch.no_grad():
        out = model(x)
        with SopCounter(model) as counter:
            assert torch.equal(model(x), out)
    result = counter.result()
    assert [(row.name, row.synops) for row in result.rows] == [("stem", 4 * 3 * 3)]
    reason = "cond: a higher-order operator: what it runs is not seen, not counted"
    assert ("Branches", reason) in result.not_counted

"""The model is left bit for bit as it was: outputs, gradients, state, hooks."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import (
    LAYERS,
    assert_nothing_left,
    assert_same_attributes,
    attributes,
    images,
    make,
    train,
)


def test_a_training_run_is_bit_identical():
    plain = train(make())
    model = make()
    with SopCounter(model) as counter:
        counted = train(model)
    assert len(plain) == len(counted)
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    assert [row.name for row in counter.result().rows] == LAYERS
    assert all(row.calls == 3 for row in counter.result().rows)


def test_reading_the_result_changes_nothing():
    model = make()
    with SopCounter(model) as counter:
        model(images())
        before = [v.clone() for v in model.state_dict().values()], torch.get_rng_state()
        first = counter.result()
        assert counter.result() == first
        assert all(
            torch.equal(a, b) for a, b in zip(before[0], model.state_dict().values(), strict=True)
        )
        assert torch.equal(before[1], torch.get_rng_state())
    assert counter.result() == first


@pytest.mark.parametrize("training", [True, False])
def test_flags_attributes_and_versions_stay(training: bool):
    model = make().train(training)
    model.block.train(not training)
    flags = [module.training for module in model.modules()]
    requires = [p.requires_grad for p in model.parameters()]
    before = attributes(model)
    versions = [p._version for p in model.parameters()]
    count(model, images())
    assert [module.training for module in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == requires
    assert [p._version for p in model.parameters()] == versions
    assert all(p.grad is None for p in model.parameters())
    assert_same_attributes(before, attributes(model))
    assert_nothing_left(model)


def test_hooks_of_others_stay_and_run_as_often():
    model = make()
    calls = []
    model.stem.register_forward_hook(lambda *_: calls.append("stem"))
    model.register_forward_pre_hook(lambda *_: calls.append("root"))
    model.fc.register_full_backward_hook(lambda *_: calls.append("fc"))
    hooks = list(model.stem._forward_hooks.items())
    with SopCounter(model):
        model(images()).sum().backward()
    assert calls == ["root", "stem", "fc"]
    assert list(model.stem._forward_hooks.items()) == hooks


def test_state_dicts_are_identical_inside_and_after():
    model = make().eval()
    keys = list(model.state_dict())
    with SopCounter(model):
        model(images())
        assert list(model.state_dict()) == keys
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        lambda: nn.Sequential(nn.LSTM(8, 8)),
        lambda: nn.Sequential(nn.GRU(8, 4)),
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
    ],
    ids=["TransformerEncoderLayer", "LSTM", "GRU", "TransformerEncoder"],
)
def test_inference_of_modules_with_fused_paths_is_the_same_up_to_rounding(build):
    # torch leaves its fused path where a hook is attached: docs/how-it-counts.md says so.
    torch.manual_seed(0)
    model, x = build().eval(), torch.rand(4, 5, 8)
    first = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    with torch.no_grad():
        plain = first(model(x))
        with SopCounter(model):
            counted = first(model(x))
    torch.testing.assert_close(plain, counted, rtol=1e-5, atol=1e-6)


def test_outputs_are_the_tensors_that_the_layers_made():
    model = nn.Sequential(nn.Linear(3, 3))
    x = torch.ones(1, 3, requires_grad=True)
    with SopCounter(model):
        out = model(x)
    assert type(out) is Tensor
    assert out.grad_fn.name() == "AddmmBackward0"
    out.sum().backward()
    assert torch.equal(x.grad, model[0].weight.sum(0, keepdim=True))


def test_the_graph_holds_nothing_of_the_counter():
    model = nn.Sequential(nn.Linear(3, 3))
    with SopCounter(model) as counter:
        out = model(torch.ones(1, 3))
    gone = weakref.ref(counter)
    del counter
    gc.collect()
    assert gone() is None
    out.sum().backward()


def test_activations_are_not_kept_alive():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with SopCounter(model), torch.no_grad():
        x = torch.ones(20_000, 3)
        out = model(x)
        gone = weakref.ref(x), weakref.ref(out)
        del x, out
        gc.collect()
        assert [ref() for ref in gone] == [None, None]


def test_nothing_is_left_when_the_counter_goes_away():
    model = make()
    gone = weakref.ref(model.stem.weight)
    with SopCounter(model) as counter:
        model(images())
    counter.result()
    del model, counter
    gc.collect()
    assert gone() is None

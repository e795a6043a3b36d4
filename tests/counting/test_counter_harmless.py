"""The model is left bit for bit as it was: outputs, gradients, state, hooks."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from snnprof.core.errors import SnnprofError
from snnprof.counting import module_tracker
from snnprof.counting.counter import SopCounter

from .nets import (
    LAYERS,
    assert_nothing_left,
    assert_same_attributes,
    attributes,
    fresh_counts,
    images,
    make,
    measure,
    train,
)

# --- bit-identical ----------------------------------------------------------------------------


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
    measure(model, images())
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


# --- nothing left -----------------------------------------------------------------------------


def test_nothing_is_left_after_an_exception():
    model = make()
    before = attributes(model)
    with pytest.raises(ZeroDivisionError), SopCounter(model):
        model(images()).sum() / (1 // 0)
    assert_same_attributes(before, attributes(model))
    assert_nothing_left(model)


def test_nothing_is_left_after_an_exception_of_the_model():
    model = make()
    with pytest.raises(RuntimeError), SopCounter(model) as counter:
        model(torch.rand(1, 5, 4, 4))  # five channels
    assert_nothing_left(model)
    with pytest.raises(SnnprofError, match="half"):
        counter.result()


def modes_on() -> int:
    return torch._C._len_torch_function_stack()


def test_the_mode_is_on_while_the_model_runs_and_not_between():
    model = make()
    seen = []
    model.register_forward_hook(lambda *_: seen.append(modes_on()))
    with SopCounter(model):
        assert modes_on() == 0
        model(images())
        assert modes_on() == 0
    assert modes_on() == 0
    assert seen == [1]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_mode_is_left_when_the_model_is_interrupted(error: type[BaseException]):
    class Stopping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert modes_on() == 1
            raise error

    model = Stopping()
    with pytest.raises(error), SopCounter(model):
        model(torch.ones(1))
    assert modes_on() == 0


def test_a_failed_call_makes_the_whole_measurement_an_error():
    model = make()
    with SopCounter(model) as counter:
        model(images())
        with pytest.raises(RuntimeError):
            model(torch.rand(1, 5, 4, 4))
        model.block[2].v = model.lif1.v = 0.0
        model(images())
    with pytest.raises(SnnprofError, match="half"):
        counter.result()


def test_nothing_is_left_after_an_error_of_the_counter():
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(SnnprofError), SopCounter(model, batch_dim=4):
        model(torch.ones(1, 3))
    assert_nothing_left(model)
    assert measure(model, torch.ones(1, 3)).total("synops") == 6


def test_a_counter_cannot_be_entered_twice_at_once_and_keeps_counting():
    model = nn.Linear(3, 2)
    with SopCounter(model) as counter:
        with pytest.raises(SnnprofError, match="already"):
            counter.__enter__()
        model(torch.ones(1, 3))
    assert counter.result().total("synops") == 6
    assert_nothing_left(model)


def test_a_parent_that_catches_its_childs_exception_is_counted():
    class Fallible(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            self.fc(x)
            raise RuntimeError("no")

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child, self.other = Fallible(), nn.Linear(3, 2)

        def forward(self, x):
            try:
                return self.child(x)
            except RuntimeError:
                return self.other(x) + F.linear(x, torch.ones(2, 3))

    result = measure(nn.Sequential(Parent()), torch.ones(1, 3), torch.ones(1, 3))
    rows = result.by_layer()
    assert rows["0.child.fc"].synops == 24  # 2 * 3 * 4: they ran
    assert rows["0.other"].synops == 12
    assert result.total("synops") == 48
    assert_nothing_left(Parent())


def test_a_functional_call_after_a_caught_exception_is_the_parents():
    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(5, 4)  # the wrong width

        def forward(self, x):
            try:
                return self.child(x)
            except RuntimeError:
                return F.linear(x, torch.ones(2, 3))

    result = measure(nn.Sequential(Parent()), torch.ones(1, 3))
    assert [(row.name, row.synops) for row in result.rows] == [("0", 6)]


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(5, 4), torch.ones(1, 3)),
        (nn.Conv2d(2, 3, 3), torch.ones(1, 4, 8, 8)),
        (nn.Conv1d(1, 1, 9), torch.ones(1, 1, 4)),
        (nn.Linear(3, 4), torch.ones(1, 3, dtype=torch.float64)),
    ],
    ids=["linear width", "conv channels", "conv kernel", "dtype"],
)
def test_the_models_own_error_comes_through_as_it_is(layer: nn.Module, x: Tensor):
    with pytest.raises(RuntimeError) as plain:
        layer(x)
    with pytest.raises(RuntimeError) as inside, SopCounter(layer):
        layer(x)
    assert str(inside.value) == str(plain.value)


def test_a_counted_operation_that_fails_is_no_count_at_all():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            with contextlib.suppress(RuntimeError):
                F.linear(x, torch.ones(4, 3), torch.ones(7))  # a bias of the wrong size
            return self.fc(x)

    with pytest.raises(SnnprofError, match="failed inside the counter"):
        measure(Careful(), torch.ones(1, 3))


def test_no_weak_reference_is_left_on_a_parameter():
    model = make()
    with SopCounter(model) as counter:
        model(images())
    for parameter in model.parameters():
        assert weakref.getweakrefcount(parameter) == 0
    assert counter.result() == counter.result()


def test_a_lazy_norm_is_filled_inside_the_block():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    result = measure(model, torch.ones(2, 3, 5, 5))
    assert result.total("synops") == 2 * (3 * 9) * 4 * 9  # taps, channels, positions
    assert_nothing_left(model)


def test_a_counter_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    model = make()

    def refuse(module: nn.Module) -> bool:
        if module is model.up:
            raise ValueError("no such module")
        return True

    monkeypatch.setattr(module_tracker, "_may_multiply", refuse)
    with pytest.raises(ValueError, match="no such module"), SopCounter(model):
        pass
    assert_nothing_left(model)


# --- repeated and nested use --------------------------------------------------------------------


def test_repeated_use_gives_equal_counts():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    counter = SopCounter(model)
    results = []
    for _ in range(3):
        with counter:
            model(images())
        results.append(counter.result())
    results.append(measure(model, images()))
    assert all(result == results[0] for result in results)


def test_nested_counters_of_one_model_give_equal_counts():
    model = make().eval()
    with SopCounter(model) as outer, SopCounter(model) as inner:
        model(images())
        model(images(seed=2))
    assert outer.result() == inner.result() == fresh_counts()


def test_nested_counters_of_model_and_submodule_give_equal_counts():
    model = make().eval()
    with SopCounter(model) as outer, SopCounter(model.block) as inner:
        model(images())
        model(images(seed=2))
    assert outer.result() == fresh_counts()
    (row,) = inner.result().rows
    assert row.name == "0"
    assert row.synops == outer.result().by_layer()["block.0"].synops


@pytest.mark.parametrize("submodule_first", [True, False])
def test_the_order_of_nesting_does_not_matter(submodule_first: bool):
    model = make().eval()
    order = [model.block, model] if submodule_first else [model, model.block]
    with SopCounter(order[0]) as one, SopCounter(order[1]) as other:
        model(images())
        model(images(seed=2))
    whole = other if submodule_first else one
    assert whole.result() == fresh_counts()


def test_an_inner_counter_that_comes_and_goes_does_not_disturb_the_outer():
    model = make().eval()
    with SopCounter(model) as outer:
        with SopCounter(model) as inner:
            model(images())
        inner.result()
        model(images(seed=2))
    assert outer.result() == fresh_counts()


class Counting(nn.Module):
    """Counts a layer of its own, in its own forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        with SopCounter(self.layer) as inner:
            out = self.layer(x)
        self.inner = inner.result()
        return out


def test_a_result_read_inside_another_counters_model_adds_nothing():
    model = Counting()
    outer = measure(model, torch.ones(1, 3))
    assert [(row.name, row.synops) for row in outer.rows] == [("layer", 6)]
    assert model.inner.rows[0].synops == 6
    assert outer.not_counted == ()


def test_counters_of_different_models_do_not_see_each_other():
    one, other = nn.Linear(3, 2), nn.Linear(4, 5)
    with SopCounter(one) as first, SopCounter(other) as second:
        one(torch.ones(1, 3))
        other(torch.ones(1, 4))
        F.linear(torch.ones(1, 3), torch.ones(7, 3))  # nobody's
    assert [row.synops for row in first.result().rows] == [6]
    assert [row.synops for row in second.result().rows] == [20]
    assert first.result().not_counted == ()


# --- backward passes ----------------------------------------------------------------------------


def test_backward_passes_add_nothing():
    model = make()
    with SopCounter(model) as counter:
        model(images()).sum().backward()
        counts = counter.result()
    plain = measure(make(), images())
    assert counts == plain


def test_double_backward_adds_nothing():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6, 1))
    x = torch.rand(2, 1, 5, requires_grad=True)
    plain = measure(model, x)
    with SopCounter(model) as counter:
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert counter.result() == plain


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Module, reentrant: bool):
        super().__init__()
        self.net, self.reentrant = net, reentrant

    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_activations_add_nothing(reentrant: bool):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
    model = Checkpointed(net, reentrant)
    x = images().requires_grad_()
    plain = model(x)
    (expected,) = torch.autograd.grad(plain.sum(), x) if not reentrant else (None,)
    with SopCounter(model) as counter:
        for _ in range(2):
            x.grad = None
            out = model(x)
            out.sum().backward()
    assert torch.equal(out, plain)
    assert expected is None or torch.equal(x.grad, expected)
    assert all(p.grad is not None for p in net.parameters())
    assert [(row.name, row.calls) for row in counter.result().rows] == [("net.0", 2), ("net.3", 2)]
    assert counter.result().rows[0].nominal_macs == 2 * 3 * 4 * 4 * 18  # 2 calls of 3 samples


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_root_is_counted_once(reentrant: bool):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with SopCounter(net) as counter:
        x = torch.ones(1, 3, requires_grad=True)
        checkpoint(net, x, use_reentrant=reentrant).sum().backward()
    result = counter.result()
    assert (result.samples, result.total("synops")) == (1, 20)  # 3*4 + 4*2


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_backward_pass_within_the_forward_adds_nothing(reentrant: bool):
    class LocalLearning(nn.Module):
        """Learns while it runs, with a local loss through a checkpointed part."""

        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)

        def forward(self, x):
            hidden = checkpoint(self.body, x, use_reentrant=reentrant)
            torch.autograd.backward(hidden.square().sum())
            return self.head(hidden.detach())

    result = measure(LocalLearning(), torch.ones(1, 3, requires_grad=True))
    assert [(row.name, row.calls) for row in result.rows] == [("body.0", 1), ("head", 1)]
    assert result.total("synops") == 20  # 3*4 + 4*2


def test_online_training_inside_the_block():
    model = make()
    optimiser = torch.optim.Adam(model.parameters())
    with SopCounter(model, timesteps=4) as counter:
        for _ in range(4):
            optimiser.zero_grad()
            model(images()).sum().backward()
            optimiser.step()
            for lif in (model.lif1, model.block[2]):
                lif.v = lif.v.detach()
    result = counter.result()
    assert (result.samples, result.timesteps) == (3, 4)
    assert [row.calls for row in result.rows] == [4] * 4
    assert result.rows[0].firing_rate == 1.0
    assert len(result.rows[1].firing_rate_by_step) == 4


TRANSFORMS = {
    "grad": lambda run, p, x: torch.func.grad(run)(p, x),
    "per-sample grad": lambda run, p, x: torch.vmap(torch.func.grad(run), (None, 0))(p, x),
    "vmap": lambda run, p, x: torch.vmap(run, (None, 0))(p, x),
    "jvp": lambda run, p, x: torch.func.jvp(lambda v: run(p, v), (x,), (x,)),
    "jacrev": lambda run, p, x: torch.func.jacrev(run, 1)(p, x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_torch_func_run_as_without_the_counter(name: str):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def run(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).sum()

    def leaves():
        out = TRANSFORMS[name](run, parameters, x)
        return torch.utils._pytree.tree_leaves(out)

    x = torch.rand(2, 3)
    plain = leaves()
    with SopCounter(model) as counter:
        counted = leaves()
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    result = counter.result()
    # Either counted right, 2 * (3*4 + 4*1), or said not to be.
    assert result.total("synops") == 32 or result.not_counted


def test_forward_mode_gradients_are_counted_once():
    model = nn.Sequential(nn.Linear(3, 4))
    x = torch.ones(2, 3)
    with SopCounter(model) as counter, torch.autograd.forward_ad.dual_level():
        model(torch.autograd.forward_ad.make_dual(x, x))
    assert counter.result().total("synops") == 24

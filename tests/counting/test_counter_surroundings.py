"""Grad modes, wrappers, threads, copies: what is around the model is left as it was."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import (
    as_on_another_device,
    assert_nothing_left,
    fresh_counts,
    images,
    make,
)

# --- surroundings -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes_do_not_change_the_counts(mode):
    expected = fresh_counts()
    model = make().eval()
    with mode(), SopCounter(model) as counter:
        model(images())
        model(images(seed=2))
        inside = counter.result()
    assert inside == counter.result() == expected
    model(images()).sum()  # and the model still trains


def test_a_counter_entered_inside_inference_mode_is_read_outside_and_goes_on_outside():
    model = make().eval()
    counter = SopCounter(model)
    with torch.inference_mode():
        counter.__enter__()
        model(images())
    for lif in (model.lif1, model.block[2]):
        lif.v = lif.v.clone()
    model(images(seed=2)).sum().backward()
    counter.__exit__(None, None, None)
    assert counter.result() == fresh_counts()


def test_inference_and_training_calls_in_turn():
    model = nn.Sequential(nn.Linear(3, 2))
    with SopCounter(model) as counter:
        for _ in range(3):
            with torch.inference_mode():
                model(torch.ones(1, 3))
            model(torch.ones(1, 3)).sum().backward()
    assert counter.result().total("synops") == 36
    assert counter.result().rows[0].input_kind == "BINARY"


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 2))
        with SopCounter(model) as counter:
            model(torch.ones(1, 3))
            model[0].weight[0] = 0
            model(torch.ones(1, 3))
    assert counter.result().total("synops") == 9  # 6 + 3


def test_autocast_changes_neither_outputs_nor_counts():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    x = (images() > 0.5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(x)
        with SopCounter(model) as counter:
            counted = model(x)
            inside = counter.result()
    assert counted.dtype == torch.bfloat16
    assert torch.equal(plain, counted)
    assert inside == counter.result()
    conv = counter.result().rows[0]
    assert conv.synops == count(model, x).rows[0].synops
    assert conv.input_kind == "BINARY"


def test_autocast_with_gradients_is_bit_identical():
    def gradients(counting: bool):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        x = torch.rand(4, 8)
        with SopCounter(model) if counting else torch.enable_grad():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(x).float().sum()
            out.backward()
        return [p.grad for p in model.parameters()]

    pairs = zip(gradients(False), gradients(True), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_subclasses_of_tensor_stay_what_they_are():
    class Tagged(Tensor):
        pass

    model = nn.Sequential(nn.Linear(3, 2))
    with SopCounter(model) as counter:
        out = model(torch.ones(1, 3).as_subclass(Tagged))
    assert type(out) is Tagged
    assert counter.result().total("synops") == 6


def test_calls_from_another_thread_are_listed():
    model = nn.Sequential(nn.Linear(3, 2))
    x = torch.ones(1, 3)
    with SopCounter(model) as counter:
        model(x)
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        thread.join()
    assert counter.result().total("synops") == 6
    assert "thread" in counter.result().not_counted[0][1]


def test_another_default_device_does_not_disturb():
    model, x = nn.Linear(3, 2), torch.ones(4, 3)
    with torch.device("meta"), SopCounter(model) as counter:
        model(x)
        model(torch.full((4, 3), 0.3, device="cpu"))
    assert counter.result().total("synops") == 2 * 4 * 3 * 2


def test_another_default_dtype_does_not_disturb():
    model, x = nn.Linear(3, 2), torch.ones(1, 3)
    torch.set_default_dtype(torch.float64)
    try:
        assert count(model, x).total("synops") == 6
    finally:
        torch.set_default_dtype(torch.float32)


def test_deterministic_algorithms_and_anomaly_detection():
    model = make()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autograd.set_detect_anomaly(True), SopCounter(model) as counter:
            model(images()).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(counter.result().rows) == 4


def test_saved_tensor_hooks_of_others_see_only_their_own():
    model, x = make(), images()

    def packed(counting: bool) -> int:
        seen = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: seen.append(t.shape) or t, lambda t: t
        )
        for lif in (model.lif1, model.block[2]):
            lif.v = 0.0
        with hooks, SopCounter(model) if counting else torch.enable_grad():
            model(x)
        return len(seen)

    assert packed(True) == packed(False)


# --- wrappers -----------------------------------------------------------------------------------


def test_data_parallel_on_the_cpu():
    model = nn.DataParallel(make().eval())
    with SopCounter(model) as counter:
        model(images())
        model(images(seed=2))
    assert counter.result() == fresh_counts()


def compiled(model: nn.Module):
    return torch.compile(model, backend="eager")


def plain_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


NAMES = ["0", "3"]


def test_a_model_compiled_and_called_before_is_counted():
    model = compiled(plain_net())
    x = images()
    before = model(x)
    with SopCounter(model) as counter:
        inside = model(x)
    after = model(x)
    assert torch.equal(before, inside)
    assert torch.equal(before, after)
    assert counter.result() == count(plain_net(), x)
    assert [row.name for row in counter.result().rows] == NAMES


def test_a_compiled_model_first_called_inside_is_counted():
    model = compiled(plain_net())
    with SopCounter(model) as counter:
        model(images())
        model(images(seed=2))
    model(images())
    assert counter.result() == count(plain_net(), images(), images(seed=2))


def test_the_original_of_a_compiled_model_is_counted_too():
    net = plain_net()
    model = compiled(net)
    model(images())
    with SopCounter(net) as counter:
        model(images())
    assert counter.result() == count(plain_net(), images())


def test_a_module_compiled_in_place_and_a_compiled_part_are_counted():
    net = plain_net()
    net.compile(backend="eager")
    net(images())
    with SopCounter(net) as counter:
        net(images())
    assert counter.result() == count(plain_net(), images())
    part = nn.Sequential(compiled(plain_net()), nn.Linear(3, 2))
    part(images())
    rows = count(part, images()).rows
    assert [row.name for row in rows] == ["0.0", "0.3", "1"]


def test_compilation_goes_on_as_before_afterwards():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = torch.compile(plain_net(), backend=backend)
    model(images())
    assert len(graphs) == 1
    count(model, images())
    model(images())
    assert len(graphs) == 1  # nor was it compiled anew


def test_names_are_stripped_of_wrappers():
    model = nn.DataParallel(compiled(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten())))
    assert [row.name for row in count(model, images()).rows] == ["0"]


def test_a_layer_that_is_really_called_module_keeps_apart():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Sequential(nn.Linear(3, 3))
            self.other = nn.Linear(3, 3)
            self.add_module("0", nn.Linear(3, 3))

        def forward(self, x):
            return self.other(self.module(x)) + getattr(self, "0")(x)

    result = count(Two(), torch.ones(1, 3))
    assert len({row.name for row in result.rows}) == 3
    assert result.total("synops") == 27


# --- copies -------------------------------------------------------------------------------------


def test_the_model_can_be_pickled_and_copied_after_use():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    count(model, images())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images()), model(images()))
        assert_nothing_left(twin)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(images()), model(images()))


def test_a_copy_taken_inside_the_block_works_and_its_calls_are_not_the_models():
    model = nn.Sequential(nn.Linear(3, 2))
    with SopCounter(model) as counter:
        model(torch.ones(1, 3))
        best = copy.deepcopy(model)
        assert torch.equal(best(torch.ones(1, 3)), model(torch.ones(1, 3)))
    assert torch.equal(best(torch.ones(1, 3)), model(torch.ones(1, 3)))
    assert counter.result().total("synops") == 12  # two calls of the model itself


def test_what_is_copied_inside_the_block_is_free_of_the_counter_after_it():
    model, x = make().eval(), images()
    with SopCounter(model) as counter, torch.no_grad():
        model(x)
        best = copy.deepcopy(model)
        best_of_all = copy.deepcopy(best)
        hooks = copy.deepcopy(model._forward_hooks)
        with SopCounter(best) as inner:
            best(x)
        best.fc.register_forward_hook(lambda *_: None)
    counted = counter.result()
    assert counted == count(make().eval(), x)
    assert len(inner.result().rows) == len(counted.rows)
    assert len(best.fc._forward_hooks) == 1  # the user's own
    best.fc._forward_hooks.clear()
    for twin in (best, best_of_all):
        assert_nothing_left(twin)
        torch.save(twin, io.BytesIO())
    assert all(hook(1, 2, 3) is None for hook in hooks.values())


def test_a_copy_that_fails_inside_the_block_is_no_matter():
    model = make().eval()
    with SopCounter(model) as counter:
        model(images())  # the membranes now have a graph, which torch does not copy
        with pytest.raises(RuntimeError, match="deepcopy") as failed:
            copy.deepcopy(model)
    assert counter.result().total("synops") > 0
    assert failed.value.__traceback__ is not None  # holds what there is of the copy
    assert_nothing_left(model)


def test_what_is_saved_inside_the_block_works_and_needs_nothing_of_ours():
    model, x, buffer = make().eval(), images(), io.BytesIO()
    with SopCounter(model), torch.no_grad():
        model(x)
        torch.save(model, buffer)
    assert b"snnprof.counting" not in buffer.getvalue()
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert count(loaded, x).total("synops") > 0


def test_results_can_be_pickled():
    result = fresh_counts()
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


# --- no waiting for the device ------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


WAITING = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "is_nonzero",
    "equal",
    "unique",
    "masked_select",
)


def waits(names: list[str]) -> list[str]:
    return [name for name in names if name.split(".")[1] in WAITING]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_host_never_waits_for_the_device_before_the_result(mode, elsewhere, monkeypatch):
    if elsewhere:
        as_on_another_device(monkeypatch)
    # The counter's own arithmetic is hidden from other tools: here it is what is looked at.
    for place in ("operation_mode", "counter"):
        monkeypatch.setattr(f"snnprof.counting.{place}.unseen_by_others", nullcontext)
    model = make()
    ternary = nn.Sequential(nn.Flatten(), nn.Linear(32, 4))
    nn.utils.parametrize.register_parametrization(ternary[1], "weight", Sign())
    with Recorder() as recorder, mode():
        with SopCounter(model) as counter, SopCounter(ternary, timesteps=2) as steps:
            for seed in range(40):
                model(images(seed=seed))
                ternary(images(seed=seed))
            with torch.no_grad():
                model.stem.weight[0] = 0
            model(images())
            assert len(recorder.names) > 100
        assert waits(recorder.names) == []
        counter.result(), steps.result()
    assert waits(recorder.names) != []  # the recorder does see them


class Sign(nn.Module):
    def forward(self, weight):
        return weight.sign()


def test_the_model_runs_no_second_convolution_once_its_fan_out_is_known():
    model = nn.Sequential(nn.Conv2d(2, 4, 3))
    with SopCounter(model), torch.no_grad():
        model(images())
        with Recorder() as recorder:
            for seed in range(50):
                model(images(seed=seed))
    assert sum("convolution" in name for name in recorder.names) == 50


FIRST_COMPILED_INSIDE = """
import sys, torch, snnprof
from torch import nn
places, model, x = list(sys.meta_path), nn.Sequential(nn.Linear(3, 2)), torch.ones(4, 3)
with snnprof.SopCounter(model) as counter:
    model(x)
    assert "torch._dynamo" not in sys.modules  # which takes seconds to import
    compiled = torch.compile(model, backend="eager")
    compiled(x)
assert counter.result().total("synops") == 2 * 4 * 3 * 2  # calls, rows, inputs, outputs
assert sys.meta_path == places
frames = torch._dynamo.utils.counters["frames"]
assert frames["total"] == 0
compiled(x)  # as it was asked to, behind the block
assert frames["total"] == 1
"""


def test_the_first_compilation_of_a_process_may_stand_inside():
    subprocess.run([sys.executable, "-c", FIRST_COMPILED_INSIDE], check=True, timeout=120)

"""Tensors of other kinds: the model runs, its output is right, and it is counted or listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import return_and_correct_aliasing

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.results import CountResult

from ..support.counting import count
from .nets import assert_nothing_left


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def counted(model: nn.Module, *inputs: Any) -> tuple[list[Any], CountResult]:
    with SopCounter(model) as counter:
        outputs = [model(x) for x in inputs]
    assert_nothing_left(model)
    assert torch._C._len_torch_dispatch_stack() == 0
    return outputs, counter.result()


def reasons(result: CountResult) -> dict[str, str]:
    return dict(result.not_counted)


# --- FakeTensorMode -----------------------------------------------------------------------------


def test_fake_tensors_are_listed() -> None:
    with FakeTensorMode():
        model = net()
        with SopCounter(model) as counter:
            out = model(torch.ones(5, 3))
        assert isinstance(out, FakeTensor)
        assert out.shape == (5, 2)
        result = counter.result()
    assert result.rows == ()
    assert "FakeTensor" in reasons(result)["0"]


def test_a_fake_input_between_real_ones_is_listed_and_the_others_counted() -> None:
    model, x = net(), torch.ones(5, 3)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
    with SopCounter(model) as counter:
        outputs = [model(x)]
        with mode:
            assert isinstance(model(fake), FakeTensor)
        outputs.append(model(x))
    assert torch.equal(*outputs)
    result = counter.result()
    assert result.by_layer()["0"].synops == 120  # 2 calls * 5 samples * 3 * 4
    assert "FakeTensor, which computes in its own way" in reasons(result)["0"]


# --- torch.export inside the block ---------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_a_model_is_exported_inside_the_block_and_counted_after_it(strict: bool) -> None:
    model, x = net(), torch.ones(5, 3)
    plain = model(x)
    with SopCounter(model) as counter:
        exported = torch.export.export(model, (x,), strict=strict).module()
        assert torch.equal(model(x), plain)
    assert torch.equal(exported(x), plain)
    result = counter.result()
    assert result.by_layer()["0"].synops == 60  # the one real call: 5 samples * 3 * 4
    if not strict:  # which runs the model on fake tensors once
        assert "FakeTensor" in reasons(result)["0"]
    names = {name for name, _ in exported.named_modules()}
    assert not any("hook" in name for name in names)
    assert count(exported, x).total("synops") == counter.result().total("synops")


# --- nested tensors -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_listed(layout: torch.layout) -> None:
    model = net()
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)
    plain = model(x)
    (out,), result = counted(model, x)
    assert all(map(torch.equal, out.unbind(), plain.unbind()))
    assert result.rows == ()
    assert result.samples == 2
    assert [name for name, _ in result.not_counted] == ["0", "2"]
    assert all("ested" in reason for _, reason in result.not_counted)


# --- wrappers, as torchao's quantised weights are ------------------------------------------------


class Quantised(Tensor):
    """An int8 weight with a scale, that torch sees as a float tensor."""

    @staticmethod
    def __new__(cls, values: Tensor, scale: float) -> Quantised:
        made: Quantised = Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.float32)
        return made

    def __init__(self, values: Tensor, scale: float) -> None:
        self.values, self.scale = values, scale

    def whole(self) -> Tensor:
        return self.values * self.scale

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear:
            x, weight, *bias = args
            return func(x, weight.whole(), *bias)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def,override]
        if func is torch.ops.aten.detach.default:
            same = cls(args[0].values, args[0].scale)
            return return_and_correct_aliasing(func, args, kwargs or {}, same)
        raise NotImplementedError(f"{func} of a quantised weight")


def test_a_weight_that_is_a_wrapper_is_listed_and_computes_as_before() -> None:
    model = net()
    values = torch.randint(-2, 3, (4, 3), dtype=torch.int8)
    model[0].weight = nn.Parameter(Quantised(values, 0.5), requires_grad=False)
    x = torch.rand(5, 3)
    plain = model(x)
    (out, again), result = counted(model, x, x)
    assert torch.equal(out, plain)
    assert torch.equal(again, plain)
    assert [row.name for row in result.rows] == ["2"]
    assert "Quantised, which computes in its own way" in reasons(result)["0"]


class Distrustful(Tensor):
    """A wrapper that refuses every operator, also those of who looks at it."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Distrustful:
        made: Distrustful = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        return made

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear:
            return func(args[0].inner, *args[1:])
        raise TypeError("no")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def,override]
        raise TypeError("no")


def test_a_tensor_that_refuses_to_be_looked_at_costs_no_output() -> None:
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.ones(5, 3)
    with SopCounter(model) as counter:
        out = model(Distrustful(x))
    assert torch.equal(out, model(x))
    assert_nothing_left(model)
    with pytest.raises(SnnprofError, match=r"was not counted: .* \(TypeError: no\)"):
        counter.result()


# --- DTensor ------------------------------------------------------------------------------------


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("needs torch.distributed with gloo")
    if distributed.is_initialized():
        pytest.skip("another test's processes are about")
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def test_dtensors_are_listed(mesh: Any) -> None:
    from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor

    model = distribute_module(net(), mesh)
    x = distribute_tensor(torch.ones(5, 3), mesh, [Shard(0)])
    plain = model(x)
    (out,), result = counted(model, x)
    assert isinstance(out, DTensor)
    assert torch.equal(out.to_local(), plain.to_local())
    assert result.rows == ()
    assert [name for name, _ in result.not_counted] == ["0", "2"]
    assert all("DTensor, which computes" in reason for _, reason in result.not_counted)

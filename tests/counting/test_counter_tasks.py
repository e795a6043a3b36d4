"""asyncio tasks that count side by side in one thread, and leave in any order."""

from __future__ import annotations

import asyncio

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.results import CountResult

from .nets import assert_nothing_left


def net(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def modes() -> tuple[int, int]:
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


async def counted(model: nn.Module, x: Tensor, waits: list[int]) -> CountResult:
    """Counts of a call before and after each of these numbers of turns that others take."""
    with SopCounter(model) as counter:
        for turns in waits:
            model(x)
            for _ in range(turns):
                await asyncio.sleep(0)
                assert modes() == (0, 0)
    return counter.result()


@pytest.mark.parametrize(
    "waits", [([1, 1], [1, 1]), ([5, 1], [1, 5, 1]), ([1], [3, 3])], ids=["in turn", "across", "in"]
)
def test_tasks_count_each_their_own_model(waits: tuple[list[int], list[int]]) -> None:
    models, inputs = (net(4), net(5)), (torch.ones(2, 3), torch.rand(3, 3))
    alone = [
        asyncio.run(counted(*each))  # type: ignore[arg-type]
        for each in zip(models, inputs, waits, strict=True)
    ]

    async def together() -> list[CountResult]:
        return await asyncio.gather(*map(counted, models, inputs, waits))

    assert asyncio.run(together()) == alone
    # 3 inputs * 4 outputs, of 2 samples, in every call
    assert alone[0].rows[0].synops == 24 * len(waits[0])
    assert modes() == (0, 0)
    for model in models:
        assert_nothing_left(model)


def test_counters_that_leave_in_the_order_in_which_they_came() -> None:
    one, other = net(4), net(5)
    first, second = SopCounter(one), SopCounter(other)
    first.__enter__()
    second.__enter__()
    one(torch.ones(1, 3))
    first.__exit__(None, None, None)
    other(torch.ones(1, 3))
    one(torch.ones(1, 3))  # nobody's
    second.__exit__(None, None, None)
    assert first.result().by_layer()["0"].synops == 12  # 3 * 4
    assert second.result().by_layer()["0"].synops == 15  # 3 * 5
    assert modes() == (0, 0)


class Asynchronous(nn.Module):
    """Its call gives a coroutine at once; its layers run when others let it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    async def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        await asyncio.sleep(0)
        out: Tensor = self.last(h)
        return out


def test_a_model_that_awaits_runs_and_its_layers_are_listed() -> None:
    models, x = (Asynchronous(), Asynchronous()), torch.ones(1, 3)

    async def count(model: nn.Module) -> tuple[Tensor, SopCounter]:
        with SopCounter(model) as counter:
            return await model(x), counter

    async def together() -> list[tuple[Tensor, SopCounter]]:
        return await asyncio.gather(*map(count, models))

    found = asyncio.run(together())
    for model, (out, counter) in zip(models, found, strict=True):
        assert torch.equal(out, model.last(model.first(x)))
        result = counter.result()
        assert result.rows == ()
        reason = "called outside a call of the model"
        assert result.not_counted[:2] == (("first", reason), ("last", reason))
        assert "no synaptic operation was counted" in result.not_counted[2][1]
        assert_nothing_left(model)


def test_a_mode_that_an_interrupt_left_on_goes_alone() -> None:
    class FunctionMode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class DispatchMode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class Stopping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    model = nn.Sequential(Stopping())
    counter = SopCounter(model)
    counter.__enter__()
    with pytest.raises(KeyboardInterrupt):
        model(torch.ones(1))
    with FunctionMode() as function_mode, DispatchMode() as dispatch_mode:
        counter.__exit__(None, None, None)
        assert torch.overrides._get_current_function_mode_stack() == [function_mode]
        assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == [dispatch_mode]
    assert modes() == (0, 0)
    with pytest.raises(SnnprofError, match="failed inside the counter"):
        counter.result()

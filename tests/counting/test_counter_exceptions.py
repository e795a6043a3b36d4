"""Nothing is left of the counter after exceptions, the model's or its own."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.counting import module_tracker
from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import (
    assert_nothing_left,
    assert_same_attributes,
    attributes,
    images,
    make,
)


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
    assert count(model, torch.ones(1, 3)).total("synops") == 6


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

    result = count(nn.Sequential(Parent()), torch.ones(1, 3), torch.ones(1, 3))
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

    result = count(nn.Sequential(Parent()), torch.ones(1, 3))
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
        count(Careful(), torch.ones(1, 3))


def test_no_weak_reference_is_left_on_a_parameter():
    model = make()
    with SopCounter(model) as counter:
        model(images())
    for parameter in model.parameters():
        assert weakref.getweakrefcount(parameter) == 0
    assert counter.result() == counter.result()


def test_a_lazy_norm_is_filled_inside_the_block():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    result = count(model, torch.ones(2, 3, 5, 5))
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


# --- errors of use ------------------------------------------------------------------------------

ONES = torch.ones(2, 1, 3)
MISUSES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "batch_dim=4, but the model's input has shape": ({"batch_dim": 4}, [ONES]),
    "without a tensor": ({}, [3]),
    "the batch changed from 2 to 1": ({"timesteps": 2}, [ONES, ONES[:1]]),
    "no time step in": ({"layout": "time-first"}, [ONES[:0]]),
    "ran 1 time steps where 2": ({"layout": "time-first"}, [ONES, ONES[:1]]),
}


class Obliging(nn.Module):
    """Runs whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: object) -> Tensor:
        return self.fc(x if isinstance(x, Tensor) else torch.ones(1, 3))


@pytest.mark.parametrize("message", MISUSES)
def test_an_error_of_use_waits_until_the_model_has_answered(message: str):
    options, calls = MISUSES[message]
    model = Obliging()
    calls = [*calls, calls[0]]
    plain = [model(x) for x in calls]
    with SopCounter(model, **options) as counter:
        outputs = [model(x) for x in calls]
        assert modes_on() == 0
        with pytest.raises(SnnprofError, match=message):
            counter.result()
    assert all(torch.equal(a, b) for a, b in zip(outputs, plain, strict=True))
    with pytest.raises(SnnprofError, match=message), counter:
        model(calls[0]), model(calls[1])
    with pytest.raises(SnnprofError, match=message):  # and again for whoever went on
        counter.result()
    with pytest.raises(SnnprofError, match=message):
        counter.all_reduce()
    assert_nothing_left(model)


def test_an_error_of_use_that_was_told_is_not_told_at_the_end_again():
    model = Obliging()
    with SopCounter(model, batch_dim=4) as counter:
        model(torch.ones(1, 3))
        assert modes_on() == 0
        with pytest.raises(SnnprofError, match="batch_dim=4"):
            counter.result()


def test_an_error_of_use_does_not_hide_the_users():
    model = Obliging()
    with pytest.raises(ZeroDivisionError), SopCounter(model, batch_dim=4):
        model(torch.ones(1, 3)) / (1 // 0)
    with pytest.raises(ZeroDivisionError), SopCounter(model):
        model(torch.ones(1, 3)) / (1 // 0)

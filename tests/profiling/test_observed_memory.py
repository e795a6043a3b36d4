"""Bytes of what is only seen from outside, against what is known to be allocated."""

from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

import snnprof
from snnprof.profiling.observed_memory import observe_memory, remember_blocks

CPU = torch.device("cpu")


def test_what_stood_before_counts_where_it_is_touched() -> None:
    weight, other = torch.zeros(1000), torch.zeros(5000)
    with observe_memory(CPU) as memory:
        result = torch.neg(weight)
    assert memory.peak_bytes == 4000 + 4000  # the weight and the result; not the other one
    assert memory.reserved_bytes is None
    del result
    with observe_memory(CPU, lambda: (other, weight)) as memory:
        result = torch.neg(weight)
    assert memory.peak_bytes == 4000 + 20_000 + 4000  # the other one too, since it is named
    del result


def test_the_highest_level_counts_not_the_sum() -> None:
    with observe_memory(CPU) as memory:
        first = torch.zeros(1000)  # 4,000
        del first
        second = torch.zeros(2000)  # 8,000: the peak
        third = torch.zeros(500)  # and 2,000
    assert memory.peak_bytes == 10_000
    del second, third


def test_of_a_storage_only_the_parts_that_are_touched_count_once() -> None:
    data = torch.zeros(100, 10)
    x, overlapping, apart = data[5:9], data[7:11], data[50:51]
    with observe_memory(CPU) as memory:
        torch.neg(x[1:])  # a view made inside is no part of its own
        overlapping.zero_()
        apart.zero_()
    assert memory.peak_bytes == (6 + 1) * 40 + 3 * 40  # rows 5 to 10 and 50; three negated rows


def test_lists_of_tensors_are_seen() -> None:
    weights = [torch.zeros(100), torch.zeros(50)]
    with observe_memory(CPU) as memory:
        result = torch.cat(weights)
    assert memory.peak_bytes == 400 + 200 + 600
    del result


def test_a_tensor_that_python_does_not_hold_counts_where_it_is_touched() -> None:
    leaf = torch.zeros(10, requires_grad=True)
    loss = (torch.zeros(10) + 3).mul(leaf).sum()  # the graph alone holds the factor, 40 bytes
    gc.collect()
    with observe_memory(CPU) as memory:
        loss.backward()
    # The factor and the loss (4) are read; on top, the loss's gradient (4) and the leaf's (40).
    assert memory.peak_bytes == 40 + 4 + 4 + 40
    assert leaf.grad is not None


@pytest.mark.parametrize(("freed_first", "expected"), [(True, 4000), (False, 4000 + 2000)])
def test_what_the_step_before_left_and_this_one_frees(freed_first: bool, expected: int) -> None:
    held: list[Tensor] = []
    with remember_blocks():
        held.append(torch.zeros(1000))  # 4,000
    with observe_memory(CPU) as memory:
        if freed_first:
            held.clear()
        result = torch.zeros(500)  # 2,000
        held.clear()
    assert memory.peak_bytes == expected
    del result


def test_a_size_that_torch_remembers_of_an_older_block_is_not_believed() -> None:
    held: list[Tensor] = []
    with remember_blocks():
        held.append(torch.empty(10_000_000))  # so large that the system maps and unmaps it
    address = held[0].data_ptr()
    held.clear()
    held.append(torch.empty(9_999_990))
    if held[0].data_ptr() != address:
        pytest.skip("the system gave another address")
    with observe_memory(CPU) as memory:
        held.clear()
    assert memory.peak_bytes == 4 * 9_999_990


def test_gradients_of_the_step_before_are_seen_to_go() -> None:
    layer = nn.Linear(1000, 1, bias=False)  # 4,000, and its gradient

    def step(first: bool) -> None:
        if first:
            layer.zero_grad()
        layer.weight.sum().backward()
        if not first:
            layer.zero_grad()

    def peak(first: bool) -> int:
        step(first)
        with remember_blocks():
            step(first)
        with observe_memory(CPU) as memory:
            step(first)
        return memory.peak_bytes

    # Weight, gradient, loss and its gradient; the sum's gradient is expanded, not copied, until
    # it is accumulated. The gradient of the step before is freed first: it adds nothing.
    assert peak(True) == peak(False) == 4000 + 4000 + 4 + 4


class Refusing(Tensor):
    """A tensor that lets nothing be done with it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(function)


def test_tensors_of_every_kind_may_live_beside() -> None:
    with FakeTensorMode():
        fake = torch.zeros(3)
    others = [
        fake,
        torch.zeros(3).as_subclass(Refusing),
        nn.LazyLinear(3),
        torch.zeros(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        TwoTensor(torch.zeros(2), torch.zeros(2)),
        torch.zeros(0),
    ]
    x = torch.zeros(100)
    with observe_memory(CPU, lambda: others) as memory:
        x.zero_()
    assert memory.peak_bytes == 400 + 12  # and the refusing one, which has bytes, and is named


def test_what_a_wrapper_wraps_counts() -> None:
    both = TwoTensor(torch.zeros(50), torch.zeros(50))
    with observe_memory(CPU) as memory:
        both.zero_()
    assert memory.peak_bytes == 200 + 200


Action = tuple[str, int, int]  # what, slot, elements
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("new", "free", "touch")), st.integers(0, 4), st.sampled_from((3, 50, 700))
    ),
    max_size=15,
)


def act(slots: list[Tensor | None], actions: list[Action]) -> None:
    for what, slot, count in actions:
        if what == "new":
            slots[slot] = torch.empty(count)
        elif what == "free":
            slots[slot] = None
        elif slots[slot] is not None:  # no name for it, which would keep it
            slots[slot].zero_()


def expected_peak(before: list[Action], inside: list[Action]) -> int:
    """The same by arithmetic: bytes of each slot, and whether it stood before."""
    sizes: dict[int, tuple[int, bool]] = {}
    for what, slot, count in before:
        if what == "new":
            sizes[slot] = (4 * count, True)
        elif what == "free":
            sizes.pop(slot, None)
    counted: dict[int, int] = {}  # of what stood before, by slot
    level = highest = 0

    def leave(slot: int) -> int:
        size, stood = sizes.pop(slot, (0, False))
        if stood:
            counted[slot] = size
        return size

    for what, slot, count in inside:
        if what == "new":
            level += 4 * count
            highest = max(highest, level)
            level -= leave(slot)
            sizes[slot] = (4 * count, False)
        elif what == "free":
            level -= leave(slot)
        elif slot in sizes and sizes[slot][1]:
            counted[slot] = sizes[slot][0]
    return sum(counted.values()) + highest


@settings(max_examples=30, deadline=None)
@given(before=ACTIONS, inside=ACTIONS)
def test_any_order_of_allocating_touching_and_freeing(
    before: list[Action], inside: list[Action]
) -> None:
    slots: list[Tensor | None] = [None] * 5
    with remember_blocks():
        act(slots, before)
    with observe_memory(CPU) as memory:
        act(slots, inside)
    assert memory.peak_bytes == expected_peak(before, inside)


@pytest.mark.parametrize("watch", [remember_blocks, lambda: observe_memory(CPU)])
def test_another_profiler_is_not_disturbed(watch) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as theirs:
        with pytest.raises(snnprof.SnnprofError, match="torch's profiler is running"), watch():
            pass
        torch.zeros(3)
    assert any(event.key == "aten::zeros" for event in theirs.key_averages())


@pytest.mark.parametrize("watch", [remember_blocks, lambda: observe_memory(CPU)])
def test_an_exception_passes_and_ends_it(watch) -> None:
    with pytest.raises(KeyError, match="mine"), watch():
        raise KeyError("mine")
    assert not torch._C._autograd._profiler_enabled()

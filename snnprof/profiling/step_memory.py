"""Memory of one training step, in bytes that the allocator handed out."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from traceback import format_exception
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from snnprof.core.error_line import one_line
from snnprof.core.errors import is_out_of_memory
from snnprof.core.quiet_allocator import quiet_allocator
from snnprof.profiling.event_tree import events
from snnprof.results import StepProfile
from snnprof.training.divided_parameters import own_part
from snnprof.training.stepped_model import SteppedModel

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class StepMemory:
    """Memory that one training step took.

    Attributes:
        peak_bytes: bytes allocated before the step (parameters, buffers, optimiser state, inputs)
            plus the most that it allocated on top.
        reserved_bytes: the most that CUDA's allocator held from the device; None on the CPU.
        static_bytes: parameters, gradients and optimiser state after the step.
    """

    peak_bytes: int
    reserved_bytes: int | None
    static_bytes: int


def allocated_and_reserved(device: torch.device) -> int | None:
    """Bytes allocated plus bytes reserved at this moment, by CUDA's allocator; None on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.memory_allocated(device) + torch.cuda.memory_reserved(device)


class AfterBackward:
    """A recorder that reads the memory after every backward pass.

    Args:
        read: gives the figure.

    Attributes:
        found: the figure after the last one; None before the first.
    """

    def __init__(self, read: Callable[[], int | None]) -> None:
        self.found: int | None = None
        self._read = read

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part of the step: "forward", "backward" or "optimizer"."""
        yield
        if name == "backward":
            self.found = self._read()


@dataclass(frozen=True)
class Failure:
    """The outcome where something came to no end.

    Attributes:
        reason: in one line.
        profile: the measurements made before; None where there are none.
        traceback: of the error; empty where memory ran out.
    """

    reason: str
    profile: StepProfile | None = None
    traceback: str = ""


@dataclass(frozen=True)
class OutOfMemory(Failure):
    """The outcome where the memory did not suffice."""

    reason: str = "out of memory"


class Attempt(Protocol):
    """:func:`attempt` or :func:`attempt_all`."""

    def __call__(
        self, action: Callable[[], Returned], device: torch.device
    ) -> Returned | Failure: ...


def attempt(action: Callable[[], Returned], device: torch.device) -> Returned | Failure:
    """The action's result, or :class:`OutOfMemory`, with the memory it had taken given back."""
    try:
        return action()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Not inside the except clause, whose traceback holds what the action had made.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return OutOfMemory()


def attempt_all(
    action: Callable[[], Returned],
    device: torch.device,
    raised: type[BaseException] = KeyboardInterrupt,
) -> Returned | Failure:
    """:func:`attempt`, where any error is a :class:`Failure`: a model is other people's code.

    ``sys.exit`` in a model too. Not Ctrl-C, nor ``raised``.
    """
    try:
        return attempt(action, device)
    except (KeyboardInterrupt, raised):
        raise
    except BaseException as error:
        return Failure(one_line(error), traceback="".join(format_exception(error)))


def step_memory(
    step: Callable[[], Tensor],
    stepped: SteppedModel,
    optimizer: Optimizer,
    inputs: Iterable[Tensor],
    device: torch.device,
) -> tuple[StepMemory, Tensor]:
    """Run one training step; its memory, and the value that it returned.

    CUDA's allocator statistics on a GPU, the profiler's allocation events on the CPU: both are
    deterministic. Gradients and state of the step before are dropped first: the step would
    free them unseen. On a GPU, nothing else may allocate meanwhile.
    """
    optimizer.zero_grad(set_to_none=True)
    stepped.reset()
    held = _bytes_of(
        chain(
            stepped.model.parameters(), stepped.model.buffers(), optimizer_state(optimizer), inputs
        )
    )
    if device.type == "cuda":
        rise, reserved, result = _cuda_rise(step, device)
    else:
        rise, result = _cpu_rise(step)
        reserved = None
    return StepMemory(held + rise, reserved, static_bytes(stepped.model, optimizer)), result


def static_bytes(model: nn.Module, optimizer: Optimizer) -> int:
    """Bytes of the parameters, their gradients and the optimiser's state.

    Of what is divided among processes, this one's part.
    """
    # Where a step has freed the gradients, they are as large as what they belong to.
    gradients: Iterator[Tensor] = (own_part(p) for p in model.parameters() if p.requires_grad)
    held = _bytes_of(chain(model.parameters(), optimizer_state(optimizer)))
    return held + sum(p.numel() * p.element_size() for p in gradients)


def optimizer_state(optimizer: Optimizer) -> Iterator[object]:
    """Every value that the optimiser keeps of its parameters, in lists and dictionaries too."""
    return iter(tree_leaves(list(optimizer.state.values())))


def _bytes_of(values: Iterable[object]) -> int:
    """Bytes of tensors, each once: of a part of something larger, only the part."""
    held = (own_part(value) for value in values)
    return covered_bytes(
        span(value) for value in held if isinstance(value, Tensor) and value.numel()
    )


def covered_bytes(spans: Iterable[tuple[int, int]]) -> int:
    """How many addresses lie in one span or more."""
    total = reached = 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def span(tensor: Tensor) -> tuple[int, int]:
    """Addresses from the first byte to behind the last, of a tensor that has elements."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (last + 1) * tensor.element_size()


def _cuda_rise(step: Callable[[], Tensor], device: torch.device) -> tuple[int, int, Tensor]:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = step()
    torch.cuda.synchronize(device)
    rise = torch.cuda.max_memory_allocated(device) - before
    return rise, torch.cuda.max_memory_reserved(device), result


def _cpu_rise(step: Callable[[], Tensor]) -> tuple[int, Tensor]:
    with allocation_profiler() as profiler:
        result = step()
    level = highest = 0
    for change in allocations(profiler):
        level += change
        highest = max(highest, level)
    return highest, result


@contextmanager
def allocation_profiler(record_operands: bool = False) -> Iterator[torch.profiler.profile]:
    """A profiler of what is allocated and freed and, if asked, of each operator's tensors."""
    # The profiler's C++ side logs messages for its developers to standard error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        profile_memory=True,
        record_shapes=record_operands,
    )
    with quiet_allocator(), profiler:
        yield profiler


def allocations(profiler: torch.profiler.profile) -> Iterator[int]:
    """Bytes allocated (or, negative, freed again), in order of time.

    Blocks from before are left out: whether the profiler knows their size depends on what was
    profiled earlier in the process.
    """
    found = [
        (event.start_time_ns, event.typed[1])
        for event in events(profiler)
        if event.typed[0] == _EventType.Allocation
    ]
    living: set[int] = set()
    for _, block in sorted(found, key=lambda timed: timed[0]):
        if block.alloc_size > 0:
            living.add(block.ptr)
            yield block.alloc_size
        elif block.ptr in living:
            living.remove(block.ptr)
            yield block.alloc_size

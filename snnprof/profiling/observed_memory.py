"""Memory of a step that is only seen from outside: its allocations, and the tensors it touches."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch._C._profiler import _EventType, _TensorMetadata

from snnprof.core.errors import SnnprofError
from snnprof.profiling.event_tree import events
from snnprof.profiling.step_memory import allocation_profiler, covered_bytes, span

Span = tuple[int, int]  # addresses, from the first byte to behind the last


@dataclass
class ObservedMemory:
    """Memory of what ran, once it has run.

    Attributes:
        peak_bytes: what stood before and was touched or freed, plus the most allocated on top,
            at any one time.
        reserved_bytes: the most that CUDA's allocator held from the device; None on the CPU.
    """

    peak_bytes: int = 0
    reserved_bytes: int | None = None


@contextmanager
def remember_blocks() -> Iterator[None]:
    """Have torch note the blocks that are allocated inside.

    On the CPU it reports that a block is freed only if it noted how the block was allocated. The
    step under :func:`observe_memory` frees gradients and states of the step before: run that one
    in here.
    """
    _refuse_other_profilers()
    with allocation_profiler():
        yield


@contextmanager
def observe_memory(
    device: torch.device, standing: Callable[[], Iterable[object]] = tuple
) -> Iterator[ObservedMemory]:
    """Observe the memory of what runs inside.

    What stood before counts if an operator inside reads or writes it, or if it is freed inside:
    weights, optimiser state, inputs, gradients of the step before. Of a storage, only the part
    that such tensors cover counts. Anything else that lives in the process does not.

    Args:
        device: whose memory.
        standing: tensors that count in any case: compiled code touches them unseen.
    """
    _refuse_other_profilers()
    observed = ObservedMemory()
    gc.collect()  # garbage of others, freed inside, would count
    # Classes of tensors that do something else when they are asked are asked as plain ones.
    with torch._C.DisableTorchFunctionSubclass():
        living = list(_living_tensors(device))
        views = {tensor._cdata: span(tensor) for tensor in living}
        blocks = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in living}
        before = [span(t) for t in standing() if isinstance(t, Tensor) and _has_bytes_on(t, device)]
    del living
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    with allocation_profiler(record_operands=True) as profiler:
        yield observed
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    history = _History(views, blocks)
    for change in sorted(_changes(profiler, device), key=lambda change: change[0]):
        history.add(change[1])
    rise = history.highest
    if device.type == "cuda":
        rise = torch.cuda.max_memory_allocated(device) - allocated
        observed.reserved_bytes = torch.cuda.max_memory_reserved(device)
    observed.peak_bytes = covered_bytes([*before, *history.before]) + rise


def _refuse_other_profilers() -> None:
    if torch._C._autograd._profiler_enabled():
        raise SnnprofError(
            "torch's profiler is running, and memory is measured with it: leave it before the "
            "memory of a step is taken"
        )


def _living_tensors(device: torch.device) -> Iterator[Tensor]:
    """Every tensor on a device that Python holds, and gradients, which it may not hold yet."""
    for value in gc.get_objects():
        # The type is asked, not the object: a proxy would answer for what it stands for.
        if issubclass(type(value), Tensor) and _has_bytes_on(value, device):
            yield value
            if value.is_leaf and value.grad is not None and _has_bytes_on(value.grad, device):
                yield value.grad


def _has_bytes_on(tensor: Tensor, device: torch.device) -> bool:
    """False for what only wraps other tensors, which are found by themselves, or has no bytes."""
    return (
        type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and tensor.layout == torch.strided
        and tensor.device.type == device.type
        and not tensor.is_nested
        and not torch._is_functional_tensor(tensor)
        and tensor.numel() > 0
    )


@dataclass(frozen=True)
class _Block:
    """A block that was allocated or, with negative bytes, freed."""

    address: int
    size: int


_Change = _Block | _TensorMetadata


def _changes(
    profiler: torch.profiler.profile, device: torch.device
) -> Iterator[tuple[int, _Change]]:
    """Every block and every operand of an operator on the device, with the time."""
    for event in events(profiler):
        if event.typed[0] == _EventType.Allocation:
            block = event.typed[1]
            if block.device.type == device.type:
                yield event.start_time_ns, _Block(block.ptr, block.alloc_size)
        elif event.typed[0] == _EventType.TorchOp:
            for operand in _operands(event.typed[1].inputs):
                if operand.device.type == device.type:
                    yield event.start_time_ns, operand


def _operands(inputs: Iterable[object]) -> Iterator[_TensorMetadata]:
    for value in inputs:
        if isinstance(value, _TensorMetadata):
            yield value
        elif isinstance(value, list):
            yield from _operands(value)


@dataclass
class _History:
    """What became of the memory, change by change in order of time.

    Attributes:
        views: addresses of the tensors from before, by torch's number.
        blocks: sizes of their storages, by address.
        before: addresses of what stood before and was touched or freed.
        highest: most bytes above the level at the beginning.
    """

    views: dict[int, Span]
    blocks: dict[int, int]
    before: set[Span] = field(default_factory=set)
    highest: int = 0
    _level: int = 0
    _new: dict[int, int] = field(default_factory=dict)  # sizes by address
    _known: set[int] = field(default_factory=set)  # storages of the views that were touched

    def add(self, change: _Change) -> None:
        if isinstance(change, _TensorMetadata):
            self._touch(change)
        elif change.size > 0:
            self._new[change.address] = change.size
            self._level += change.size
            self.highest = max(self.highest, self._level)
        elif change.address in self._new:
            self._level -= self._new.pop(change.address)
        elif change.address in self.blocks:
            # The size that torch tells may be that of another block, long gone.
            size = self.blocks.pop(change.address)
            self.before.add((change.address, change.address + size))
            self._level -= size

    def _touch(self, operand: _TensorMetadata) -> None:
        address = operand.storage_data_ptr
        if not address or address in self._new or 0 in operand.sizes:
            return
        known = self.views.get(operand.impl_ptr or 0)
        if known is not None:
            self.before.add(known)
            self._known.add(address)
        elif address not in self._known:
            # No Python object stood for it: where it begins in its storage is not told.
            steps = zip(operand.sizes, operand.strides, strict=True)
            last = sum((n - 1) * step for n, step in steps)
            self.before.add((address, address + (last + 1) * operand.dtype.itemsize))

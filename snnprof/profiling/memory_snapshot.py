"""Snapshots of CUDA's allocator, for https://docs.pytorch.org/memory_viz."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch

from snnprof.core.atomic_files import write_whole
from snnprof.core.errors import SnnprofError

_MOST_EVENTS = 100_000  # allocations and frees that are kept
_when_out_of_memory: list[Callable[[], None]] = []  # the innermost block's is last
_observed = False


def check_cuda(option: str, device: torch.device) -> None:
    """Raise SnnprofError for an option that only an NVIDIA GPU has a use for."""
    if device.type != "cuda":
        raise SnnprofError(
            f"{option} is of CUDA, and this runs on the {device.type}: leave it out (trace shows "
            "the memory of the CPU)"
        )


@contextmanager
def recorded_memory(file: Path) -> Iterator[None]:
    """A block whose allocations are written to a file, with their stacks; also after an error.

    Raises:
        SnnprofError: the file cannot be written.
    """
    memory: Any = torch.cuda.memory
    memory._record_memory_history(max_entries=_MOST_EVENTS)
    try:
        yield
    finally:  # after an error its traceback still holds what was allocated
        try:
            _dump(file)
        finally:
            memory._record_memory_history(enabled=None)


@contextmanager
def dumped_when_out_of_memory(folder: Path) -> Iterator[None]:
    """A block in which every allocation that fails leaves a snapshot: what held the memory.

    Without stacks, which would cost time in steps that are timed. The files are
    ``out-of-memory-PROCESS-1.pickle`` and so on.
    """
    global _observed
    if not _observed:  # torch takes an observer for good
        attach: Any = torch._C._cuda_attach_out_of_memory_observer  # type: ignore[attr-defined]
        attach(_observer)
        _observed = True
    numbers = count(1)
    _when_out_of_memory.append(
        lambda: _dump(folder / f"out-of-memory-{os.getpid()}-{next(numbers)}.pickle")
    )
    try:
        yield
    finally:
        _when_out_of_memory.pop()


def _observer(device: int, size: int, allowed: int, free: int) -> None:
    if _when_out_of_memory:
        with suppress(SnnprofError):  # below is C++, which knows no exceptions of Python's
            _when_out_of_memory[-1]()


def _dump(file: Path) -> None:
    memory: Any = torch.cuda.memory
    write_whole(file, pickle.dumps(memory._snapshot()))

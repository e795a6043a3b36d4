"""The largest batch that fits in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from snnprof.core.errors import SnnprofError
from snnprof.profiling.step_memory import Failure
from snnprof.results import StepProfile

# Of the memory that is free: the rest is for fragments, and for what else is running.
SHARE = 0.8
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_PROBES = (2, 4)
_TRIES = 8
_SHRINK = 0.9

# The memory of every row for a batch of so many samples; a Failure where one ran out of it.
Measure = Callable[[int], Sequence[StepProfile | Failure]]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _MEMINFO.is_file():  # what the system could free counts as free
        lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and (allowed := limit.read_text().strip()) != "max":
        available = min(available, int(allowed) - int(used.read_text()))
    return available


def largest_batch(measure: Measure, limit_bytes: float, most: int) -> int:
    """The largest batch for which all rows fit, each beside what the others keep.

    Models that take turns need the static memory of all and the activations of one. Peaks grow
    in a straight line with the batch: two small ones tell where the limit is, and a step of
    that size proves it.

    Args:
        measure: see :data:`Measure`.
        limit_bytes: what may be taken.
        most: there are no more samples.

    Raises:
        SnnprofError: the smallest batch does not fit.
    """
    small, larger = (_needed(measure(size)) for size in _PROBES)
    if small is None or larger is None or larger > limit_bytes:
        room = f"{limit_bytes / 2**30:.2f} GiB"
        raise SnnprofError(f"batch_size='auto': not even {_PROBES[-1]} samples fit in {room}")
    per_sample = max(1.0, (larger - small) / (_PROBES[1] - _PROBES[0]))
    size = min(most, int(_PROBES[0] + (limit_bytes - small) / per_sample))
    for _ in range(_TRIES):
        needed = _needed(measure(size))
        if needed is not None and needed <= limit_bytes:
            return size
        size = max(_PROBES[-1], int(size * _SHRINK))
    return _PROBES[-1]


def _needed(profiles: Sequence[StepProfile | Failure]) -> int | None:
    found = [profile for profile in profiles if isinstance(profile, StepProfile)]
    if len(found) < len(profiles):
        return None
    static = [p.peak_bytes if p.static_bytes is None else p.static_bytes for p in found]
    above = (p.peak_bytes - s for p, s in zip(found, static, strict=True))
    return sum(static) + max(above, default=0)

"""Events of torch's profiler, whatever called them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch._C._profiler import _ProfilerEvent


def events(profiler: torch.profiler.profile) -> Iterator[_ProfilerEvent]:
    """Every event that a profiler has recorded: operators, allocations, Python's calls.

    Parents come before their children; otherwise the order says nothing.

    Args:
        profiler: one that has stopped, or has run through its schedule.
    """
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        yield event

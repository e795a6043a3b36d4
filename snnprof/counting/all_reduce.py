"""The counts of several processes, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import gathered
from snnprof.results import CountResult
from snnprof.results.counts import merge_all


def of_all_processes(read: Callable[[], CountResult], called: bool, group: Any) -> CountResult:
    """The results of all processes merged; an error of one is told to all, and none waits.

    Args:
        read: gives the result of this process.
        called: False where its model was never called: it takes part with nothing.
        group: of torch.distributed; None: all processes.

    Raises:
        SnnprofError: a result could not be read in one of them, or the model was called in none.
    """
    mine: CountResult | str
    try:
        mine = read() if called else CountResult((), 0)
    except Exception as error:  # a warning that was made an error too
        ours = isinstance(error, SnnprofError)
        mine = str(error) if ours else f"{type(error).__name__}: {error}"
    parts = gathered(mine, group)
    failures = [f"rank {rank}: {part}" for rank, part in enumerate(parts) if isinstance(part, str)]
    if failures:
        raise SnnprofError("; ".join(failures) if len(parts) > 1 else str(parts[0]))
    whole = merge_all(part for part in parts if isinstance(part, CountResult))
    return whole if whole.samples else read()  # which says that nothing was counted

"""Objects gathered from every process of a distributed run."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed

from snnprof.core.errors import SnnprofError

Kept = TypeVar("Kept")


def gathered(value: Kept, group: Any = None) -> list[Kept]:
    """This object of every process, in the order of ranks; only its own without any.

    Every process of the group must call it.

    Args:
        value: an object that can be pickled.
        group: of torch.distributed; None: all processes.

    Raises:
        SnnprofError: this process is not in the group.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    size = distributed.get_world_size(group)
    if size < 1:
        raise SnnprofError("this process is not in the group: call it in the group's processes")
    found: list[Any] = [None] * size
    distributed.all_gather_object(found, value, group=group)
    return found

"""The state of every global random generator: kept, put back, and seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from snnprof.core.errors import SnnprofError


def check_seed(seed: object) -> None:
    """Raise SnnprofError for what not every generator takes: numpy's takes 32 bits."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise SnnprofError(f"seed={seed!r}: must be a whole number from 0 to 2^32 - 1")


def random_state() -> dict[str, Any]:
    """States of Python's, numpy's and torch's generators, CUDA's too, as plain values."""
    kind, keys, *others = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *others),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators into states of :func:`random_state`; those of missing GPUs are left."""
    kind, keys, *others = state["numpy"]
    version, words, gaussian = state["python"]
    random.setstate((version, tuple(words), gaussian))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *others))
    torch.set_rng_state(state["torch"])
    for device, of_device in enumerate(state["cuda"]):
        if device < torch.cuda.device_count():
            torch.cuda.set_rng_state(of_device, device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block in which all of them start from a seed; afterwards they are as they were.

    Raises:
        SnnprofError: a seed that not all of them take.
    """
    check_seed(seed)
    before = random_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)


def loader_generators(loader: object) -> tuple[torch.Generator, ...]:
    """The generators of a torch DataLoader and its samplers, each once; none of anything else."""
    if not isinstance(loader, DataLoader):
        return ()
    batches = loader.batch_sampler
    holders = (loader, loader.sampler, batches, getattr(batches, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return tuple({id(g): g for g in found if isinstance(g, torch.Generator)}.values())

"""Registries that a test adds to, as they were before in the next."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept(*registries: MutableMapping[Any, Any]) -> Iterator[None]:
    """A block behind which these hold what they held before it."""
    before = [dict(registry) for registry in registries]
    try:
        yield
    finally:
        for registry, entries in zip(registries, before, strict=True):
            registry.clear()
            registry.update(entries)

"""Named things that a user can add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from snnprof.core.errors import known

Key = TypeVar("Key")
Thing = TypeVar("Thing")


class _Table(dict[Key, Thing]):
    """Things by key.

    Args:
        kind: what they are, for messages.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def register(self, key: Key) -> Callable[[Thing], Thing]:
        """Decorator that adds a thing; a key that is taken raises ValueError."""

        def add(thing: Thing) -> Thing:
            if key in self:
                name = getattr(key, "__name__", key)
                raise ValueError(f"{self._kind} {name!r} is already registered")
            self[key] = thing
            return thing

        return add


class Registry(_Table[str, Thing]):
    """Things by name."""

    def find(self, name: str) -> Thing:
        """The thing of that name; an unknown one raises SnnprofError with the known ones."""
        if name not in self:
            raise known(self._kind, name, self)
        return self[name]


class ByFunction(_Table[Callable[..., Any], Thing]):
    """Things by the function that they are told of."""


class ByClass(_Table[type, Thing]):
    """Things by class; a derived class has what the nearest of its bases has."""

    def nearest(self, instance: object) -> type | None:
        """The class in here that the instance is of, or None."""
        return next((kind for kind in type(instance).__mro__ if kind in self), None)

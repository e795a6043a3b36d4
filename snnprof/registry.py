"""Named things that a user can add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from snnprof.errors import known

Thing = TypeVar("Thing")


class Registry(dict[str, Thing]):
    """Things by name.

    Args:
        kind: what they are, for messages.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def register(self, name: str) -> Callable[[Thing], Thing]:
        """Decorator that adds a thing; a name that is taken raises ValueError."""

        def add(thing: Thing) -> Thing:
            if name in self:
                raise ValueError(f"{self._kind} {name!r} is already registered")
            self[name] = thing
            return thing

        return add

    def find(self, name: str) -> Thing:
        """The thing of that name; an unknown one raises SnnprofError with the known ones."""
        if name not in self:
            raise known(self._kind, name, self)
        return self[name]

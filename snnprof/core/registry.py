"""Named things that a user can add to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from snnprof.core.errors import SnnprofError, known

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

    @abstractmethod
    def _check_key(self, key: object) -> None:
        """Raise SnnprofError for what is no key: a decorator without its parentheses, say."""

    def register(self, key: Key) -> Callable[[Thing], Thing]:
        """Decorator that adds a thing; a key that is taken raises ValueError.

        Raises:
            SnnprofError: a key of another type.
        """
        self._check_key(key)

        def add(thing: Thing) -> Thing:
            if key in self:
                name = getattr(key, "__name__", key)
                raise ValueError(f"{self._kind} {name!r} is already registered")
            self[key] = thing
            return thing

        return add


class Registry(_Table[str, Thing]):
    """Things by name."""

    def _check_key(self, key: object) -> None:
        if not isinstance(key, str) or not key:
            raise SnnprofError(f"a {self._kind} is registered under a name in quotes, not {key!r}")

    def find(self, name: str) -> Thing:
        """The thing of that name; an unknown one raises SnnprofError with the known ones."""
        if name not in self:
            raise known(self._kind, name, self)
        return self[name]


class ByFunction(_Table[Callable[..., Any], Thing]):
    """Things by the function that they are told of."""

    def _check_key(self, key: object) -> None:
        if not callable(key):
            raise SnnprofError(f"a {self._kind} is registered for a function, not {key!r}")


class ByClass(_Table[type, Thing]):
    """Things by class; a derived class has what the nearest of its bases has."""

    def _check_key(self, key: object) -> None:
        if not isinstance(key, type):
            raise SnnprofError(f"a {self._kind} is registered for a class, not {key!r}")

    def nearest(self, instance: object) -> type | None:
        """The class in here that the instance is of, or None."""
        return next((kind for kind in type(instance).__mro__ if kind in self), None)

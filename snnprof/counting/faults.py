"""What goes wrong while a model is watched: kept, and never raised into its call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snnprof.core.errors import SnnprofError


def failed(error: Exception, doing: str = "counting it") -> str:
    """The reason for listing what a fault of ours left out."""
    return f"{doing} failed ({type(error).__name__}: {error})"


class Faults:
    """The faults of one measurement.

    The counter's own are listed as not counted. Errors of use are raised when the model has
    answered: by :meth:`tell_at_end` once, and by :meth:`tell` whenever somebody asks.

    Args:
        root: name of the model.

    Attributes:
        listed: (name, reason) of each, in order.
    """

    def __init__(self, root: str) -> None:
        self.listed: dict[tuple[str, str], None] = {}
        self._root = root
        self._misuse: SnnprofError | None = None
        self._told = False

    def list(self, name: str | None, error: Exception, operation: str = "") -> None:
        """List a fault under a module's name, or the model's."""
        self.listed[(name or self._root, operation + failed(error))] = None

    @contextmanager
    def forgiven(self, name: str | None = None) -> Iterator[None]:
        """List a fault of what runs inside."""
        try:
            yield
        except Exception as error:
            self.list(name, error)

    def keep(self, misuse: SnnprofError) -> None:
        """Keep an error of use; the first is the one to mend."""
        # Without its traceback, whose frames hold the model's input.
        self._misuse = self._misuse or misuse.with_traceback(None)

    @property
    def misused(self) -> bool:
        """True if there was an error of use."""
        return self._misuse is not None

    def tell(self) -> None:
        """Raise SnnprofError if there was an error of use."""
        if self._misuse is not None:
            self._told = True
            raise self._misuse

    def tell_at_end(self) -> None:
        """Raise it if nobody was told."""
        if not self._told:
            self.tell()

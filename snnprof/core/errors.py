"""The one exception for what a user can mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class SnnprofError(ValueError):
    """A wrong name, value or file: the message names the thing, the value and the way out.

    The command line prints it as one line and exits with status 2; from Python it is a
    ``ValueError`` like any other.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """True for every way in which torch says so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


def known(kind: str, name: str, names: Iterable[str]) -> SnnprofError:
    """The error for a name that is not in a registry, listing those that are."""
    listed = ", ".join(sorted(names))
    return SnnprofError(f"unknown {kind} {name!r}; known: {listed}")


def unknown_key(where: str, key: str, keys: Iterable[str]) -> SnnprofError:
    """The error for a key of a file that is not known, with the nearest one, or all."""
    names = [*keys]
    near = get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return SnnprofError(f"{where}: unknown key {key!r}; {hint}")


def reason_of(error: Exception) -> str:
    """Why a file could not be used: what the system says, without a number and the name again."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error)

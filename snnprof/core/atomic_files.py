"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from snnprof.core.errors import SnnprofError, reason_of
from snnprof.core.termination import termination_waits

_LONGEST_NAME = 200  # characters; file systems take 255 bytes, and a temporary name is longer


def check_writable(path: str | Path) -> None:
    """Raise beforehand where a file cannot be written.

    Raises:
        SnnprofError: no such directory, a directory, too long a name, or the system refuses.
    """
    target = _target(path)
    try:  # permissions do not tell everything: a file system may be read-only, or none for files
        # Where the system can, it has no name: nothing is left, whatever ends the process.
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise SnnprofError(f"output {str(path)!r}: {reason_of(error)}") from error


def _target(path: str | Path) -> Path:
    """The file behind the path, links followed, if it may be written to."""
    target = _resolved(path)
    if len(target.name) > _LONGEST_NAME:
        raise SnnprofError(f"output {str(path)!r}: the name is too long")
    if target.is_dir():
        raise SnnprofError(f"output {str(path)!r} is a directory: name a file")
    if target.exists() and not target.is_file():
        raise SnnprofError(f"output {str(path)!r} is no regular file: name another one")
    if not target.parent.is_dir():
        parent = target.parent if Path(path).is_symlink() else Path(path).parent
        raise SnnprofError(f"output {str(path)!r}: there is no directory {str(parent)!r}")
    if target.exists() and not os.access(target, os.W_OK):
        raise SnnprofError(f"output {str(path)!r}: no permission to write there")
    return target


def _resolved(path: str | Path) -> Path:
    """The path with its links followed."""
    if "\0" in str(path):
        raise SnnprofError(f"output {str(path)!r}: no file name holds a NUL")
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError) as error:  # up to Python 3.12 a loop is a RuntimeError
        raise SnnprofError(f"output {str(path)!r} links to itself") from error


def write_whole(path: str | Path, content: bytes) -> None:
    """Write under a temporary name, and move into place. A SIGTERM meanwhile waits for the end.

    Raises:
        SnnprofError: see :func:`check_writable`, or the system refuses to write.
    """
    target = _target(path)
    try:
        with termination_waits():
            _replace(target, content)
    except OSError as error:
        raise SnnprofError(f"output {str(path)!r}: {reason_of(error)}") from error


def _replace(target: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        try:
            file.write(content)
            file.close()
            _take_permissions(file.name, target)
            os.replace(file.name, target)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise


def _take_permissions(name: str, target: Path) -> None:
    """Give a temporary file, which is private, the old file's mode, or the umask's default."""
    if target.exists():
        os.chmod(name, target.stat().st_mode & 0o777)
        return
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)

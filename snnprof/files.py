"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from snnprof.errors import SnnprofError

_LONGEST_NAME = 200  # characters; file systems take 255 bytes, and a temporary name is longer


def check_writable(path: str | Path) -> Path:
    """The path, if a file can be written there.

    Raises:
        SnnprofError: no such directory, a directory, too long a name, or no permission.
    """
    target = Path(path)
    if len(target.name) > _LONGEST_NAME:
        raise SnnprofError(f"output {str(path)!r}: the name is too long")
    if target.is_dir():
        raise SnnprofError(f"output {str(path)!r} is a directory: name a file")
    if not target.parent.is_dir():
        raise SnnprofError(f"output {str(path)!r}: there is no directory {str(target.parent)!r}")
    writable = os.access(target.parent, os.W_OK) and (
        not target.exists() or os.access(target, os.W_OK)
    )
    if not writable:
        raise SnnprofError(f"output {str(path)!r}: no permission to write there")
    return target


def write_whole(path: str | Path, content: bytes) -> None:
    """Write under a temporary name, and move into place.

    Raises:
        SnnprofError: see :func:`check_writable`, or the system refuses to write.
    """
    target = check_writable(path).resolve()
    try:
        _replace(target, content)
    except OSError as error:
        raise SnnprofError(f"output {str(path)!r}: {error.strerror or error}") from error


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
    """Temporary files are private: give it the old file's mode, or what the umask leaves."""
    if target.exists():
        os.chmod(name, target.stat().st_mode & 0o777)
        return
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)

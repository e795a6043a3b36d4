"""Where data sets lie, and what is said where they do not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from snnprof.core.errors import SnnprofError

VARIABLE = "SNNPROF_DATA"
USUAL_FOLDER = "data"


def data_folder(data_dir: str | Path | None) -> Path:
    """The folder that was given, that of the environment's SNNPROF_DATA, or ./data."""
    return Path(data_dir or os.environ.get(VARIABLE) or USUAL_FOLDER).expanduser().absolute()


def find(name: str, data_dir: str | Path | None, known: Sequence[str], how: str) -> Path:
    """The first of the known files and folders that is there.

    Looked for in the data folder, in a folder of the data set's name in it, and as the data
    folder itself, if that has a known name.

    Args:
        name: of the data set.
        data_dir: as it was given; see :func:`data_folder`.
        known: names as they are distributed, in the order in which they are tried.
        how: how to get them, for the message.

    Raises:
        SnnprofError: none is there.
    """
    root = data_folder(data_dir)
    places = [folder / file for folder in (root, root / name) for file in known]
    if root.name in known:
        places.insert(0, root)
    for place in places:
        if place.exists():
            return place
    raise SnnprofError(
        f"data {name!r}: none of {', '.join(known)} in {root}: {how}, or say where the data lie "
        f"(--data-dir, data_dir=, or {VARIABLE} in the environment)"
    )

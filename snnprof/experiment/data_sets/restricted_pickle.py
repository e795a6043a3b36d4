"""Reading the pickles of CIFAR without running what a pickle may ask for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from snnprof.core.errors import SnnprofError

# A pickled array names these functions, and nothing else: under both of NumPy's module names, and
# with the encoder of bytes, where Python 3 wrote the file for Python 2.
_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode(encoding)


class _Restricted(pickle.Unpickler):
    """Numbers, text, lists, dicts and NumPy arrays; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which its data do not need")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to another file")


def read_pickle(content: bytes, file: str) -> dict[str, Any]:
    """The dict in a pickle, of Python 2 or 3; its keys as text.

    Args:
        content: of the file.
        file: its name, for messages.

    Raises:
        SnnprofError: it is broken, holds no dict, or asks for anything but NumPy arrays.
    """
    try:
        found = _Restricted(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken pickle raises anything
        raise SnnprofError(
            f"{file} is broken or not what it should be: {error}; get it anew"
        ) from error
    if not isinstance(found, dict):
        raise SnnprofError(f"{file} holds a {type(found).__name__}, not a dict: get it anew")
    return {k.decode("latin1") if isinstance(k, bytes) else str(k): v for k, v in found.items()}

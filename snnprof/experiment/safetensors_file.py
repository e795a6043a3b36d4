"""Files of the safetensors format: a JSON header and raw numbers, nothing that could run.

Written here so that saving needs no package; every reader of the format opens them.
Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from snnprof.core import strict_json
from snnprof.core.errors import SnnprofError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_SUM = "snnprof_crc32"  # in the metadata of our files, of all else in the file
_LENGTH = 8  # bytes: the header's length, little-endian
_MOST_DIMENSIONS = 64  # torch has no more
_LONGEST_HEADER = 100_000_000  # as the format's own reader


def is_safetensors(content: bytes) -> bool:
    """Whether these bytes begin as such a file does."""
    return len(content) > _LENGTH and content[_LENGTH : _LENGTH + 1] == b"{"


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file's content.

    Raises:
        SnnprofError: a tensor that the format cannot hold (sparse, quantised, an unusual dtype).
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    parts = []
    end = 0
    for name, tensor in tensors.items():
        dtype = _NAMES.get(tensor.dtype)
        if dtype is None or tensor.layout is not torch.strided:
            raise SnnprofError(f"{name} is {tensor.dtype}, {tensor.layout}: no file can hold it")
        part = _raw(tensor)
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        end += len(part)
        parts.append(part)
    header[_METADATA][_SUM] = _checksum(header, parts)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH)  # the numbers begin at a multiple of 8
    return b"".join((len(text).to_bytes(_LENGTH, "little"), text, *parts))


def _raw(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _checksum(header: Mapping[str, Any], body: Iterable[bytes | memoryview]) -> str:
    """CRC-32 of the header, without the checksum in it, and of the numbers, piece by piece."""
    metadata = {key: value for key, value in header[_METADATA].items() if key != _SUM}
    text = json.dumps({**header, _METADATA: metadata}, sort_keys=True)
    found = zlib.crc32(text.encode())
    for piece in body:
        found = zlib.crc32(piece, found)
    return f"{found:08x}"


def from_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the metadata, of a file's content.

    Raises:
        ValueError: damaged.
    """
    header, begin = _header(content)
    metadata = header.get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is no text")
    body = memoryview(content)[begin:]
    entries = {name: entry for name, entry in header.items() if name != _METADATA}
    tensors = {name: _tensor(name, entry, body) for name, entry in entries.items()}
    _check_cover([entry["data_offsets"] for entry in entries.values()], len(body))
    if _SUM in metadata and metadata[_SUM] != _checksum(header, [body]):
        raise ValueError("its checksum is of other numbers")
    return tensors, {key: value for key, value in metadata.items() if key != _SUM}


def _check_cover(places: list[list[int]], size: int) -> None:
    """Raise ValueError unless the tensors lie end to end, from the first byte to the last."""
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise ValueError("its tensors overlap, or leave gaps")
        reached = end
    if reached != size:
        raise ValueError(f"it has {size - reached} bytes that belong to no tensor")


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(content[:_LENGTH], "little")
    if length > min(_LONGEST_HEADER, len(content) - _LENGTH):
        raise ValueError("it is cut off")
    header = strict_json.parse(content[_LENGTH : _LENGTH + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no list of tensors")
    return header, _LENGTH + length


def _tensor(name: str, entry: object, body: memoryview) -> Tensor:
    if not isinstance(entry, dict) or str(entry.get("dtype")) not in _DTYPES:
        raise ValueError(f"{name!r} is of no known dtype")
    dtype = _DTYPES[entry["dtype"]]
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has no shape or place")
    count = math.prod(shape)
    begin, end = offsets
    if end > len(body):
        raise ValueError("it is cut off")
    if end - begin != count * dtype.itemsize:
        raise ValueError(f"{name!r} has another size than its shape says")
    if not count:
        return _empty(name, shape, dtype)
    return torch.frombuffer(bytearray(body[begin:end]), dtype=dtype).reshape(shape)


def _empty(name: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    try:
        return torch.empty(shape, dtype=dtype)
    except RuntimeError as error:  # beside a 0, dimensions whose product passes 2^63
        raise ValueError(f"{name!r} has a shape that no tensor has") from error


def _are_counts(value: object) -> TypeGuard[list[int]]:
    """True for a list of whole numbers, none below zero, as short as a shape can be."""
    short = isinstance(value, list) and len(value) <= _MOST_DIMENSIONS
    return short and all(type(n) is int and 0 <= n < 2**63 for n in value)  # type: ignore[attr-defined]

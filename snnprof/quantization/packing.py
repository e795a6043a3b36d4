"""A network's weights in as few bytes as its quantisers allow, and back.

The byte layout is described in docs/weights.md.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from snnprof.core import strict_json
from snnprof.core.atomic_files import write_whole
from snnprof.core.errors import SnnprofError, reason_of
from snnprof.quantization.codecs import CODECS
from snnprof.quantization.quantized_layers import (
    latent_weight,
    quantised_layers,
    quantiser_of,
    weights_of,
)
from snnprof.quantization.quantizers import Channels, Quantiser
from snnprof.results.decoding import decode

MAGIC = b"snnpack\x02"  # the last byte is the version of the layout
_WITHOUT_SUM = b"snnpack\x01"  # the version before: no checksum at the end
PLAIN = "plain"
_LENGTH_BYTES = 4  # of the header
_SUM_BYTES = 4
_MOST_DIMENSIONS = 64  # torch has no more
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    )
}


@dataclass(frozen=True)
class Entry:
    """One tensor of the network, as a line in the table of contents.

    Attributes:
        names: of its state_dict, without what a parametrisation adds; several if shared.
        coding: "1bit", "1.5bit", or "plain": the numbers themselves, little-endian.
        dtype: type in the network, e.g. "float32".
        shape: of the tensor.
        channels: where its output channels are; matters to the scales.
    """

    names: tuple[str, ...]
    coding: str
    dtype: str
    shape: tuple[int, ...]
    channels: Channels

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        count = math.prod(self.shape)
        if self.coding == PLAIN:
            return count * _DTYPES[self.dtype].itemsize
        codec = CODECS.find(self.coding)
        return codec.code_bytes(count) + 4 * codec.scales(self.shape, self.channels)


@dataclass(frozen=True)
class PackedWeights:
    """The weights of a network as bytes, and apart from them what else its state holds.

    Attributes:
        contents: what ``weights`` holds, one after the other.
        weights: weights and biases; its length is ``size_bytes(model, "packed")``.
        rest_contents: what ``rest`` holds.
        rest: parameters of normalisation layers and neurons, and buffers: no part of the
            size, but needed to restore the network.
    """

    contents: tuple[Entry, ...]
    weights: bytes
    rest_contents: tuple[Entry, ...]
    rest: bytes

    def save(self, path: str | Path) -> None:
        """Write everything to a file, which appears whole or not at all.

        Raises:
            SnnprofError: the file cannot be written.
        """
        tables = [[dataclasses.asdict(e) for e in c] for c in (self.contents, self.rest_contents)]
        header = json.dumps(tables).encode()
        length = len(header).to_bytes(_LENGTH_BYTES, "little")
        content = MAGIC + length + header + self.weights + self.rest
        write_whole(path, content + _checksum(content))

    @staticmethod
    def load(path: str | Path) -> PackedWeights:
        """Read what :meth:`save` wrote.

        Raises:
            SnnprofError: no such file, another kind of file, or a damaged one.
        """
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise SnnprofError(f"{path}: {reason_of(error)}") from error
        start = len(MAGIC) + _LENGTH_BYTES
        if not data.startswith((MAGIC, _WITHOUT_SUM)) or len(data) < start:
            raise SnnprofError(f"{path} is no file of packed weights, as pack(model).save writes")
        content = data[:-_SUM_BYTES] if data.startswith(MAGIC) else data
        end = start + int.from_bytes(data[len(MAGIC) : start], "little")
        try:
            weights, rest = decode(_TABLES, strict_json.parse(content[start:end]), "the table")
            for entry in (*weights, *rest):
                _check_entry(entry)
            _check_once((*weights, *rest))
        except (ValueError, LookupError) as error:
            raise SnnprofError(
                f"{path}: its table of contents is truncated or damaged: {error}"
            ) from error
        middle = end + sum(entry.size for entry in weights)
        packed = PackedWeights(weights, content[end:middle], rest, content[middle:])
        packed.check()
        if content is not data and data[-_SUM_BYTES:] != _checksum(content):
            raise SnnprofError(f"{path} is damaged: its checksum is of other weights")
        return packed

    def check(self) -> None:
        """Raise SnnprofError, naming the tensor, where the bytes are not what is listed."""
        for entries, payload in ((self.contents, self.weights), (self.rest_contents, self.rest)):
            end = 0
            for entry in entries:
                end += entry.size
                if end > len(payload):
                    raise SnnprofError(
                        f"packed weights are truncated: {entry.names[0]!r} ends at byte {end}, "
                        f"and there are {len(payload)}"
                    )
            if end < len(payload):
                raise SnnprofError(f"packed weights have {len(payload) - end} bytes too many")


def pack(model: nn.Module) -> PackedWeights:
    """The quantised weights of a network as bits or trits with their scales, the rest as is.

    A 1-bit weight takes one bit, and four bytes for each output channel; a 1.5-bit weight a
    fifth of a byte, and four bytes for each layer. Latent weights are not kept: what is packed
    computes the same, and cannot go on training from the same point.

    Args:
        model: any module; what :func:`snnprof.quantize` has quantised is packed so.

    Raises:
        SnnprofError: a quantised weight that is NaN or infinite, or of a type that fp32
            scales cannot hold; state that is no tensor.
    """
    slots = _slots(model)
    weights = [slot for slot in slots if slot.is_weight]
    rest = [slot for slot in slots if not slot.is_weight]
    return PackedWeights(
        contents=tuple(slot.entry for slot in weights),
        weights=b"".join(map(_encode, weights)),
        rest_contents=tuple(slot.entry for slot in rest),
        rest=b"".join(map(_encode, rest)),
    )


def unpack(packed: PackedWeights | str | Path, model: nn.Module) -> None:
    """Put packed weights into a network of the same architecture, quantised the same way.

    Its quantised weights, and so its outputs, are then those of the packed network, to the
    last bit. Its latent weights become the quantised ones.

    Args:
        packed: of :func:`pack`, or the file that it was saved to.
        model: changed in place, all of it or (after an error) nothing.

    Raises:
        SnnprofError: a damaged file, or another architecture; or weights that were not clipped,
            for a model that clips them; the message names the tensor.
    """
    if not isinstance(packed, PackedWeights):
        packed = PackedWeights.load(packed)
    packed.check()
    slots = {slot.entry.names[0]: slot for slot in _slots(model)}
    found = _cut(packed.contents, packed.weights) | _cut(packed.rest_contents, packed.rest)
    for name in [*(n for n in found if n not in slots), *(n for n in slots if n not in found)]:
        where = "the packed weights" if name in found else "the model"
        raise SnnprofError(f"another architecture: {name!r} is in {where} only")
    for name, (entry, _) in found.items():
        _check_alike(entry, slots[name].entry)
    decoded = [(slots[name], _decode(entry, data)) for name, (entry, data) in found.items()]
    for slot, values in decoded:
        _check_clip(slot, values)
    with torch.no_grad():
        for slot, values in decoded:
            slot.tensor.copy_(values)


def packed_bytes(tensor: Tensor, quantiser: Quantiser | None) -> int:
    """Bytes that a weight or bias takes when packed.

    Args:
        tensor: the parameter; the latent weight of a quantised layer.
        quantiser: what quantises it, or None.
    """
    return _entry_of((), tensor, quantiser).size


@dataclass(frozen=True)
class _Slot:
    """A tensor of a network, where it is read from and written to."""

    entry: Entry
    tensor: Tensor
    layer: nn.Module | None  # that computes with it quantised
    is_weight: bool


def _slots(model: nn.Module) -> list[_Slot]:
    """Everything in a network's state_dict, each tensor once."""
    layers = {id(latent_weight(layer)): (layer, q) for _, layer, q in quantised_layers(model)}
    weights = {id(weight) for weight in weights_of(model)}
    names: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        kind = _dtype_name(tensor) if isinstance(tensor, Tensor) else type(tensor).__name__
        if kind not in _DTYPES:
            raise SnnprofError(f"{key!r} is of type {kind}, which cannot be packed")
        if id(tensor) in layers:
            key = key.removesuffix("parametrizations.weight.original") + "weight"
        names.setdefault(id(tensor), []).append(key)
        tensors[id(tensor)] = tensor
    slots = []
    for identity, tensor in tensors.items():
        layer, quantiser = layers.get(identity, (None, None))
        entry = _entry_of(tuple(names[identity]), tensor, quantiser)
        slots.append(_Slot(entry, tensor, layer, identity in weights))
    return slots


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _entry_of(names: tuple[str, ...], tensor: Tensor, quantiser: Quantiser | None) -> Entry:
    return Entry(
        names=names,
        coding=quantiser.scheme if quantiser else PLAIN,
        dtype=_dtype_name(tensor),
        shape=tuple(tensor.shape),
        channels=quantiser.channels if quantiser else Channels(),
    )


_TABLES = tuple[tuple[Entry, ...], tuple[Entry, ...]]  # of weights, and of the rest


def _check_entry(entry: Entry) -> None:
    """Raise ValueError or LookupError for a tensor that cannot be."""
    if not entry.names:
        raise ValueError("a tensor without a name")
    if len(entry.shape) > _MOST_DIMENSIONS or min(entry.shape, default=0) < 0:
        raise ValueError(f"{entry.names[0]!r:.80} has a shape that no tensor has")
    if entry.channels.groups < 1:
        raise ValueError(f"{entry.names[0]!r:.80} has {entry.channels.groups} groups")
    if entry.dtype not in _DTYPES:
        raise ValueError(f"{entry.names[0]!r:.80} is of type {entry.dtype!r:.80}")
    _ = entry.size  # of a coding and a shape that have one


def _check_once(entries: tuple[Entry, ...]) -> None:
    seen: set[str] = set()
    for name in (name for entry in entries for name in entry.names):
        if name in seen:
            raise ValueError(f"{name!r:.80} is there twice")
        seen.add(name)


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM_BYTES, "little")


def _cut(entries: tuple[Entry, ...], payload: bytes) -> dict[str, tuple[Entry, bytes]]:
    """Each entry with its bytes, by its first name."""
    pieces, start = {}, 0
    for entry in entries:
        pieces[entry.names[0]] = entry, payload[start : start + entry.size]
        start += entry.size
    return pieces


def _check_alike(packed: Entry, own: Entry) -> None:
    """Raise SnnprofError where a tensor is of another make than the packed one."""
    for field in dataclasses.fields(Entry):
        one, other = getattr(packed, field.name), getattr(own, field.name)
        if one != other:
            raise SnnprofError(
                f"another architecture: {packed.names[0]!r} is packed with {field.name} {one}, "
                f"and the model has {other}"
            )


def _check_clip(slot: _Slot, values: Tensor) -> None:
    """Raise SnnprofError where the model would clip a packed weight to another one."""
    quantiser = quantiser_of(slot.layer) if slot.layer is not None else None
    if quantiser is not None and quantiser.clip and bool((values.abs() > 1).any()):
        raise SnnprofError(
            f"{slot.entry.names[0]!r} is packed with weights beyond 1, and the model clips them to "
            "[-1, 1]: quantise it without clip (authors_code)"
        )


def _encode(slot: _Slot) -> bytes:
    if slot.layer is None:
        plain = slot.tensor.detach().cpu().reshape(-1)
        return plain.view(torch.uint8).numpy().tobytes()
    name, entry = slot.entry.names[0], slot.entry
    weight: Tensor = slot.layer.weight.detach().cpu()  # type: ignore[operator]
    if weight.dtype == torch.float64:
        raise SnnprofError(
            f"{name!r} is of type float64, and its scales are packed as fp32: use model.float()"
        )
    if not weight.isfinite().all():
        raise SnnprofError(f"{name!r} is NaN or infinite: there is nothing to pack in it")
    return CODECS.find(entry.coding).encode(weight, entry.channels)


def _decode(entry: Entry, data: bytes) -> Tensor:
    shape = torch.Size(entry.shape)
    if entry.coding == PLAIN:
        dtype = _DTYPES[entry.dtype]
        if not data:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
    try:
        return CODECS.find(entry.coding).decode(data, shape, entry.channels)
    except ValueError as error:
        raise SnnprofError(f"damaged packed weights: {entry.names[0]!r} has {error}") from error

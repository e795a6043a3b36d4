"""Quantised weights as bytes and back: one bit per weight, or five trits per byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnprof.core.registry import Registry
from snnprof.quantization.quantizers import Channels

Bytes = NDArray[np.uint8]

TRITS_PER_BYTE = 5  # 3^5 = 243 of 256 values
_PLACES = 3 ** np.arange(TRITS_PER_BYTE)  # 1, 3, 9, 27, 81: the first trit is the lowest
_SIGN_OF_TRIT = np.array([0, 1, -1], np.int8)


def pack_bits(signs: NDArray[np.int8]) -> Bytes:
    """Eight signs per byte, the first in the lowest bit; 1 is + or zero, 0 is -; padded with 0."""
    return np.packbits(signs >= 0, bitorder="little")


def unpack_bits(code: Bytes, count: int) -> NDArray[np.int8]:
    """The first ``count`` signs, +1 or -1."""
    bits = np.unpackbits(code, count=count, bitorder="little")
    return 2 * bits.astype(np.int8) - 1


def pack_trits(signs: NDArray[np.int8]) -> Bytes:
    """Five signs per byte, sum of t_i * 3^i with t = 0, 1, 2 for 0, +, -; padded with 0."""
    trits = np.where(signs < 0, 2, signs).astype(np.uint8)
    padded = np.zeros(-(-signs.size // TRITS_PER_BYTE) * TRITS_PER_BYTE, np.uint8)
    padded[: signs.size] = trits
    code: Bytes = (padded.reshape(-1, TRITS_PER_BYTE) @ _PLACES).astype(np.uint8)
    return code


def unpack_trits(code: Bytes, count: int) -> NDArray[np.int8]:
    """The first ``count`` signs, 0, +1 or -1.

    Raises:
        ValueError: a byte above 242, which no five trits make.
    """
    if code.size and code.max() >= 3**TRITS_PER_BYTE:
        raise ValueError(f"a byte of value {code.max()}, five trits make 242 at most")
    trits = code[:, None] // _PLACES % 3
    signs: NDArray[np.int8] = _SIGN_OF_TRIT[trits.reshape(-1)[:count]]
    return signs


@dataclass(frozen=True)
class Codec:
    """How the weights of a scheme are stored: codes for the signs, fp32 scales.

    Attributes:
        per_byte: weights in a byte.
        per_channel: a scale for each output channel; else one for the layer.
        pack: signs to bytes.
        unpack: bytes and the number of signs to signs.
    """

    per_byte: int
    per_channel: bool
    pack: Callable[[NDArray[np.int8]], Bytes]
    unpack: Callable[[Bytes, int], NDArray[np.int8]]

    def code_bytes(self, weights: int) -> int:
        """Bytes of the codes of that many weights."""
        return -(-weights // self.per_byte)

    def scales(self, shape: tuple[int, ...], channels: Channels) -> int:
        """Number of scales of a weight of this shape."""
        return channels.count(shape) if self.per_channel else 1

    def encode(self, weight: Tensor, channels: Channels) -> bytes:
        """Codes, then scales (little-endian fp32), of a quantised weight.

        Args:
            weight: quantised, on the CPU; of a type whose numbers float32 can hold.
            channels: where its output channels are.
        """
        signs = weight.sign().flatten().to(torch.int8).numpy()
        magnitude = channels.split(weight.abs())
        largest = magnitude.amax((1, 3)) if self.per_channel else magnitude.amax()
        scales = largest.flatten().float().numpy().astype("<f4")
        return self.pack(signs).tobytes() + scales.tobytes()

    def decode(self, data: bytes, shape: torch.Size, channels: Channels) -> Tensor:
        """The quantised weight, float32, that :meth:`encode` stored.

        Raises:
            ValueError: codes that cannot be, or scales that are negative or not finite.
        """
        size = self.code_bytes(shape.numel())
        code = np.frombuffer(data, np.uint8, size)
        scales = np.frombuffer(data, "<f4", offset=size).astype(np.float32)
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise ValueError("a scale that is negative or not finite")
        signs = torch.from_numpy(self.unpack(code, shape.numel())).float().reshape(shape)
        by_channel = channels.split(signs)
        groups, _, width, _ = by_channel.shape
        scale = torch.from_numpy(scales)
        scale = scale.reshape(groups, 1, width, 1) if self.per_channel else scale
        return (by_channel * scale).reshape(shape)


CODECS: Registry[Codec] = Registry("packing of weight scheme")
CODECS.register("1bit")(Codec(8, True, pack_bits, unpack_bits))
CODECS.register("1.5bit")(Codec(TRITS_PER_BYTE, False, pack_trits, unpack_trits))

"""How many bytes a network's weights take, under four accountings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from snnprof.core.registry import Registry
from snnprof.quantization.packing import packed_bytes
from snnprof.quantization.quantized_layers import latent_weight, quantised_layers, weights_of
from snnprof.quantization.quantizers import SCHEMES, Quantiser

_FP32_BYTES = 4


@dataclass(frozen=True)
class Weight:
    """A weight or bias as it is stored.

    Attributes:
        tensor: the parameter; the latent weight of a quantised layer.
        quantiser: what quantises it, or None.
    """

    tensor: Tensor
    quantiser: Quantiser | None

    @property
    def bits(self) -> float | None:
        """That its scheme's name claims; None in full precision."""
        return SCHEMES.find(self.quantiser.scheme).bits if self.quantiser else None


ACCOUNTINGS: Registry[Callable[[Weight], float]] = Registry("size accounting")


@ACCOUNTINGS.register("packed")
def _packed(weight: Weight) -> float:
    """The bytes that :func:`snnprof.pack` writes, with scales and padding to whole bytes."""
    return packed_bytes(weight.tensor, weight.quantiser)


@ACCOUNTINGS.register("fp32")
def _fp32(weight: Weight) -> float:
    """As if nothing were quantised."""
    return weight.tensor.numel() * _FP32_BYTES


@ACCOUNTINGS.register("nominal")
def _nominal(weight: Weight) -> float:
    """The named bits per quantised weight, 4 bytes for the rest, no scales, no padding."""
    if weight.bits is None:
        return _fp32(weight)
    return weight.tensor.numel() * weight.bits / 8


@ACCOUNTINGS.register("paper")
def _paper(weight: Weight) -> float:
    """The HD-LIF paper's: twice the named bits, that is 0.25 and 0.375 byte per weight."""
    return _fp32(weight) if weight.bits is None else 2 * _nominal(weight)


def size_bytes(model: nn.Module, accounting: str = "packed") -> float:
    """Bytes of the stored weights and biases; normalisation and neuron parameters excluded.

    A parameter that several layers share counts once.

    Args:
        model: any module.
        accounting: "packed", the bytes that :func:`snnprof.pack` really needs (weights that
            are not quantised: of their own type); "fp32", 4 bytes each; "nominal", 1/8 and
            1.5/8 byte per 1-bit and 1.5-bit weight; "paper", twice that, as the HD-LIF paper
            counts. The last two leave out the scales and take 4 bytes for the rest.

    Raises:
        SnnprofError: unknown accounting.
    """
    count = ACCOUNTINGS.find(accounting)
    quantisers = {id(latent_weight(layer)): q for _, layer, q in quantised_layers(model)}
    return sum(count(Weight(w, quantisers.get(id(w)))) for w in weights_of(model))

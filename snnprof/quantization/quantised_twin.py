"""The quantised twin of a spiking network: few-bit activations in the place of its neurons.

A neuron that fires up to T times in T steps tells one of T + 1 values, which are as many bits as
log2(T + 1): the baseline that is fair to it is a dense network of activations that wide
(Yan et al., arXiv 2409.08290).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snnprof.core.errors import SnnprofError
from snnprof.quantization.quantized_layers import layers_of
from snnprof.spiking.dense_twin import twin_of

WEIGHT_BITS = 8
_LARGEST = 2 ** (WEIGHT_BITS - 1) - 1
_CLIP = 3.0  # three standard deviations of a current behind a batch norm


def activation_bits(timesteps: int) -> int:
    """ceil(log2(T + 1)): 1 for T = 1, 2 for 2 and 3, 3 for 4 to 7."""
    return timesteps.bit_length()


class QuantisedReLU(nn.Module):
    """ReLU clipped at a learnt alpha, in 2^bits - 1 equal steps.

    y = alpha / n * round(n / alpha * min(max(x, 0), alpha)), n = 2^bits - 1; the rounding passes
    gradients straight through, and alpha's is that of the clipping: PACT, Choi et al. 2018,
    arXiv 1805.06085. Where training takes alpha to 0 or below, y is 0; alpha's gradient is still
    that of what it clips, so that it can rise again.

    Args:
        bits: of the output.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.alpha = nn.Parameter(torch.tensor(_CLIP))

    def forward(self, x: Tensor) -> Tensor:
        """The shape of x."""
        alpha = self.alpha + (self.alpha.relu() - self.alpha).detach()
        clipped = torch.minimum(x.relu(), alpha)
        step = alpha.detach() / (2**self.bits - 1)
        levels = clipped.detach() / torch.where(step > 0, step, 1)
        rounded = torch.round(levels) * step
        out: Tensor = rounded + (clipped - clipped.detach())
        return out

    def extra_repr(self) -> str:
        """Shown when the model is printed."""
        return f"bits={self.bits}"


class EightBitWeight(nn.Module):
    """A weight in 255 equal steps per output channel, from -max|w| to max|w|, straight through.

    Args:
        channel_dim: of the output channels; 1 in a transposed convolution.
    """

    def __init__(self, channel_dim: int = 0) -> None:
        super().__init__()
        self.channel_dim = channel_dim

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer computes with."""
        dims = [dim for dim in range(weight.dim()) if dim != self.channel_dim]
        fixed = weight.detach()
        largest = fixed.abs().amax(dims, keepdim=True)
        step = torch.where(largest > 0, largest, 1) / _LARGEST
        out: Tensor = torch.round(fixed / step) * step + (weight - fixed)
        return out


def quantised_twin(model: nn.Module, timesteps: int) -> nn.Module:
    """As :func:`~snnprof.dense_twin`, of ceil(log2(T + 1))-bit activations and 8-bit weights.

    Weights that are quantised already stay as they are.

    Args:
        model: as of :func:`~snnprof.dense_twin`.
        timesteps: T of the spiking network; the twin is run at T = 1.

    Raises:
        SnnprofError: as :func:`~snnprof.dense_twin`, or a T of more than 8 bits.
    """
    bits = activation_bits(timesteps)
    if bits > WEIGHT_BITS:
        raise SnnprofError(
            f"timesteps={timesteps} are {bits} bits of activation, and there is a price up to "
            f"{WEIGHT_BITS}: use at most {2**WEIGHT_BITS - 1} time steps"
        )
    twin = twin_of(model, partial(QuantisedReLU, bits))
    for _, layer in layers_of(twin):
        if not parametrize.is_parametrized(layer, "weight"):
            transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
            parametrize.register_parametrization(layer, "weight", EightBitWeight(int(transposed)))
    return twin

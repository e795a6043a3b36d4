"""What random networks are made of: neurons that put out chosen values, and ways to multiply.

Every module here that multiplies is a leaf, so that a hook sees its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
OPERATORS = {
    1: torch.ops.aten.conv1d.default,
    2: torch.ops.aten.conv2d.default,
    3: torch.ops.aten.conv3d.default,
}


class Neurons(nn.Module):
    """A layer that puts out values of a pool, chosen by its input; without a pool, reals.

    Args:
        pool: the values; None for reals.
        rare: values that are written into the output of one call: (call, place, value), the place
            modulo the output's size.
        arrange: how the output lies in memory.
    """

    def __init__(
        self,
        pool: list[float] | None,
        rare: list[tuple[int, int, float]],
        arrange: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.pool = pool
        self.rare = rare
        self.arrange = arrange
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        share = torch.nan_to_num(x.double() * 1000.0, 0.0, 1.0, 2.0).sin().abs()
        if self.pool is None:
            out = (share - 0.5).to(x.dtype)
        else:
            place = (share * len(self.pool)).long().clamp(max=len(self.pool) - 1)
            out = torch.tensor(self.pool, dtype=x.dtype)[place]
        for call, place, value in self.rare:
            if call == self.calls:
                out = out.contiguous()
                out.view(-1)[place % out.numel()] = value
        self.calls += 1
        return self.arrange(out)


class SequenceNeurons(Neurons):
    """The same on [T, B, ...]."""


@snnprof.register_neuron(Neurons)
def _single_steps(neurons: Neurons) -> snnprof.NeuronEquations:
    return snnprof.NeuronEquations(multi_step=False)


@snnprof.register_neuron(SequenceNeurons)
def _sequences(neurons: SequenceNeurons) -> snnprof.NeuronEquations:
    return snnprof.NeuronEquations(multi_step=True)


@dataclass(frozen=True)
class Geometry:
    """A convolution's settings, as many of each as there are dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class FunctionalConvolution(nn.Module):
    """A convolution written as a function, of a parameter of any name.

    Args:
        weight: [C_out, C_in / groups, *kernel].
        geometry: its settings.
        name: the parameter's name.
        operator: call torch's operator itself, as an exported graph does.
    """

    def __init__(self, weight: Tensor, geometry: Geometry, name: str, operator: bool) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(weight))
        self.name = name
        self.geometry = geometry
        self.function = (OPERATORS if operator else CONVOLUTIONS)[weight.dim() - 2]

    def used(self) -> Tensor:
        return getattr(self, self.name)

    def forward(self, x: Tensor) -> Tensor:
        g = self.geometry
        return self.function(
            x, self.used(), None, list(g.stride), list(g.padding), list(g.dilation), g.groups
        )


class FunctionalLinear(nn.Module):
    """``F.linear`` of a parameter of any name, or of a weight that is made of it at each call."""

    def __init__(
        self, weight: Tensor, name: str, quantise: Callable[[Tensor], Tensor] | None
    ) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(weight))
        self.name = name
        self.quantise = quantise

    def used(self) -> Tensor:
        weight: Tensor = getattr(self, self.name)
        return weight if self.quantise is None else self.quantise(weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.used())


class Quantised(nn.Module):
    """A parametrisation: signs, times the mean magnitude of each row."""

    def forward(self, weight: Tensor) -> Tensor:
        return signs_per_row(weight)


def signs_per_row(weight: Tensor) -> Tensor:
    """Signs (0 near zero) times a scale for each first index."""
    scale = weight.abs().flatten(1).mean(1).view(-1, *[1] * (weight.dim() - 1))
    signed = torch.where(weight < 0, -scale, scale)
    return torch.where(weight.abs() < 0.3 * scale, 0.0, signed)


@dataclass(frozen=True)
class Form:
    """One way of writing a product of [..., I, K] and [..., K, J].

    Attributes:
        op: the name of its row.
        write: the product, of a and of b as it is written.
        turned: b is handed over as [..., J, K].
        dims: the rank that both must have; None for any.
    """

    op: str
    write: Callable[[Tensor, Tensor], Tensor]
    turned: bool = False
    dims: int | None = None


FORMS = (
    Form("matmul", lambda a, b: a @ b),
    Form("matmul", torch.matmul),
    Form("matmul", lambda a, b: a.matmul(b)),
    Form("matmul", lambda a, b: a @ b.transpose(-2, -1), turned=True),
    Form("matmul", torch.ops.aten.matmul.default),
    Form("bmm", torch.bmm, dims=3),
    Form("bmm", lambda a, b: torch.bmm(a, b.mT), turned=True, dims=3),
    Form("baddbmm", lambda a, b: torch.baddbmm(a.new_zeros(()), a, b), dims=3),
    Form("einsum", lambda a, b: torch.einsum("...ik,...kj->...ij", a, b)),
    Form("einsum", lambda a, b: torch.einsum("nik,njk->nij", a, b), turned=True, dims=3),
    Form("einsum", lambda a, b: torch.einsum("nik,nkj->nji", a, b), dims=3),
)


class Product(nn.Module):
    """A product of two activations, written in one form."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.form.write(a, b)


class WithItself(nn.Module):
    """Spiking self-attention without softmax: [N, I, K] to [N, I, I] or to [N, I, K].

    Args:
        first, second: what fires as q and as k and v.
        form: of q k^T.
        back: of the product with v; None for none.
        dtype: that q and k are multiplied in; None for their own.
    """

    def __init__(
        self,
        first: Neurons,
        second: Neurons,
        form: Form,
        back: Form | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.turned = form.turned
        self.dtype = dtype
        self.scores = Product(form)
        self.values = None if back is None else Product(back)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        left, right = a.to(self.dtype or a.dtype), b.to(self.dtype or b.dtype)
        scores = self.scores(left, right if self.turned else right.mT).to(x.dtype)
        return scores if self.values is None else self.values(scores, b)


WEIGHT_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x @ w": lambda x, w: x @ w,
    "torch.matmul(x, w.t())": lambda x, w: torch.matmul(x, w.t()),
    "w @ x.mT": lambda x, w: w @ x.mT,
}


class WeightProduct(nn.Module):
    """A matrix product with a parameter [K, J], [J, K] where it is turned."""

    def __init__(self, weight: Tensor, form: str, name: str) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(weight))
        self.name = name
        self.form = form

    def used(self) -> Tensor:
        return getattr(self, self.name)

    def forward(self, x: Tensor) -> Tensor:
        return WEIGHT_FORMS[self.form](x, self.used())


def flat(x: Tensor) -> Tensor:
    """Unchanged."""
    return x


def channels_last(x: Tensor) -> Tensor:
    """The same, channels last in memory where there is such a format."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()]) if x.dim() in formats else x


def transposed(x: Tensor) -> Tensor:
    """The same, its last two dimensions exchanged in memory."""
    return x.mT.contiguous().mT if x.dim() > 2 else x


def sliced(x: Tensor) -> Tensor:
    """The same, as a part of a larger tensor."""
    return torch.cat((x, x), -1)[..., : x.shape[-1]]


def expanded(x: Tensor) -> Tensor:
    """The first row, as often as there were rows."""
    return x[:1].expand(x.shape)


KEEPING_ORDER = (flat, channels_last)
ARRANGEMENTS = (flat, flat, channels_last, transposed, sliced, expanded)

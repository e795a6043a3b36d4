"""One call of a linear operation: its settings, without its operands."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from snnprof.counting.linear_ops import LinearOperation, frozen


class Axis(NamedTuple):
    """One spatial dimension of a convolution.

    Attributes:
        inputs, outputs: positions of the input and of the output.
        kernel, stride, padding, dilation: as the convolution has them; the padding before.
        transposed: whether it spreads its kernel over the output.
        mode, widened: how the layer pads by itself, and by how much (before, after).
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    transposed: bool
    mode: str | None
    widened: tuple[int, int]


@dataclass(frozen=True)
class LinearCall:
    """One call of a linear operation, reduced to what its fan-out depends on.

    Attributes:
        operation: the operation.
        apply: the call as a function of (input, weight), bias left out.
        settings: stride, padding and the like; two calls with equal settings, weights and
            input shapes have equal fan-out.
        groups: 1 for a linear layer.
        has_tensor_setting: True where a tensor of several elements is among the settings:
            such calls are not compared.
        geometry: stride, padding, dilation and output padding as given; None if not known.
        mode, widened: padding that the layer does itself, (before, after) in each dimension.
    """

    operation: LinearOperation
    apply: Callable[[Tensor, Tensor], Tensor]
    settings: tuple[object, ...]
    groups: int
    has_tensor_setting: bool = False
    geometry: tuple[Any, ...] | None = None
    mode: str | None = None
    widened: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(operation: LinearOperation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LinearCall:
        """The call of the operation with these arguments."""
        given, named = operation.without_operands(args, kwargs)

        def apply(x: Tensor, weight: Tensor) -> Tensor:
            return operation.apply(x, weight, given, named)

        groups = operation.groups.of(given, named) if operation.groups else None
        places = operation.geometry
        geometry = places and tuple(place and place.of(given, named) for place in places)
        tensors = [v for v in (*given, *named.values()) if isinstance(v, Tensor)]
        return LinearCall(
            operation,
            apply,
            settings=(*given, *named.items()),
            groups=1 if groups is None else groups,
            has_tensor_setting=any(x.numel() != 1 for x in tensors),
            geometry=geometry,
        )

    def axes(self, spatial: torch.Size, kernel: torch.Size) -> list[Axis] | None:
        """The spatial dimensions; None where their geometry is not known.

        Args:
            spatial: positions of the input in each.
            kernel: taps in each.
        """
        if self.geometry is None:
            return None
        dims, given = len(spatial), self.geometry
        stride, dilation = _per_axis(given[0], 1, dims), _per_axis(given[2], 1, dims)
        named = given[1] if isinstance(given[1], str) else None
        padding = _per_axis(None if named else given[1], 0, dims)
        extra = _per_axis(given[3], 0, dims)
        axes = []
        for d, inputs in enumerate(spatial):
            widened = self.widened[d] if self.widened else (0, 0)
            span, size, before = dilation[d] * (kernel[d] - 1), inputs + sum(widened), padding[d]
            if self.operation.transposed:
                outputs = (size - 1) * stride[d] - 2 * before + span + extra[d] + 1
            else:
                around = span if named == "same" else 2 * before
                before = span // 2 if named == "same" else before
                outputs = (size + around - span - 1) // stride[d] + 1
            axes.append(
                Axis(
                    *(inputs, outputs, kernel[d], stride[d], before, dilation[d]),
                    *(self.operation.transposed, self.mode, widened),
                )
            )
        return axes

    def row_shape(self, x: Tensor) -> torch.Size:
        """Shape of one row of x (one sample at one time step): [C_in, H, W] or [features]."""
        return x.shape[x.dim() - 1 - self.operation.spatial_dims :]

    def by_output_channel(self, weight: Tensor) -> Tensor:
        """The weight as [C_out, everything else]."""
        if not self.operation.transposed:  # [C_out, C_in / groups, *k]
            return weight.flatten(1)
        # [C_in, C_out / G, *k] to [G, C_in / G, C_out / G, *k] to [C_out, C_in / G, *k]
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        return grouped.transpose(1, 2).flatten(0, 1).flatten(1)

    def sum_output_channels(self, mask: Tensor) -> Tensor:
        """A weight of one output channel per group whose output is the sum of the group's."""
        if self.operation.transposed:
            return mask.sum(1, keepdim=True)
        return mask.reshape(self.groups, -1, *mask.shape[1:]).sum(1)

    def nominal_macs(self, weight: Tensor, row_shape: torch.Size, positions: int) -> int:
        """C_out * H_out * W_out * (C_in / groups) * k_h * k_w, padded taps included, per row.

        As fvcore counts it: a transposed convolution spreads its kernel over the input's
        positions instead of the output's.
        """
        return weight.numel() * (row_shape[1:].numel() if self.operation.transposed else positions)


class RememberedCall:
    """A call whose arguments are kept, so that the next call like it is recognised at once.

    Only calls without keywords are remembered, of operations whose operands come first.

    Args:
        args: the arguments: input, weight, bias, settings.
        call: the call that they make.
    """

    def __init__(self, args: tuple[Any, ...], call: LinearCall) -> None:
        operation = call.operation
        assert operation.leading_operands is not None
        self.call = call
        self._input = operation.input.position
        self._weight = operation.weight.position
        self._settings_start = operation.leading_operands
        x: Tensor = args[self._input]
        self._kept_weight = weakref.ref(args[self._weight])
        self._like = (type(x), x.shape, x.dtype, x.layout)
        self._settings = tuple(map(frozen, args[self._settings_start :]))

    def operands_if_same(
        self, operation: LinearOperation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor] | None:
        """Input and weight if this is the same call again, with other input values."""
        if operation is not self.call.operation or kwargs:
            return None
        x, weight = args[self._input], args[self._weight]
        same = (
            weight is self._kept_weight()
            and (type(x), x.shape, x.dtype, x.layout) == self._like
            and args[self._settings_start :] == self._settings
            and torch._C._functorch.peek_interpreter_stack() is None
        )
        return (x, weight) if same else None


def unpadded(
    call: LinearCall, module: nn.Module, given: object, x: Tensor
) -> tuple[LinearCall, Tensor]:
    """Undo the padding that a circular, reflecting or replicating convolution does itself.

    Such a layer pads its input and then convolves without padding. The layer's input is the
    middle of what the convolution received; the padding becomes part of the operation.

    Args:
        call: the convolution.
        module: the module it ran in.
        given: the module's own input.
        x: the convolution's input.
    """
    if not isinstance(module, _ConvNd) or module.padding_mode == "zeros":
        return call, x
    spatial = call.operation.spatial_dims
    mode, pad = module.padding_mode, tuple(module._reversed_padding_repeated_twice)
    # F.pad lists the last dimension first, (before, after) for each.
    around = [(pad[2 * i], pad[2 * i + 1]) for i in reversed(range(spatial))]
    widened = [n + sum(p) for n, p in zip(_spatial_shape(given, spatial), around, strict=False)]
    if list(x.shape[-spatial:]) != widened:
        return call, x
    inner = x
    for dim, (before, after) in zip(range(-spatial, 0), around, strict=True):
        inner = inner.narrow(dim, before, inner.shape[dim] - before - after)

    def apply(row: Tensor, weight: Tensor) -> Tensor:
        return call.apply(F.pad(row, list(pad), mode=mode), weight)

    settings = (*call.settings, mode, *pad)
    return replace(call, apply=apply, settings=settings, mode=mode, widened=tuple(around)), inner


def _per_axis(setting: Any, default: int, dims: int) -> list[int]:
    """A setting of each dimension: given once, for each, or not at all."""
    if setting is None:
        return [default] * dims
    values = [setting] if isinstance(setting, int | Tensor) else list(setting)
    return [int(value) for value in (values * dims if len(values) == 1 else values)]


def _spatial_shape(x: object, spatial: int) -> list[int]:
    return list(x.shape[-spatial:]) if isinstance(x, Tensor) else []

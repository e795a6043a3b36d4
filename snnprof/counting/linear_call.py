"""One call of a linear operation: its settings, without its operands."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from snnprof.counting.linear_ops import LinearOperation, frozen


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
    """

    operation: LinearOperation
    apply: Callable[[Tensor, Tensor], Tensor]
    settings: tuple[object, ...]
    groups: int
    has_tensor_setting: bool = False

    @staticmethod
    def of(operation: LinearOperation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LinearCall:
        """The call of the operation with these arguments."""
        given, named = operation.without_operands(args, kwargs)

        def apply(x: Tensor, weight: Tensor) -> Tensor:
            return operation.apply(x, weight, given, named)

        groups = operation.groups.of(given, named) if operation.groups else None
        tensors = [v for v in (*given, *named.values()) if isinstance(v, Tensor)]
        return LinearCall(
            operation,
            apply,
            settings=(*given, *named.items()),
            groups=1 if groups is None else groups,
            has_tensor_setting=any(x.numel() != 1 for x in tensors),
        )

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

    def nominal_macs(self, weight: Tensor, row_shape: torch.Size, out_shape: torch.Size) -> int:
        """C_out * H_out * W_out * (C_in / groups) * k_h * k_w, padded taps included, per row.

        As fvcore counts it: a transposed convolution spreads its kernel over the input's
        positions instead of the output's.
        """
        positions = row_shape[1:] if self.operation.transposed else out_shape[1:]
        return weight.numel() * positions.numel()  # of a linear layer: of no dimension, 1


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
        self._like = (x.shape, x.dtype, x.layout)
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
            and (x.shape, x.dtype, x.layout) == self._like
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

    return replace(call, apply=apply, settings=(*call.settings, mode, *pad)), inner


def _spatial_shape(x: object, spatial: int) -> list[int]:
    return list(x.shape[-spatial:]) if isinstance(x, Tensor) else []

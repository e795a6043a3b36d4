"""Fan-out maps: how many synapses leave every input position of a linear operation.

One definition serves every linear operation (design: "fan-out f_i"): the gradient, with
respect to the input, of the sum of the operation's output when each weight is replaced by 1
where it is non-zero and by 0 elsewhere. The captured call is replayed with those operands,
so stride, padding, dilation, groups and transposition need no code here. Since the output
is summed, the output channels of one group can be summed first: a single channel per group
is enough, which makes the map about C_out times cheaper than the operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snnprof.counting.scratch import Scratch, as_float, on_host


@dataclass(frozen=True)
class LinearCall:
    """One call of a linear operation, reduced to what its fan-out depends on.

    Attributes:
        op: ``"linear"``, ``"conv2d"``, ``"conv_transpose1d"`` and so on.
        apply: the operation as a function of (input, weight), bias left out.
        settings: stride, padding and the like; two calls with equal settings, weights and
            input shapes have equal fan-out.
        groups: 1 for a linear layer.
        feature_dims: how many trailing dimensions of the input hold one row (one sample at
            one time step): 1 for a linear layer, 1 + d for a d-dimensional convolution.
    """

    op: str
    apply: Callable[[Tensor, Tensor], Tensor]
    settings: tuple[object, ...]
    groups: int
    feature_dims: int

    @property
    def transposed(self) -> bool:
        return self.op.startswith("conv_transpose")

    def row_shape(self, x: Tensor) -> torch.Size:
        """Shape of one row of x, e.g. [C_in, H, W]."""
        return x.shape[x.dim() - self.feature_dims :]

    def by_output_channel(self, weight: Tensor) -> Tensor:
        """The weight as [C_out, everything else]."""
        if not self.transposed:  # [C_out, C_in / groups, *k]
            return weight.flatten(1)
        # [C_in, C_out / G, *k] to [G, C_in / G, C_out / G, *k] to [C_out, C_in / G, *k]
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        return grouped.transpose(1, 2).flatten(0, 1).flatten(1)

    def sum_output_channels(self, mask: Tensor) -> Tensor:
        """A weight of one output channel per group whose output is the sum of the group's."""
        if self.transposed:
            return mask.sum(1, keepdim=True)
        return mask.reshape(self.groups, -1, *mask.shape[1:]).sum(1)

    def nominal_macs(self, weight: Tensor, row_shape: torch.Size, out_shape: torch.Size) -> int:
        """C_out * H_out * W_out * (C_in / groups) * k_h * k_w, padded taps included, per row.

        As fvcore counts it: a transposed convolution spreads its kernel over the input's
        positions instead of the output's.
        """
        if self.feature_dims == 1:
            return weight.numel()
        positions = row_shape[1:] if self.transposed else out_shape[1:]
        return weight.numel() * positions.numel()


def count_synapses(call: LinearCall, weight: Tensor, scratch: Scratch) -> Tensor:
    """Non-zero weights, summed over the output channels of each group.

    Returns:
        float64 whole numbers: a weight of one output channel per group.
    """
    weight = as_float(weight.detach())
    mask = torch.ne(weight, 0, out=scratch.like(weight))
    return call.sum_output_channels(mask).double()


def fan_out(call: LinearCall, synapses: Tensor, row_shape: torch.Size) -> tuple[Tensor, torch.Size]:
    """Synapses out of every input position.

    Args:
        call: the operation.
        synapses: of :func:`count_synapses`.
        row_shape: shape of one row of its input, e.g. [C_in, H, W].

    Returns:
        float64 tensor of ``row_shape``, flattened, of whole numbers; and the shape of one row
        of the output, with one channel per group.
    """
    # Saved-tensor hooks of the surroundings (activation checkpointing counts what passes
    # through them) must not see this small graph of ours.
    unhooked = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    with torch.inference_mode(False), torch.enable_grad(), unhooked:
        row = torch.zeros(
            (1, *row_shape), dtype=torch.float64, device=synapses.device, requires_grad=True
        )
        out = call.apply(row, synapses)
        (gradient,) = torch.autograd.grad(out.sum(), row)
    return gradient.flatten().round(), out.shape[1:]


class FanOut:
    """The fan-out of one weight, kept while the weight cannot have changed.

    A weight that is the same tensor with the same version counter has the same zero
    pattern. A weight made anew for every call (a quantiser's output) is looked at anew.

    Attributes:
        call: the operation.
        per_input: float64 [P], flattened.
        row_size: P, input elements of one row.
        nominal_macs: per row.
    """

    def __init__(
        self, call: LinearCall, x: Tensor, weight: Tensor, synapses: Tensor, dense: bool
    ) -> None:
        self.call = call
        self._dense = dense
        self._synapses = synapses
        self._row_shape = call.row_shape(x)
        self._shape = x.shape
        self.row_size = self._row_shape.numel()
        self.per_input, out_shape = fan_out(call, synapses, self._row_shape)
        self.nominal_macs = call.nominal_macs(weight, self._row_shape, out_shape)

    def follow(self, weight: Tensor) -> None:
        """Take this for the weight from now on; it has the same synapses."""
        self._weight: Callable[[], Tensor | None] = weakref.ref(weight)
        self._version = _version(weight)
        self._form = _form(weight)

    def holds_for(self, call: LinearCall, x: Tensor, weight: Tensor) -> bool:
        """True if a call with these operands surely has this fan-out."""
        return (
            self._weight() is weight
            and self._version is not None
            and self._version == weight._version
            and self._is_alike(call, x)
        )

    def holds_if_dense(self, call: LinearCall, x: Tensor) -> bool:
        """True if such a call has this fan-out, given that no weight is 0."""
        return self._dense and self._is_alike(call, x)

    def equals(self, call: LinearCall, x: Tensor, synapses: Tensor) -> bool:
        """True if such a call has this fan-out, as far as can be told without waiting."""
        return (
            on_host(synapses)
            and self._is_alike(call, x)
            and bool((synapses.numpy() == self._synapses.numpy()).all())
        )

    def _is_alike(self, call: LinearCall, x: Tensor) -> bool:
        same_rows = x.shape == self._shape or call.row_shape(x) == self._row_shape
        return same_rows and call.settings == self.call.settings

    @property
    def unwritten_weight(self) -> Tensor | None:
        """The weight, if it is still alive and, as far as its version tells, what it was.

        None if it was moved, converted or freed since, which leaves no trace in the version.
        """
        weight = self._weight()
        if weight is None or self._version is None or self._version != _version(weight):
            return None
        freed = weight.untyped_storage().nbytes() < weight.nbytes
        return None if freed or _form(weight) != self._form else weight

    def let_go(self) -> None:
        """Forget the weight: a tensor that somebody refers to cannot be swapped, for one."""
        self._weight = lambda: None

    def changed_unseen(self, weight: Tensor, scratch: Scratch) -> Tensor:
        """Whether an unwritten weight has other synapses all the same, as a tensor.

        Writing through ``.data`` leaves the version counter as it was, and so do optimisers
        with ``fused=True``.
        """
        return (count_synapses(self.call, weight, scratch) != self._synapses).any()


def _version(weight: Tensor) -> int | None:
    """How often the weight was written to; None where this is not kept."""
    return None if weight.is_inference() else weight._version


def _form(weight: Tensor) -> tuple[object, ...]:
    """What a tensor is, apart from its values."""
    return (weight.shape, weight.dtype, weight.device)

"""Fan-out maps: how many synapses leave every input position of a linear operation.

One definition serves every linear operation: the gradient, with respect to the input, of the
sum of the operation's output when each weight is replaced by 1 where it is non-zero and by 0
elsewhere. The call that was seen is replayed with those operands, so stride, padding, dilation,
groups and transposition need no code here. Since the output is summed, the output channels of
one group can be summed first: a single channel per group is enough, which makes the map about
C_out times cheaper than the operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from snnprof.counting.linear_call import LinearCall
from snnprof.counting.scratch import Scratch, as_float, on_host

_ROUNDING = 1e-6  # of sums of whole numbers in float64


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

    Raises:
        ValueError: the fan-out is no whole numbers; seen on the host only.
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
        whole = gradient.flatten().round()
    if on_host(whole) and bool(((gradient.flatten() - whole).abs() > _ROUNDING).numpy().any()):
        raise ValueError("the fan-out is no whole numbers: the operation scales its output")
    return whole, out.shape[1:]


class FanOut:
    """The fan-out of one weight, kept while the weight cannot have changed.

    A weight that is the same tensor with the same version counter has the same zero
    pattern. A weight made anew for every call (a quantiser's output) is counted anew.

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
        """Hold for this weight from now on; it has the same synapses."""
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
        """True if such a call has this fan-out; told on the host only: elsewhere it would wait."""
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
        """The weight, if it is alive and its version counter shows no write since it was counted.

        None if it was moved, converted or freed since, which the counter does not show.
        """
        weight = self._weight()
        if weight is None or self._version is None or self._version != _version(weight):
            return None
        freed = weight.untyped_storage().nbytes() < weight.nbytes
        return None if freed or _form(weight) != self._form else weight

    def release_weight(self) -> None:
        """Drop the weak reference: torch.utils.swap_tensors refuses a tensor that has one."""
        self._weight = lambda: None

    def changed_unseen(self, weight: Tensor, scratch: Scratch) -> Tensor:
        """Whether the weight has other synapses than were counted, as a tensor of one boolean.

        A write through ``.data`` or by an optimiser with ``fused=True`` is seen in the values
        only: it leaves the version counter as it was.
        """
        return (count_synapses(self.call, weight, scratch) != self._synapses).any()


def _version(weight: Tensor) -> int | None:
    """How often the weight was written to; None where this is not kept."""
    return None if weight.is_inference() else weight._version


def _form(weight: Tensor) -> tuple[object, ...]:
    """A tensor's shape, dtype and device: all but its values."""
    return (weight.shape, weight.dtype, weight.device)

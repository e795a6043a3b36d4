"""Fan-out maps: how many synapses leave every input position of a linear operation.

By definition the gradient, with respect to the input, of the sum of the operation's output when
each weight is replaced by 1 where it is non-zero and by 0 elsewhere. Since the output is summed,
the output channels of one group can be summed first: S[c, a, b], the synapses of input channel c
at a tap. For torch's own operations the rest is separable,

    f[c, i, j] = sum over taps (a, b) of S[c, a, b] * V_h[i, a] * V_w[j, b]

where V_h[i, a] tells whether input row i meets tap a for some output row (how often, where a
padding mode reads a row again). An operation that was registered without saying where its stride
and the like stand is replayed, by the definition.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from snnprof.counting.linear_call import Axis, LinearCall
from snnprof.counting.scan import read_weight as scan_weight
from snnprof.counting.scan_rows import Weights
from snnprof.counting.tensors import on_host
from snnprof.counting.weight_kind import WeightKindRecord

_LAYOUTS = 8  # kept at a time
_ROUNDING = 1e-6  # of sums of whole numbers in float64


def count_synapses(call: LinearCall, weight: Tensor) -> Tensor:
    """Non-zero weights, summed over the output channels of each group.

    Returns:
        float64 whole numbers: a weight of one output channel per group.
    """
    return call.sum_output_channels(weight.detach() != 0).double()


def read_weight(call: LinearCall, weight: Tensor, kind: WeightKindRecord | None) -> Tensor:
    """Synapses of a weight; its kind is added to the record, if there is one."""
    found = None if call.operation.transposed else scan_weight(weight, call.groups)
    if kind is not None and found is not None and found[1]:
        kind.observe_one_magnitude(negative=found[2])
    elif kind is not None:
        kind.observe(call.by_output_channel(weight))
    return count_synapses(call, weight) if found is None else found[0].double()


def fan_out(call: LinearCall, synapses: Tensor, row_shape: torch.Size) -> tuple[Tensor, int]:
    """Synapses out of every input position.

    Args:
        call: the operation.
        synapses: of :func:`count_synapses`.
        row_shape: shape of one row of its input, e.g. [C_in, H, W].

    Returns:
        float64 tensor of ``row_shape``, of whole numbers; and the output's positions per channel.

    Raises:
        ValueError: the fan-out is no whole numbers; seen on the host only.
    """
    kernel = synapses.shape[synapses.dim() - len(row_shape) + 1 :]
    axes = call.axes(row_shape[1:], kernel)
    if axes is None:
        return replayed(call, synapses, row_shape)
    found, positions = synapses.reshape(row_shape[0], *kernel), 1
    for axis in axes:
        # The next tap's dimension is the second; its positions become the last.
        found = torch.tensordot(found, _meetings(axis, found.device), dims=([1], [1]))
        positions *= axis.outputs
    return found, positions


@lru_cache(maxsize=256)
def _meetings(axis: Axis, device: torch.device) -> Tensor:
    """V [positions of the input, taps]: how often an input position meets a tap, float64."""
    with torch.inference_mode(False), torch.device("cpu"):
        at = torch.arange(axis.inputs + sum(axis.widened)).unsqueeze(1)
        tap = torch.arange(axis.kernel) * axis.dilation
        if axis.transposed:
            reached, met = at * axis.stride - axis.padding + tap, torch.tensor(True)
        else:
            places = at + axis.padding - tap
            reached, met = places.div(axis.stride, rounding_mode="floor"), places % axis.stride == 0
        found = (met & (reached >= 0) & (reached < axis.outputs)).double()
        if axis.mode is not None:  # a padded position is one of the input's, read again
            inner = torch.arange(axis.inputs, dtype=torch.float64).view(1, 1, -1)
            source = F.pad(inner, axis.widened, mode=axis.mode).flatten().long()
            found = found.new_zeros(axis.inputs, axis.kernel).index_add_(0, source, found)
    return found.to(device)


def replayed(call: LinearCall, synapses: Tensor, row_shape: torch.Size) -> tuple[Tensor, int]:
    """The fan-out by its definition; see :func:`fan_out`."""
    # Saved-tensor hooks of the surroundings (activation checkpointing counts what passes
    # through them) must not see this small graph of ours.
    unhooked = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    with torch.inference_mode(False), torch.enable_grad(), unhooked:
        row = torch.zeros(
            (1, *row_shape), dtype=torch.float64, device=synapses.device, requires_grad=True
        )
        out = call.apply(row, synapses)
        (gradient,) = torch.autograd.grad(out.sum(), row)
        whole = gradient.squeeze(0).round()
    if on_host(whole) and bool(((gradient[0] - whole).abs() > _ROUNDING).numpy().any()):
        raise ValueError("the fan-out is no whole numbers: the operation scales its output")
    return whole, out.shape[2:].numel()


class FanOut:
    """The fan-out of one weight, kept while the weight cannot have changed.

    A weight that is the same tensor with the same version counter has the same zero
    pattern. A weight made anew for every call (a quantiser's output) is counted anew.

    Attributes:
        call: the operation.
        row_size: P, input elements of one row.
        nominal_macs: per row.
        dense: synapses per row, a whole number on the device.
        order: of the row's dimensions, where they lie in memory as they are written.
    """

    def __init__(self, call: LinearCall, x: Tensor, weight: Tensor, synapses: Tensor) -> None:
        self.call = call
        self._synapses = synapses
        self._row_shape = call.row_shape(x)
        self._shape = x.shape
        self.row_size = self._row_shape.numel()
        found, positions = fan_out(call, synapses, self._row_shape)
        # A layer of 224 x 224 positions has millions; none exceeds the number of its weights.
        self._per_input = found.int() if weight.numel() < 1 << 30 else found.long()
        self.nominal_macs = call.nominal_macs(weight, self._row_shape, positions)
        self.dense = self._per_input.sum()
        self.order = tuple(range(len(self._row_shape)))
        self._laid_out: dict[tuple[tuple[int, ...], int], Weights] = {}
        self._weight: Callable[[], Tensor | None] = lambda: None
        self._version: int | None = None

    def laid_out(self, order: tuple[int, ...], mixed: int = 1) -> Weights:
        """The fan-out, the row's dimensions in this order of memory.

        Where several rows lie mixed, their dimension is in the order too, as the first.
        """
        found = self._laid_out.get((order, mixed))
        if found is None:
            if len(self._laid_out) == _LAYOUTS:  # sequences of ever another length
                self._laid_out.clear()
            fan_out = self._per_input
            if len(order) > fan_out.dim():
                fan_out = fan_out.expand(mixed, *fan_out.shape)
            with torch.inference_mode(False):
                found = Weights(fan_out.permute(order).reshape(1, -1))
            self._laid_out[order, mixed] = found
        return found

    def follow(self, weight: Tensor) -> None:
        """Hold for this weight from now on; it has the same synapses."""
        self._weight = weakref.ref(weight)
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

    def equals(self, call: LinearCall, x: Tensor, synapses: Tensor) -> bool:
        """True if such a call has this fan-out; told on the host only: elsewhere it would wait."""
        return (
            on_host(synapses)
            and self._is_alike(call, x)
            and bool((synapses.numpy() == self._synapses.numpy()).all())
        )

    def _is_alike(self, call: LinearCall, x: Tensor) -> bool:
        same_rows = x.shape == self._shape or call.row_shape(x) == self._row_shape
        return same_rows and (call is self.call or call.settings == self.call.settings)

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

    def has_other(self, synapses: Tensor) -> Tensor:
        """Whether these are others than were counted, as a tensor of one boolean.

        A write through ``.data`` or by an optimiser with ``fused=True`` is seen in the values
        only: it leaves the version counter as it was.
        """
        return (synapses != self._synapses).any()


def _version(weight: Tensor) -> int | None:
    """How often the weight was written to; None where this is not kept."""
    return None if weight.is_inference() else weight._version


def _form(weight: Tensor) -> tuple[object, ...]:
    """A tensor's shape, dtype and device: all but its values."""
    return (weight.shape, weight.dtype, weight.device)

"""Whether the rows of a layer's input are time-major or batch-major: by evidence, or unknown.

T * B rows do not show it, nor does [T, B, ...] where T = B. It is decided once per layer:

1. The model's input says how the call begins ([T, B, ...] or [B, T, ...]).
2. In the first call of several samples the functions that could change it are run again, on a
   small tensor of row numbers. As long as none exchanges time and batch, the order stays.
   Repeating or stacking makes an order where there was none.
3. After an exchange the order is unknown, until a layer's input is found to hold the very rows
   of the model's input, or of the input of a module around it, in one order and not the other.

Not seen: functions of torch.ops called by themselves, torch.vmap, pad_sequence, and einsum of
several operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snnprof.counting.module_tracker import ModuleTracker
from snnprof.counting.samples import Layout, SampleAxis
from snnprof.counting.time_steps import Arrangement, ModelCall, TimeSteps

# Decides how the time steps reach a row whose input has so many dimensions before its features.
Arrange = Callable[[TimeSteps, Tensor, int], None]
_TIME, _BATCH = Arrangement.TIME_MAJOR, Arrangement.BATCH_MAJOR


def _functions(*names: str) -> frozenset[Callable[..., Any]]:
    """torch's functions and the tensors' methods of these names."""
    found = (getattr(space, name, None) for space in (torch, Tensor) for name in names)
    return frozenset(function for function in found if function is not None)


_EXCHANGING = _functions(
    *("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t", "adjoint"),
    *("transpose_", "swapaxes_", "swapdims_", "t_"),
    *("flip", "flipud", "roll", "rot90", "as_strided", "as_strided_"),
) | {getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH")}
_SCRAMBLING = _functions("flip", "flipud", "roll") | {Tensor.__getitem__}
_REDUCING = _functions(
    *("mean", "sum", "amax", "max", "select", "narrow", "unbind", "split", "chunk")
) | {Tensor.__getitem__}
_CREATING = _functions(
    *("repeat", "tile", "expand", "expand_as", "broadcast_to", "repeat_interleave"),
    *("stack", "cat", "concat"),
) | {Tensor.__setitem__}
NOTHING: frozenset[Callable[..., Any]] = frozenset()
_FOLLOWED = _EXCHANGING | _REDUCING | _CREATING | {torch.einsum}


class RowOrder:
    """What is known of the order of rows in the present call of the model.

    Args:
        call: the present call, kept up to date by its owner.
        layout: of the model; None if not known.
        trusted: True where the model states its sequence: [T, B, ...] throughout.
    """

    def __init__(self, call: ModelCall, layout: Layout | None, trusted: bool) -> None:
        self._call = call
        self._trusted = trusted
        self._inside = layout is not None and layout.whole and layout.time_dim is None
        dim = None if layout is None else layout.time_dim
        dim = 0 if trusted else dim
        # The order of the model's input.
        self._begins = None if dim is None else (_TIME, _BATCH)[dim]
        self._follows = False
        self._followed: set[bool] = set()  # calls of a single sample, and of several
        self._start(self._begins)

    def _start(self, order: Arrangement | None) -> None:
        self._order = order
        # Both orders may be about. Of a call that is not followed only its values tell.
        self._mixed = not self._trusted and not self._follows
        self._proven: set[Arrangement] = set()
        self._exchanged = False  # somewhere
        self._scrambled = False  # time steps exchanged with each other, which no shape shows
        self._reduced = False  # time or batch was removed somewhere

    def begin(self, x: Tensor | None) -> frozenset[Callable[..., Any]]:
        """Begin a call of the model, of several time steps, with x; the functions to follow."""
        single = self._call.batch == 1
        follow = not self._trusted and single not in self._followed
        if follow or self._follows:
            self._follows = follow
            self._followed.add(single)
            # The input of an announced call may have any shape.
            fits = self._trusted or (x is not None and self._begins_with(x))
            self._start(self._begins if fits else None)
        return _FOLLOWED if follow else NOTHING

    def follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        """See whether a function made, exchanged or removed the time steps."""
        with torch._C.DisableTorchFunction(), torch.no_grad():
            self._follow(func, args, kwargs, out)

    def _follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        steps, batch = self._call.steps.length, self._call.batch
        if func is torch.einsum:
            if len(args) != 2 or not isinstance(args[1], Tensor):
                return  # of several operands: rows are summed over, or come in their order
            func, args = partial(torch.einsum, args[0]), args[1:]
        try:
            if func in _CREATING:
                self._take_made(_made(func, args, kwargs, out, steps, batch))
                return
            for rows in _row_numbers(args[0], steps, batch):
                found = func(rows, *args[1:], **kwargs)
                if not isinstance(found, Tensor) or found.numel() != rows.numel():
                    self._reduced = self._reduced or _is_one_step(func, args, out, batch)
                elif found.flatten().tolist() != rows.flatten().tolist():
                    self._mixed = self._exchanged = True
                    self._scrambled = self._scrambled or func in _SCRAMBLING
        except Exception:  # not understood: an index that the row numbers do not have
            self._reduced = self._reduced or _is_one_step(func, args, out, batch)
            if func in _EXCHANGING or isinstance(func, partial):
                self._mixed = self._exchanged = True

    def _take_made(self, made: Arrangement | None) -> None:
        if made is None or self._mixed:
            return
        if self._order is None:
            self._order = made
        self._mixed = made is not self._order
        self._reduced = False  # steps that were taken apart are put together again

    def arrangement(
        self,
        x: Tensor,
        leading: tuple[int, ...],
        model_input: Tensor | None,
        given: Iterable[object],
    ) -> Arrangement:
        """How the time steps of this call of the model reach a layer.

        Args:
            x: the layer's input.
            leading: its dimensions before channels and space.
            model_input: the model's input.
            given: the inputs of the modules that run, the innermost first.
        """
        steps, batch = self._call.steps.length, self._call.batch
        flat, split = leading[:1] == (steps * batch,), leading[:2]
        order = None if self._mixed else self._order
        if self._scrambled and not self._trusted:
            return Arrangement.UNKNOWN
        if batch == 1:
            return _of_one_sample(split, steps, order)
        if flat or (steps == batch and split == (steps, batch)):
            if self._reduced and not self._trusted:
                order = None  # N * B rows, or [B, N, ...], with N = T look the same
            if order is None or self._exchanged:
                order = self._prove(x, model_input, given) or order
            return order or Arrangement.UNKNOWN
        if split == (steps, batch) and order is not _BATCH:
            return _TIME
        is_batch = self._mixed or order is _BATCH
        if split == (batch, steps) and is_batch and not self._reduced:
            return _BATCH
        return Arrangement.LOOPED if leading[:1] == (batch,) else Arrangement.UNKNOWN

    def _prove(
        self, x: Tensor, model_input: Tensor | None, given: Iterable[object]
    ) -> Arrangement | None:
        """The order in which x holds the rows of an input whose order is known."""
        steps, batch = self._call.steps.length, self._call.batch
        candidates = [self._rows_of_the_model(model_input)]
        for other in given:
            if not isinstance(other, Tensor) or steps == batch:
                continue
            if other.shape[:2] == (steps, batch) and (self._exchanged or self._reduced):
                candidates.append(other)
            elif other.shape[:2] == (batch, steps) and self._exchanged and not self._reduced:
                candidates.append(other.transpose(0, 1))
        for rows in candidates:
            found = None if rows is None else _order_of(x, rows)
            if found is not None:
                return self._take(found)
        return None

    def _take(self, found: Arrangement) -> Arrangement:
        """Go on with an order that was found, unless both were, or exchanges would not be seen."""
        if self._follows:
            self._proven.add(found)
            self._order, self._mixed = found, len(self._proven) > 1
        return found

    def _begins_with(self, x: Tensor) -> bool:
        """True if x is the [T, B, ...] or [B, T, ...] that the layout says."""
        rows = (self._call.steps.length, self._call.batch)
        fits = {None: None, _TIME: rows, _BATCH: rows[::-1]}
        return x.shape[:2] == fits[self._begins]

    def _rows_of_the_model(self, x: Tensor | None) -> Tensor | None:
        """The model's input as [T, B, ...]."""
        steps, batch = self._call.steps.length, self._call.batch
        if x is None or x.dim() < 2:
            return None
        if self._inside:
            return x.expand(steps, *x.shape) if x.shape[0] == batch else None
        if not self._begins_with(x):
            return None
        return x if self._begins is _TIME else x.transpose(0, 1)


def arrange(
    order: RowOrder,
    axis: SampleAxis,
    tracker: ModuleTracker,
    steps: TimeSteps,
    x: Tensor,
    leading: int,
) -> None:
    """Decide how the time steps reach a row, where that is still open.

    Args:
        order, axis, tracker: of the present call of the model.
        steps: the row's.
        x: its input, or what it puts out.
        leading: dimensions of x of which some may be samples and time steps.
    """
    call = axis.present
    if steps.undecided(call):
        found = order.arrangement(x, x.shape[:leading], axis.input, tracker.given())
        steps.arrange(found, call)


def _order_of(x: Tensor, rows: Tensor) -> Arrangement | None:
    """The order in which x holds exactly these rows [T, B, ...]; None if neither, or both."""
    if rows.numel() != x.numel() or rows.dtype != x.dtype or rows.device != x.device:
        return None
    number = rows.shape[0] * rows.shape[1]
    found = x.reshape(number, -1)
    try:
        is_time = torch.equal(found, rows.reshape(number, -1))
        is_batch = torch.equal(found, rows.transpose(0, 1).reshape(number, -1))
    except Exception:  # a tensor without values
        return None
    if is_time == is_batch:
        return None
    return _TIME if is_time else _BATCH


def _of_one_sample(split: tuple[int, ...], steps: int, order: Arrangement | None) -> Arrangement:
    """The arrangement of T rows of one sample, which are alike in either order."""
    if split[:1] == (steps,):
        return _TIME
    if split == (1, steps) and order is _BATCH:
        return _BATCH
    return Arrangement.LOOPED if split[:1] == (1,) else Arrangement.UNKNOWN


def _row_numbers(x: Tensor, steps: int, batch: int) -> Iterator[Tensor]:
    """Tensors of x's rank whose values number time steps and samples, wherever these may be."""
    for dim in range(1, x.dim()):
        first, second = x.shape[0], x.shape[dim]
        if (first, second) in ((steps, batch), (batch, steps)):
            shape = [1] * x.dim()
            shape[0], shape[dim] = first, second
            yield torch.arange(float(steps * batch), device="cpu").view(shape)


def _made(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out: Any,
    steps: int,
    batch: int,
) -> Arrangement | None:
    """The order of the rows that a function made of inputs of one time step; None if it did not."""
    if func is Tensor.__setitem__:
        return _written(args[0], args[1], steps, batch)
    flat = out.shape[:1] == (steps * batch,)
    if batch == 1 and not flat:
        return _BATCH if out.shape[:2] == (1, steps) else None
    if not flat and out.shape[:2] not in ((steps, batch), (batch, steps)):
        return None
    several = isinstance(args[0], list | tuple)
    rows = [_sample_numbers(x, batch) for x in (args[0] if several else args[:1])]
    if any(x is None for x in rows):
        return None
    found = func(rows if several else rows[0], *args[1:], **kwargs)
    while found.dim() > (1 if flat else 2):
        found = found.select(-1, 0)
    samples = [float(sample) for sample in range(batch)]
    order = found.flatten().tolist()
    if order == samples * steps:
        return _TIME
    return _BATCH if order == [sample for sample in samples for _ in range(steps)] else None


def _written(x: Tensor, index: object, steps: int, batch: int) -> Arrangement | None:
    """The order of a tensor whose time steps are written one by one; None if they are not."""
    if isinstance(index, int) and x.shape[:2] == (steps, batch):
        return _TIME
    along = isinstance(index, tuple) and index[:1] == (slice(None),) and isinstance(index[1], int)
    return _BATCH if along and x.shape[:2] == (batch, steps) else None


def _is_one_step(func: Callable[..., Any], args: tuple[Any, ...], out: Any, batch: int) -> bool:
    """True if the output's first dimension may be that of the samples.

    Neurons look at x[0] for the shape of their state only.
    """
    if func is Tensor.__getitem__ and type(args[1]) is int and args[1] == 0:
        return False
    first = out[0] if isinstance(out, list | tuple) and out else out
    return isinstance(first, Tensor) and first.shape[:1] == (batch,)


def _sample_numbers(x: Tensor, batch: int) -> Tensor | None:
    """A tensor of x's rank whose values number the samples; None if x has no such dimension."""
    if x.shape[:1] == (batch,) or x.shape[:2] == (1, batch):
        shape = [1] * x.dim()
        shape[0 if x.shape[0] == batch else 1] = batch
        return torch.arange(float(batch), device="cpu").view(shape)
    return None

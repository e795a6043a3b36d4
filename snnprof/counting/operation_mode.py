"""The operands that linear operations and products really receive, seen as they are called.

A :class:`torch.overrides.TorchFunctionMode` passes every torch function through unchanged
and reports those that multiply: a layer that quantises its weight inside its own forward is
seen with the quantised weight, a functional call is seen like a module's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FunctionType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils._python_dispatch import _disable_current_modes

Mode = TypeVar("Mode")
SeeOutput = Callable[[Any], None]
Observer = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], SeeOutput | None]

# Operations that are not counted; each use is listed in the result.
_TORCH = (
    "chain_matmul",
    "bilinear",
    "conv_tbc",
    "convolution",
    "_convolution",
    "_addmm_activation",
)
_TORCH_RNN = ("lstm", "gru", "rnn_tanh", "rnn_relu", "cudnn_convolution")
_TORCH_CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


def _uncounted() -> dict[Callable[..., Any], str]:
    found: dict[Callable[..., Any], str] = {
        F.bilinear: "bilinear",
        F.multi_head_attention_forward: "multi_head_attention_forward",
        torch.linalg.multi_dot: "multi_dot",
    }
    for name in (*_TORCH, *_TORCH_RNN, *_TORCH_CELLS):
        for space in (torch, torch._VF):
            function = getattr(space, name, None)
            if function is not None:
                found[function] = name
    return found


UNCOUNTED: dict[Callable[..., Any], str] = _uncounted()


def _opened(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """A copy of a Python function of torch's that runs with the mode on.

    Such functions call ``has_torch_function`` first and, inside a mode, pass themselves to it
    as a whole. In the copy the answer is no, so that the mode sees the operations inside.
    None where the function is not written that way.
    """
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    if "has_torch_function" not in function.__code__.co_names:
        return None
    scope = dict(function.__globals__)
    scope["has_torch_function"] = lambda tensors: False
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


# They multiply by zeros and ones that are no spikes.
_MASKS = frozenset(
    (
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.feature_alpha_dropout,
        torch.dropout,
        torch.dropout_,
    )
)
_LOOK_INSIDE = (F.multi_head_attention_forward,)
_OWN_TYPES = {torch.Tensor, nn.Parameter}


class OperationMode(TorchFunctionMode):
    """Runs every torch function as it is, and reports the watched ones to ``observe`` first.

    nn.MultiheadAttention's function is run with the mode on, for the products inside it.

    Args:
        watched: functions to report.
        observe: called before the function, while its input is still in the processor's cache; it
            may return what is to see the function's output.
        note_failure: called with the function, and with None where it fails after it was
            observed, or the error where it runs but observing or following it failed.
        follow: called with a function of ``followed``, its arguments and its output.

    Attributes:
        followed: other functions to report once they have run.
        covering: entered around every function that is reported and its report, and around
            masks that are no synapses, such as dropout; None for nothing.
    """

    def __init__(
        self,
        watched: Iterable[Callable[..., Any]],
        observe: Observer,
        note_failure: Callable[[Callable[..., Any], Exception | None], None],
        follow: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None],
    ) -> None:
        super().__init__()
        self._watched = frozenset(watched)
        self._observe = observe
        self._note_failure = note_failure
        self._follow = follow
        self.covering: Callable[[], AbstractContextManager[None]] | None = None
        self.followed: frozenset[Callable[..., Any]] = frozenset()
        opened = {function: _opened(function) for function in _LOOK_INSIDE}
        self._opened = {func: copy for func, copy in opened.items() if copy is not None}

    def release(self) -> None:
        """Let go of who is told: nothing more will run."""
        self._observe = lambda func, args, kwargs: None
        self._note_failure = lambda func, error: None
        self._follow = lambda func, args, kwargs, out: None
        self.covering = None

    def __exit__(self, *exc: Any) -> None:
        """Leave the modes that others have entered since where they are.

        An interrupt skips the end of a call: its mode leaves with the counter, whenever that is.
        """
        with others_left(self, _get_current_function_mode_stack(), _pop_mode, _push_mode) as is_on:
            if is_on:
                super().__exit__(*exc)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._watched:
            if self.covering is None and func not in self.followed:  # nearly all
                return func(*args, **kwargs)
            return self._covered(func, args, kwargs)
        if func in self._opened and _OWN_TYPES.issuperset(types):
            with self:
                return self._opened[func](*args, **kwargs)
        # At one place: products are told apart by the way that leads to them (call_site).
        with self.covering() if self.covering is not None else _NOTHING:
            return self._reported(func, args, kwargs)

    def _covered(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with self.covering() if self.covering and func in _MASKS else _NOTHING:
            out = func(*args, **kwargs)
        if func in self.followed:
            self._see(func, args, kwargs, out)
        return out

    def _reported(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        ours: Exception | None = None
        see: SeeOutput | None = None
        try:
            with unseen_by_others():
                see = self._observe(func, args, kwargs)
        except Exception as error:  # an invalid call is torch's to refuse, in its own words
            ours = error
        try:
            out = func(*args, **kwargs)
        except BaseException:
            if ours is None:
                self._note_failure(func, None)
            ours = None
            raise
        if ours is not None:  # a fault of the counter's is not the user's crash
            self._note_failure(func, ours)
            ours = None  # its traceback holds this frame, and the operands
        if func in self.followed:  # an einsum of one operand is a transposition
            self._see(func, args, kwargs, out)
        if see is not None:
            self._show(see, func, out)
        return out

    def _show(self, see: SeeOutput, func: Callable[..., Any], out: Any) -> None:
        try:
            with torch._C.DisableTorchFunction():
                see(out)
        except Exception as error:
            self._note_failure(func, error)

    def _see(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        try:
            self._follow(func, args, kwargs, out)
        except Exception as error:  # nor is this one
            self._note_failure(func, error)


def modes_above(mode: object, stack: Sequence[Mode]) -> Sequence[Mode] | None:
    """The modes that were entered after this one; None if it is on no more, or elsewhere."""
    places = [place for place, other in enumerate(stack) if other is mode]
    return stack[places[-1] + 1 :] if places else None


@contextmanager
def others_left(
    mode: object,
    stack: Sequence[Mode],
    pop: Callable[[], object],
    push: Callable[[Mode], object],
) -> Iterator[bool]:
    """Take the modes above this one off, and put them back; False if it is on no more."""
    above = modes_above(mode, stack)
    for _ in above or ():
        pop()
    yield above is not None
    for other in above or ():
        push(other)


def unseen_by_others() -> AbstractContextManager[object]:
    """Hide what runs inside from the modes of other tools, such as a FLOP counter."""
    if torch._C._len_torch_dispatch_stack() == 0:
        return _NOTHING
    return _disable_current_modes()


_NOTHING = nullcontext()


def why_not_countable(x: Tensor, weight: Tensor) -> str | None:
    """Why these operands cannot be counted, or None."""
    for operand in (x, weight):
        if type(operand) not in _OWN_TYPES and _computes_itself(operand):
            return f"an operand of class {type(operand).__name__}, which computes in its own way"
    if x.is_nested or weight.is_nested:
        return "a nested tensor"
    if x.is_meta or weight.is_meta:
        return "operands without values (on the meta device)"
    if x.layout != torch.strided or weight.layout != torch.strided:
        return "a sparse operand"
    if x.is_complex() or weight.is_complex() or x.is_quantized or weight.is_quantized:
        return f"operands of type {x.dtype} and {weight.dtype}"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "inside a transform of torch.func"
    if x.numel() == 0:
        return "an empty input"
    if weight.numel() == 0:
        return "an empty weight"
    return None


def _computes_itself(operand: Tensor) -> bool:
    """True of a subclass whose operators are not torch's: its values cannot be read as numbers."""
    return type(operand).__torch_dispatch__ is not Tensor.__torch_dispatch__

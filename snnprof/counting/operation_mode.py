"""Seeing which operands the linear operations of torch really receive.

A :class:`torch.overrides.TorchFunctionMode` passes every torch function through unchanged
and reports those that multiply: a layer that quantises its weight inside its own forward is
seen with the quantised weight, a functional call is seen like a module's.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from snnprof.counting.fanout import LinearCall

Observer = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], None]

CONVOLUTIONS: dict[Callable[..., Any], str] = {
    F.conv1d: "conv1d",
    F.conv2d: "conv2d",
    F.conv3d: "conv3d",
    F.conv_transpose1d: "conv_transpose1d",
    F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
}
LINEAR: dict[Callable[..., Any], str] = {F.linear: "linear"}

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
    """The same Python function, which does not hand itself over to the mode as a whole.

    torch's functions written in Python ask ``has_torch_function`` first, which is always so
    inside a mode. This copy runs the same code with an answer of no, so that the mode can
    be on and see what happens inside. None where it is not written that way.
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


_LOOK_INSIDE = (F.multi_head_attention_forward,)
_OWN_TYPES = {torch.Tensor, nn.Parameter}


class Capture(TorchFunctionMode):
    """Passes torch functions through; tells ``observe`` of the watched ones first.

    nn.MultiheadAttention's function is run with the mode on, for the products inside it.

    Args:
        watched: functions to tell of.
        observe: told before the call, while its input is still in the processor's cache.
        note_failure: told where a call that was observed then fails.
    """

    def __init__(
        self,
        watched: Iterable[Callable[..., Any]],
        observe: Observer,
        note_failure: Callable[[], None],
    ) -> None:
        super().__init__()
        self._watched = frozenset(watched)
        self._observe = observe
        self._note_failure = note_failure
        opened = {function: _opened(function) for function in _LOOK_INSIDE}
        self._opened = {func: copy for func, copy in opened.items() if copy is not None}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._watched:
            return func(*args, **kwargs)
        if func in self._opened and _OWN_TYPES.issuperset(types):
            with self:
                return self._opened[func](*args, **kwargs)
        ours: Exception | None = None
        try:
            self._observe(func, args, kwargs)
        except Exception as error:  # an invalid call is torch's to refuse, in its own words
            ours = error
        try:
            out = func(*args, **kwargs)
        except BaseException:
            if ours is None:
                self._note_failure()
            raise
        if ours is not None:
            raise ours
        return out


def operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Input and weight of a convolution or linear call."""
    x: Tensor = args[0] if args else kwargs["input"]
    weight: Tensor = args[1] if len(args) > 1 else kwargs["weight"]
    return x, weight.unsqueeze(0) if weight.dim() == 1 else weight


def why_not_countable(x: Tensor, weight: Tensor) -> str | None:
    """Why these operands cannot be counted, or None."""
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


class SeenCall:
    """A call that was looked at, to know the next one like it at a glance.

    Args:
        func: the operation.
        args: what it was called with: input, weight, bias, settings.
        call: what was made of it.
    """

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], call: LinearCall) -> None:
        x: Tensor = args[0]
        self.call = call
        self._func = func
        self._weight = weakref.ref(args[1])
        self._like = (x.shape, x.dtype, x.layout)
        self._settings = tuple(map(_frozen, args[3:]))

    def recurs(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """True if this is the same call again, of other values."""
        if func is not self._func or kwargs or args[1] is not self._weight():
            return False
        x: Tensor = args[0]
        return (
            (x.shape, x.dtype, x.layout) == self._like
            and args[3:] == self._settings
            and torch._C._functorch.peek_interpreter_stack() is None
        )


def _frozen(setting: Any) -> Any:
    """A setting that stays what it is when the caller writes to his list."""
    return tuple(setting) if isinstance(setting, list) else setting


_PLAIN_LINEAR = LinearCall("linear", F.linear, (), groups=1, feature_dims=1)


def linear_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> LinearCall:
    """The call without its operands and bias, ready to be replayed with others."""
    if func in LINEAR:
        return _PLAIN_LINEAR
    settings = tuple(map(_frozen, args[3:]))
    named = {k: _frozen(v) for k, v in kwargs.items() if k not in ("input", "weight", "bias")}

    def apply(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = func(x, weight, None, *settings, **named)
        return out

    op = CONVOLUTIONS[func]
    # groups is the seventh argument of convolutions and transposed convolutions alike.
    groups: int = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    return LinearCall(op, apply, (*settings, *named.items()), groups, feature_dims=1 + int(op[-2]))


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
        x: what the convolution received.
    """
    if not isinstance(module, _ConvNd) or module.padding_mode == "zeros":
        return call, x
    spatial = call.feature_dims - 1
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
    return LinearCall(call.op, apply, settings, call.groups, call.feature_dims), inner


def _spatial_shape(x: object, spatial: int) -> list[int]:
    return list(x.shape[-spatial:]) if isinstance(x, Tensor) else []

"""The registry of linear operations: convolutions, transposed convolutions, linear layers.

One entry says everything that counting needs to know of an operation; no other file changes
when one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import ByFunction

Function = TypeVar("Function", bound=Callable[..., Any])


class Argument(NamedTuple):
    """The place of an argument in a call: its position, or its name as a keyword."""

    position: int
    keyword: str

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The argument's value; None where it is not given."""
        return args[self.position] if self.position < len(args) else kwargs.get(self.keyword)

    def replaced(
        self, value: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with another value, where this one is given."""
        at = self.position
        if at < len(args):
            return (*args[:at], value, *args[at + 1 :]), kwargs
        return args, kwargs | {self.keyword: value} if self.keyword in kwargs else kwargs


class Geometry(NamedTuple):
    """The places of what a convolution's fan-out depends on; a linear layer has none of them."""

    stride: Argument | None = None
    padding: Argument | None = None
    dilation: Argument | None = None
    output_padding: Argument | None = None


@dataclass(frozen=True, eq=False)
class LinearOperation:
    """A function that is linear in its input and in its weight, but for a bias.

    Attributes:
        function: as a torch-function mode receives it.
        name: as rows are labelled.
        spatial_dims: d of a d-dimensional convolution; 0 for a linear layer.
        transposed: True where the weight is [C_in, C_out / groups, *kernel], not
            [C_out, C_in / groups, *kernel].
        input, weight, bias: places of these arguments; a bias may be None in a call.
        groups: place of the number of groups; None where there is always one.
        geometry: places of stride and the like, if they mean what they mean in torch's own
            functions; None where the operation is replayed for its fan-out.
    """

    function: Callable[..., Any]
    name: str
    spatial_dims: int
    transposed: bool
    input: Argument
    weight: Argument
    bias: Argument | None
    groups: Argument | None
    geometry: Geometry | None

    @property
    def is_convolution(self) -> bool:
        """True where the input has spatial dimensions."""
        return self.spatial_dims > 0

    @property
    def leading_operands(self) -> int | None:
        """Number of operands, the bias included, if they come before all other arguments."""
        positions = {place.position for place in self._operands()}
        return len(positions) if positions == set(range(len(positions))) else None

    def _operands(self) -> tuple[Argument, ...]:
        return (self.input, self.weight, *((self.bias,) if self.bias else ()))

    def operands(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Input and weight of a call."""
        return self.input.of(args, kwargs), self.weight.of(args, kwargs)

    def with_input(
        self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with another input."""
        return self.input.replaced(x, args, kwargs)

    def without_operands(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, None in the place of input, weight and bias.

        Lists among them, which the caller may write to, become tuples.
        """
        for place in self._operands():
            args, kwargs = place.replaced(None, args, kwargs)
        return tuple(map(frozen, args)), {key: frozen(value) for key, value in kwargs.items()}

    def apply(
        self, x: Tensor, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """The operation with these operands and the settings of :meth:`without_operands`."""
        args, kwargs = self.with_input(x, args, kwargs)
        args, kwargs = self.weight.replaced(weight, args, kwargs)
        out: Tensor = self.function(*args, **kwargs)
        return out


def frozen(setting: Any) -> Any:
    """A setting that stays what it is when the caller writes to his list."""
    return tuple(setting) if isinstance(setting, list) else setting


OPERATIONS: ByFunction[LinearOperation] = ByFunction("linear operation")
# The places in torch's own functions; groups alike in convolutions and transposed ones.
_INPUT, _WEIGHT, _BIAS = Argument(0, "input"), Argument(1, "weight"), Argument(2, "bias")
_STRIDE, _PADDING, _GROUPS = Argument(3, "stride"), Argument(4, "padding"), Argument(6, "groups")
_CONV = Geometry(_STRIDE, _PADDING, Argument(5, "dilation"))
_TRANSPOSED = Geometry(_STRIDE, _PADDING, Argument(7, "dilation"), Argument(5, "output_padding"))


def linear_operation(
    name: str,
    *,
    spatial_dims: int = 0,
    transposed: bool = False,
    input: Argument = _INPUT,
    weight: Argument = _WEIGHT,
    bias: Argument | None = _BIAS,
    groups: Argument | None = None,
    geometry: Geometry | None = None,
) -> Callable[[Function], Function]:
    """Decorator that has a function counted; counters entered from then on see it.

    The function must be one that a :class:`torch.overrides.TorchFunctionMode` receives: a
    builtin of torch, an operator below ``torch.ops`` (the packet or the overload, as the model
    calls it), or a Python function that calls
    :func:`torch.overrides.handle_torch_function`. Without a ``geometry`` it is run once more, in
    float64, for its fan-out: it must be differentiable, and sum products of input and weight
    without scaling them. Its input is [..., features] where ``spatial_dims`` is 0, else
    [N, C_in, *spatial] or [C_in, *spatial].

    Args:
        name: as rows are labelled.
        spatial_dims: d of a d-dimensional convolution; 0 for a linear layer.
        transposed: True where the weight is [C_in, C_out / groups, *kernel], not
            [C_out, C_in / groups, *kernel].
        input, weight: places of these arguments; by default the first and the second.
        bias: place of the bias, by default the third; it must be allowed to be None in a
            call. None where the function takes no bias.
        groups: place of the number of groups; None where there is always one.
        geometry: places of stride, padding, dilation and output padding, where they mean what
            they mean in torch's own functions: the fan-out is then known in closed form.

    Raises:
        ValueError: the function is registered already.
    """

    if not isinstance(name, str):
        raise SnnprofError(f"a linear operation needs a name in quotes, not {name!r}")

    def add(function: Function) -> Function:
        operation = LinearOperation(
            function, name, spatial_dims, transposed, input, weight, bias, groups, geometry
        )
        OPERATIONS.register(function)(operation)
        return function

    return add


def called_directly(name: str) -> Iterator[Callable[..., Any]]:
    """The operator below ``torch.ops`` and its overloads, as exported graphs call it.

    None of them where torch has no operator of that name.
    """
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return
    yield packet
    yield from (getattr(packet, overload) for overload in packet.overloads() if overload != "out")


def _register(name: str, functions: Iterable[Callable[..., Any]], **settings: Any) -> None:
    """Have an operation of torch's counted under each of the functions that call it."""
    for function in functions:
        linear_operation(name, **settings)(function)


_register("linear", (F.linear, *called_directly("linear")), geometry=Geometry())
for _dims, _conv, _transposed in (
    (1, F.conv1d, F.conv_transpose1d),
    (2, F.conv2d, F.conv_transpose2d),
    (3, F.conv3d, F.conv_transpose3d),
):
    _name = f"conv{_dims}d"
    _register(
        _name,
        (_conv, *called_directly(_name)),
        spatial_dims=_dims,
        groups=_GROUPS,
        geometry=_CONV,
    )
    _name = f"conv_transpose{_dims}d"
    _register(
        _name,
        (_transposed, *called_directly(_name)),
        spatial_dims=_dims,
        transposed=True,
        groups=_GROUPS,
        geometry=_TRANSPOSED,
    )

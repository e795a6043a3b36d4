"""What ran below torch's Python functions, and was not counted.

A model may reach a product by a route that no torch-function mode sees: a custom operator, an
exported graph, a quantised module, a sparse product. On the first call of the model a dispatch
mode listens below, where every operator comes by, and lists what multiplies, and what is unknown,
with its module, shapes and textbook MACs. Later calls cost nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

from snnprof.counting.call_site import running_modules
from snnprof.counting.operation_mode import others_left
from snnprof.spiking.neuron_equations import equations_of

# Operators of torch that sum products: by the parts of their names.
_PRODUCTS = re.compile(
    r"(^|_)(mm|bmm|addmm|baddbmm|addbmm|mv|addmv|dot|vdot|ger|addr|trilinear|cdist|matmul|"
    r"linear|convolution|conv|conv[123]d|attention|lstm|gru|rnn|cell)(_|$)"
)
_TORCHS = {"aten", "prim", "prims"}
# Namespaces whose operators move or watch tensors, and multiply nothing.
_HARMLESS = {"c10d", "_c10d_functional", "profiler", "fsdp", "rngprims"}
_current_graph_task = torch._C._current_graph_task_id  # -1 outside a backward pass
NOT_LOOKED = "audit=False: what ran below torch's functions was not looked for"
_FEW = 8  # elements: of fewer an element-wise product is a setting, no synapse


class Audit(TorchDispatchMode):
    """Lists the products of a call of the model that nobody counted.

    Args:
        where: name of the module that is running; None outside the model.
        root: the model's name.

    Attributes:
        found: (module, what ran there), in order; each once.
    """

    supports_higher_order_operators = True  # without it a model with torch.cond could not run

    def __init__(self, where: Callable[[], str | None], root: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[tuple[str, str], None] = {}
        self._where = where
        self._root = root
        self._covered = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler, which takes seconds, for the first operator.

        Nothing is compiled while the audit listens: :mod:`snnprof.counting.eager_stance`.
        """
        return False

    def release(self) -> None:
        """Let go of who tells where: nothing more will run."""
        self._where = lambda: None

    @contextmanager
    def covering(self) -> Iterator[None]:
        """What runs inside is counted or listed already."""
        self._covered += 1
        try:
            yield
        finally:
            self._covered -= 1

    def __exit__(self, *exc: Any) -> None:
        """Leave the modes that others have entered since where they are."""
        with others_left(self, _get_current_dispatch_mode_stack(), _pop_mode, _push_mode) as is_on:
            if is_on:
                super().__exit__(*exc)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = None
        if not self._covered and _current_graph_task() == -1:
            found = self._seen(func, args)  # before it runs: it may write into its operands
        # Called from here, an operator would pass by the torch-function modes once more.
        with torch._C.DisableTorchFunction():
            out = func(*args, **(kwargs or {}))
        if found is not None:  # only now: it ran
            self.found[found] = None
        return out

    def _seen(self, func: Any, args: tuple[Any, ...]) -> tuple[str, str] | None:
        """The entry for an operator, if it has one."""
        where: str | None = ""
        try:
            where = self._where()
            reason = None if where is None else _reason(func, args)
        except Exception as error:  # an instrument's own fault is never the user's crash
            reason = f"{func}: looking at it failed ({type(error).__name__})"
        return None if where is None or reason is None else (where or self._root, reason)


def _reason(func: Any, args: tuple[Any, ...]) -> str | None:
    """What an operator does that should be counted; None where nothing."""
    if isinstance(func, HigherOrderOperator):
        return f"{func.name()}: a higher-order operator: what it runs is not seen, not counted"
    namespace = func.namespace
    name = func._schema.name.partition("::")[2]
    tensors = [x for x in args if isinstance(x, Tensor)]
    if namespace in _HARMLESS or not tensors:
        return None
    if namespace not in _TORCHS:
        shapes = _shapes(tensors)
        return f"{namespace}::{name} of {shapes}: an operator that is not known, not counted"
    if name.rstrip("_") in ("mul", "multiply"):
        return _spikes_product(tensors)
    if _PRODUCTS.search(name) is None:
        return None
    macs = _macs(name, tensors)
    size = "" if macs is None else f", {macs:,} MACs"
    return f"{name} of {_shapes(tensors)}{size}: ran below torch's functions, not counted"


def _shapes(tensors: list[Tensor]) -> str:
    shown = ("a nested tensor" if x.is_nested else str(tuple(x.shape)) for x in tensors[:3])
    return " x ".join(shown)


def _macs(name: str, tensors: list[Tensor]) -> int | None:
    """Multiply-accumulates of a matrix product or a convolution by its shapes; None if unknown."""
    matrices = [x for x in tensors if x.dim() > 1]
    if name in ("mm", "bmm", "addmm", "baddbmm") and len(matrices) >= 2:
        first, second = matrices[-2:]
        return math.prod(first.shape) * second.shape[-1]
    return None


def _spikes_product(tensors: list[Tensor]) -> str | None:
    """An element-wise product of two spike tensors, as masks in attention without softmax are."""
    if len(tensors) != 2 or min(x.numel() for x in tensors) < _FEW:
        return None
    if not all(_is_spikes(x) for x in tensors) or any(map(_is_neuron, running_modules())):
        return None
    shapes = " x ".join(str(tuple(x.shape)) for x in tensors)
    return f"element-wise product of spikes, {shapes}: no synaptic operation, not counted"


def _is_neuron(module: nn.Module) -> bool:
    """True of a layer of neurons that is known: the reset of its membrane is no synapse."""
    return equations_of(module) is not None


def _is_spikes(x: Tensor) -> bool:
    """True if all non-zeros equal one positive value; a mask of booleans is spikes too."""
    if x.dtype == torch.bool:
        return True
    if x.is_complex() or x.is_meta or x.layout != torch.strided or not x.is_floating_point():
        return False
    largest = x.max()
    return bool((largest > 0) & ((x == 0) | (x == largest)).all())

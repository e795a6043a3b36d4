"""SopCounter: forward hooks on, synaptic operations out, the model left as it was."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError, known
from snnprof.core.module_names import module_names, parameter_owners
from snnprof.counting.call_site import Site, call_site
from snnprof.counting.layer_tally import Tally
from snnprof.counting.module_tracker import LAYER_MODULES, Frame, Position
from snnprof.counting.operation_mode import (
    CONVOLUTIONS,
    LINEAR,
    UNCOUNTED,
    Capture,
    SeenCall,
    linear_call,
    operands,
    unpadded,
    why_not_countable,
)
from snnprof.counting.product_tally import ProductTally
from snnprof.counting.products import PRODUCTS, READERS, Product
from snnprof.counting.samples import SampleAxis
from snnprof.counting.scratch import Scratch
from snnprof.results import CountResult, LayerCount
from snnprof.results.kinds import Kind

LAYER_TYPES = ("conv", "linear", "attention")


class SopCounter:
    """Counts the synaptic operations of every call of a model inside its ``with`` block.

    Args:
        model: any module.
        layers: what to count, of "conv", "linear", "attention"; what is left out is listed
            in the result.
        batch_dim: batch dimension of the model's input; 1 for [T, B, ...].
        timesteps: T, if the model is called once per time step.

    Forward hooks know where the model is; a torch-function mode sees the operands that
    convolutions, linear operations and products of activations really receive. Outputs,
    gradients, parameters, buffers, random state and flags stay as they are, and nothing is
    left behind. Backward passes and the recomputation of checkpointed activations add
    nothing. Compiled modules run eagerly inside the block, because hooks added after
    compilation do not run.

    Raises:
        SnnprofError: an unknown layer type, or (from inside the block) an input whose
            samples cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] = LAYER_TYPES,
        batch_dim: int = 0,
        timesteps: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SnnprofError(f"model is a {type(model).__name__}, not a torch.nn.Module")
        for name in layers:
            if name not in LAYER_TYPES:
                raise known("layer type", name, LAYER_TYPES)
        self._model = model
        self._counted: dict[Callable[..., Any], str] = {}
        if "conv" in layers:
            self._counted |= CONVOLUTIONS
        if "linear" in layers:
            self._counted |= LINEAR
        self._products = PRODUCTS if "attention" in layers else {}
        self._new_axis = partial(SampleAxis, model, batch_dim, timesteps)
        self._active: ExitStack | None = None
        self._clear()

    def _clear(self) -> None:
        self._axis = self._new_axis()
        self._names = module_names(self._model)
        self._owners = parameter_owners(self._model)
        self._position = Position(self._model, self._names, self._begin_call, self._end_call)
        watched = (*CONVOLUTIONS, *LINEAR, *PRODUCTS, *UNCOUNTED)
        self._capture = Capture(watched, self._observe, self._note_failure)
        self._capturing = False
        self._scratch = Scratch()
        self._tallies: dict[tuple[Hashable, ...], Tally | ProductTally] = {}
        self._shown: Counter[str] = Counter()  # rows by the name they would have
        self._counted_in: set[str] = set()  # names of what was counted, and where
        self._recent: dict[str, Tally] = {}  # the last used in each module
        self._seen: dict[str, tuple[SeenCall, Tally]] = {}  # the last call in each module
        self._uncounted: dict[tuple[str, str], None] = {}
        self._failed = False

    def __enter__(self) -> SopCounter:
        if self._active is not None:
            raise SnnprofError("this counter is already counting: make another one to nest them")
        self._clear()
        with ExitStack() as stack:
            stack.callback(self._let_go)
            stack.callback(self._settle)
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            self._position.attach(stack)
            stack.callback(self._end_call)  # of a call that was interrupted
            self._active = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.close()

    def _begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The mode is on while the model runs, and costs nothing in between."""
        self._axis.begin_call(args, kwargs)
        self._capture.__enter__()  # type: ignore[no-untyped-call]
        self._capturing = True

    def _end_call(self) -> None:
        if self._capturing:
            self._capturing = False
            self._capture.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _settle(self) -> None:
        """Look at the weights while they are what was counted."""
        for tally in self._tallies.values():
            tally.settle()

    def _let_go(self) -> None:
        """Leave no reference on a weight."""
        for tally in self._tallies.values():
            tally.let_go()
        self._recent.clear()
        self._seen.clear()

    def _note_failure(self) -> None:
        self._failed |= self._position.frame() is not None

    def _observe(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        frame = self._position.frame()
        if frame is None:
            return
        if func in self._products:
            self._observe_product(func, args, kwargs, frame)
            return
        op = self._counted.get(func)
        if op is None:
            self._uncounted[(frame.name, _reason(func))] = None
            return
        with torch._C.DisableTorchFunction():  # a counter around this one must not see ours
            seen = self._seen.get(frame.name)
            if seen is not None and seen[0].recurs(func, args, kwargs):
                last, known_tally = seen
                known_tally.add(
                    last.call, args[0], args[1], self._axis.at(args[0]), self._axis.calls
                )
                return
            x, weight = operands(args, kwargs)
            reason = why_not_countable(x, weight)
            if reason is not None:
                self._uncounted[(frame.name, f"{op}: {reason}")] = None
                return
            call = linear_call(func, args, kwargs)
            call, inner = unpadded(call, frame.module, frame.given, x)
            tally = self._recent.get(frame.name)
            if tally is None or not tally.is_of(op, weight):
                tally = self._recent[frame.name] = self._tally(frame, op, weight)
            tally.add(call, inner, weight, self._axis.at(inner), self._axis.calls)
            if inner is x and not kwargs and weight is args[1]:
                self._seen[frame.name] = (SeenCall(func, args, call), tally)

    def _tally(self, frame: Frame, op: str, weight: Tensor) -> Tally:
        name = frame.name
        if not isinstance(frame.module, LAYER_MODULES):
            name = self._owners.name_of(weight) or name
        key = (name, op, weight.shape)
        tally = self._tallies.get(key)
        if not isinstance(tally, Tally):
            tally = Tally(self._row_name(name), op, self._axis.timesteps, self._scratch)
            self._tallies[key] = tally
        self._counted_in.add(name)
        return tally

    def _row_name(self, name: str) -> str:
        """The name, numbered from the second row that has it."""
        self._shown[name] += 1
        others = self._shown[name] - 1
        return f"{name}#{others + 1}" if others else name

    def _observe_product(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
    ) -> None:
        module, site = call_site(self._names)
        where = frame.name if module is None else self._names[module]
        op = PRODUCTS[func]
        with torch._C.DisableTorchFunction():
            reason = _why_no_product(where, site, (*args, *kwargs.values()))
            found = reason or READERS[op](args, kwargs)
            if isinstance(found, str):
                self._uncounted[(where, f"{op}: {found}")] = None
                return
            for product in found:
                self._count_product(product, where, site)

    def _count_product(self, product: Product, where: str, site: Hashable) -> None:
        left, right = (self._owners.name_of(x) for x in (product.a, product.b))
        if left and right:
            reason = f"{product.op}: {left} and {right} are both parameters, not activations"
            self._uncounted[(where, reason)] = None
            return
        if left:
            product = product.swapped()
        weight = left or right
        key: tuple[Hashable, ...] = (where, product.op, site)
        if weight:
            key = (weight, product.op, "parameter")
        tally = self._tallies.get(key)
        if not isinstance(tally, ProductTally):
            name = self._row_name(weight or f"{where}.{product.op}")
            tally = ProductTally(name, product, bool(weight), self._axis.timesteps, self._scratch)
            self._tallies[key] = tally
        shape = product.a.shape
        # Operands of products are often transposed: [T, B, ...] must not look like [B, T, ...].
        square = len(shape) > 1 and shape[0] == shape[1] and self._axis.several
        at = self._axis.at(product.a) if shape and not square else (0, 0)
        tally.add(product, at, self._axis.calls)
        self._counted_in |= {weight or where, where}
        if product.note:
            self._uncounted[(tally.name, product.note)] = None

    def result(self) -> CountResult:
        """What has been counted so far. Waits for the device.

        Raises:
            SnnprofError: the model was never called, the last sequence is not finished, or
                a call of the model failed half-way.

        Warns:
            RuntimeWarning: a layer received NaN or infinity (``non_finite`` names it), or its
                weight was written to without a trace (``.data``, a fused optimiser).
        """
        self._axis.check_complete()
        if self._failed or self._position.unfinished:
            raise SnnprofError(
                "a call of the model failed inside the counter, so its counts are of half a "
                "forward pass: count again"
            )
        if self._active is not None:
            self._settle()
        rows: list[LayerCount] = []
        non_finite: list[str] = []
        remarks: list[tuple[str, str]] = []
        for tally in (t for t in self._tallies.values() if not t.empty):
            row, finite, remark = tally.read()
            if not rows and row.input_kind == Kind.REAL:
                row = dataclasses.replace(row, stem=True)
            rows.append(row)
            if not finite:
                non_finite.append(row.name)
            if remark:
                remarks.append((row.name, remark))
        if non_finite:
            message = f"NaN or infinity in the input of {', '.join(non_finite)}: counted as events"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        for name, remark in remarks:
            warnings.warn(f"{name}: {remark}", RuntimeWarning, stacklevel=2)
        return CountResult(
            rows=tuple(rows),
            samples=self._axis.samples,
            timesteps=self._axis.timesteps,
            not_counted=(*self._uncounted, *remarks, *self._unseen()),
            non_finite=tuple(non_finite),
        )

    def _unseen(self) -> Iterator[tuple[str, str]]:
        """Layers, and calls of the model, that the hooks did not see at work."""
        root = self._names[self._model]
        if self._position.other_threads:
            yield root, "called from a thread other than the counter's"
        for name in sorted(self._position.outside):
            yield name, "called outside a call of the model"
        listed = {name for name, _ in self._uncounted} | self._position.outside
        for module, name in self._names.items():
            if isinstance(module, torch.jit.ScriptModule):
                yield name, "TorchScript: runs outside Python, no hook sees it"
            elif isinstance(module, LAYER_MODULES) and name not in self._counted_in | listed:
                ran = name in self._position.entered
                yield name, _NO_OPERATION if ran else "never called"


_NO_OPERATION = "called, but no convolution or linear operation was seen in it"


def _reason(func: Callable[..., Any]) -> str:
    if func in UNCOUNTED:
        return f"{UNCOUNTED[func]}: not counted yet"
    op = CONVOLUTIONS.get(func) or LINEAR.get(func) or PRODUCTS[func]
    return f"{op}: left out by layers="


# The older way to norm a weight: a hook, in a file of its own.
_SPECTRAL_NORM = nn.utils.spectral_norm.__code__.co_filename


def _why_no_product(where: str, site: Site, given: Iterable[object]) -> str | None:
    """Why a product that was seen is none that can be counted, or None."""
    by_hook = any(file == _SPECTRAL_NORM for file, *_ in site)
    if by_hook or "parametrizations" in where.split("."):
        return "makes a weight, no activation takes part"
    flat = [x for value in given for x in (value if isinstance(value, list | tuple) else (value,))]
    reasons = (why_not_countable(x, x) for x in flat if isinstance(x, Tensor))
    return next((reason for reason in reasons if reason is not None), None)

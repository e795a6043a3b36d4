"""The tallies of a measurement: every operation that is seen is added to the row it belongs to.

A row is a layer; outside the layers' own modules a parameter, whichever module uses it; and where
neither has a name (a product of activations, a weight that was computed) a place: the module that
runs, and the way from there to the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.module_names import ParameterOwners
from snnprof.counting.call_site import Site, call_site
from snnprof.counting.faults import Faults
from snnprof.counting.layer_tally import LayerTally
from snnprof.counting.linear_call import LinearCall, RememberedCall, unpadded
from snnprof.counting.linear_ops import OPERATIONS, LinearOperation
from snnprof.counting.module_tracker import LAYER_MODULES, Frame
from snnprof.counting.operation_mode import why_not_countable
from snnprof.counting.output_gradients import GradientTally, GradientWatch
from snnprof.counting.product_tally import ProductTally
from snnprof.counting.products import PRODUCTS, Product, why_no_product
from snnprof.counting.row_order import Arrange
from snnprof.counting.sample_doubt import SampleDoubt
from snnprof.counting.samples import SampleAxis
from snnprof.counting.unseen import why_left_out

LAYER_TYPES = ("conv", "linear", "attention")
Key = tuple[Hashable, ...]


class Tallies:
    """The tallies of a measurement, in the order in which their rows were first seen.

    Args:
        layers: what to count, of ``LAYER_TYPES``.
        names: the model's modules and their names, the model first.
        axis: what the present call of the model holds.
        arrange: decides how the time steps reach a row.
        doubt: sees the first layer.
        faults: of giving weights back.
        watch: of the gradients of outputs; None where they are not looked at.

    Attributes:
        counted_in: names of what was counted, and where.
        uncounted: (name, reason) of what was seen and not counted, in order; each once.
    """

    def __init__(
        self,
        layers: Collection[str],
        names: Mapping[nn.Module, str],
        axis: SampleAxis,
        arrange: Arrange,
        doubt: SampleDoubt,
        faults: Faults,
        watch: GradientWatch | None = None,
    ) -> None:
        # The registries as they are now: what was registered since the import is in them.
        self._operations = {
            function: operation
            for function, operation in OPERATIONS.items()
            if ("conv" if operation.is_convolution else "linear") in layers
        }
        self._products = dict(PRODUCTS) if "attention" in layers else {}
        self._names = names
        self._owners = ParameterOwners(next(iter(names)))
        self._axis = axis
        self._arrange = arrange
        self._doubt = doubt
        self._faults = faults
        self._watch = watch
        self._tallies: dict[Key, LayerTally | ProductTally] = {}
        self._shown: Counter[str] = Counter()  # rows by the name they would have
        self._recent: dict[str, LayerTally] = {}  # the last used in each module
        self._remembered: dict[str, tuple[RememberedCall, LayerTally]] = {}  # by module
        self.counted_in: set[str] = set()
        self.uncounted = faults.listed

    def __iter__(self) -> Iterator[LayerTally | ProductTally]:
        return iter(self._tallies.values())

    def __len__(self) -> int:
        return len(self._tallies)

    def verify_weights(self) -> None:
        """See whether every weight still is what was counted."""
        for tally in self:
            with self._faults.forgiven(tally.name):
                tally.verify_weight()

    def release_weights(self) -> None:
        """Leave no reference on a weight."""
        for tally in self:
            with self._faults.forgiven(tally.name):
                tally.release_weight()
        self._recent.clear()
        self._remembered.clear()

    def observe(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
    ) -> LayerTally | ProductTally | None:
        """Count a call of a watched function in the module of this frame, or list it.

        Returns:
            the row that its output belongs to; None where it was not counted, or as several rows.
        """
        operation = self._operations.get(func)
        if operation is not None:
            with torch._C.DisableTorchFunction():  # other counters around must not see ours
                return self._observe_linear(operation, args, kwargs, frame)
        if func in self._products:
            return self._observe_product(func, args, kwargs, frame)
        self.uncounted[(frame.name, why_left_out(func))] = None
        return None

    def _observe_linear(
        self,
        operation: LinearOperation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
    ) -> LayerTally | None:
        remembered = self._remembered.get(frame.name)
        if remembered is not None:
            last, tally = remembered
            same = last.operands_if_same(operation, args, kwargs)
            if same is not None:
                x, weight = same
                tally.add(last.call, x, weight, self._axis.present)
                return tally
        x, weight = operation.operands(args, kwargs)
        call = LinearCall.of(operation, args, kwargs)
        reason = why_not_countable(x, weight)
        if call.has_tensor_setting:
            reason = "an argument is a tensor besides input, weight and bias"
        if reason is not None:
            self.uncounted[(frame.name, f"{operation.name}: {reason}")] = None
            return None
        matrix = weight.unsqueeze(0) if weight.dim() == 1 else weight
        call, inner = unpadded(call, frame.module, frame.given, x)
        tally = self._layer_tally(frame, operation.name, matrix)
        leading = x.dim() - 1 - operation.spatial_dims
        self._doubt.see_layer(x, x.shape[:leading])
        self._arrange(tally.time_steps, x, leading)
        tally.add(call, inner, matrix, self._axis.present)
        as_given = inner is x and matrix is weight and not kwargs
        if as_given and operation.leading_operands and self._recent.get(frame.name) is tally:
            self._remembered[frame.name] = (RememberedCall(args, call), tally)
        return tally

    def _layer_tally(self, frame: Frame, op: str, weight: Tensor) -> LayerTally:
        recent = self._recent.get(frame.name)
        if recent is not None and recent.is_of(op, weight):
            return recent
        name: str | None = frame.name
        site: Site = ()
        if not isinstance(frame.module, LAYER_MODULES):
            name = self._owners.name_of(weight)
        named = name is not None
        if name is None:
            name, site = self._place(frame)
        key = (name, op, weight.shape, site)
        tally = self._tallies.get(key)
        if not isinstance(tally, LayerTally):
            row = self._row_name(name)
            tally = LayerTally(row, op, self._axis.timesteps, self._gradient(row))
            self._tallies[key] = tally
        self.counted_in.add(name)
        if named:  # else the same weight may be used in another place
            self._recent[frame.name] = tally
        return tally

    def _gradient(self, row: str) -> GradientTally | None:
        if self._watch is None:
            return None
        return GradientTally(self._watch, lambda why: self.uncounted.setdefault((row, why)))

    def _row_name(self, name: str) -> str:
        """The name, numbered from the second row of that name on."""
        self._shown[name] += 1
        number = self._shown[name]
        return f"{name}#{number}" if number > 1 else name

    def _place(self, frame: Frame) -> tuple[str, Site]:
        """The innermost module, also one that no hook follows, and the way to the call."""
        module, site = call_site(self._names)
        return (frame.name if module is None else self._names[module]), site

    def _observe_product(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
    ) -> ProductTally | None:
        where, site = self._place(frame)
        form = self._products[func]
        with torch._C.DisableTorchFunction():
            reason = why_no_product(where, site, (*args, *kwargs.values()))
            found = reason or form.read(args, kwargs)
            if isinstance(found, str):
                self.uncounted[(where, f"{form.name}: {found}")] = None
                return None
            rows = [self._count_product(product, where, site) for product in found]
        return rows[0] if len(rows) == 1 else None

    def _count_product(self, product: Product, where: str, site: Site) -> ProductTally | None:
        left, right = (self._owners.name_of(x) for x in (product.a, product.b))
        if left and right:
            reason = f"{product.op}: {left} and {right} are both parameters, not activations"
            self.uncounted[(where, reason)] = None
            return None
        if left:
            product = product.swapped()
        weight = left or right
        key: Key = (where, product.op, site)
        if weight:
            key = (weight, product.op, "parameter")
        tally = self._tallies.get(key)
        if not isinstance(tally, ProductTally):
            name = self._row_name(weight or f"{where}.{product.op}")
            gradient = self._gradient(name)
            tally = ProductTally(name, product, bool(weight), self._axis.timesteps, gradient)
            self._tallies[key] = tally
        self._arrange(tally.time_steps, product.a, product.leading)
        tally.add(product, self._axis.present)
        self.counted_in |= {weight or where, where}
        if product.note:
            self.uncounted[(tally.name, product.note)] = None
        return tally

"""SopCounter: counts the synaptic operations of a model, and leaves the model as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import nn

from snnprof.core.errors import SnnprofError, known
from snnprof.core.module_names import module_names
from snnprof.counting.all_reduce import of_all_processes
from snnprof.counting.audit import NOT_LOOKED, Audit
from snnprof.counting.eager_stance import running_eagerly
from snnprof.counting.faults import Faults, failed
from snnprof.counting.linear_ops import OPERATIONS
from snnprof.counting.module_tracker import ModuleTracker
from snnprof.counting.neuron_rates import NeuronRates
from snnprof.counting.operation_mode import (
    UNCOUNTED,
    OperationMode,
    SeeOutput,
    unseen_by_others,
)
from snnprof.counting.output_gradients import NO_BACKWARD, GradientWatch
from snnprof.counting.products import PRODUCTS
from snnprof.counting.row_order import NOTHING, RowOrder, arrange
from snnprof.counting.row_reading import read_rows
from snnprof.counting.sample_doubt import SampleDoubt
from snnprof.counting.samples import SampleAxis
from snnprof.counting.tallies import LAYER_TYPES, Tallies
from snnprof.counting.unseen import operation_name, unseen
from snnprof.results import CountResult, LayerCount
from snnprof.results.kinds import Kind


class SopCounter:
    """Counts the synaptic operations of every call of a model inside its ``with`` block.

    Args:
        model: any module.
        layers: what to count, of "conv", "linear", "attention"; what is left out is listed
            in the result.
        batch_dim: batch dimension of the model's input; 1 for [T, B, ...].
        timesteps: T, if the model is called once per time step, or has the layout "inside".
        layout: how the model takes its time steps: "step" ([B, ...], called T times),
            "time-first" ([T, B, ...]), "batch-first" ([B, T, ...]), "inside" ([B, ...], T runs in
            its forward); None: as batch_dim and timesteps tell.
        audit: on the first call, also listen below torch's functions, and list what multiplied
            there and was not counted.
        gradients: also count the non-zeros of the gradients that come back to the outputs of
            layers in backward passes inside the block: ``LayerCount.gradient``.
        samples: of all calls together, for a training step of any making: how the calls share
            them is not looked at, and rates per time step are not known.

    Forward hooks know where the model is; a torch-function mode sees the operands that
    convolutions, linear operations and products of activations really receive. Outputs,
    gradients, parameters, buffers, random state and flags stay as they are, and nothing is
    left behind. Backward passes and the recomputation of checkpointed activations add
    nothing to the counts. Compiled modules run eagerly inside the block, because hooks added after
    compilation do not run. A second block begins anew: :meth:`snnprof.CountResult.merge` joins
    what two of them counted.

    Raises:
        SnnprofError: no module, or a TorchScript module; an unknown layer type or layout; a layout
            without the T that it needs; samples beside a layout or a T; or (at the end of the
            block) an input whose samples could not be read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] = LAYER_TYPES,
        batch_dim: int = 0,
        timesteps: int | None = None,
        *,
        layout: str | None = None,
        audit: bool = True,
        gradients: bool = False,
        samples: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SnnprofError(f"model is a {type(model).__name__}, not a torch.nn.Module")
        if isinstance(model, torch.jit.ScriptModule):
            raise SnnprofError(
                "model is a TorchScript module, which runs outside Python, where no hook sees it: "
                "count the module that it was made from"
            )
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise SnnprofError(f"layers={layers!r}: give a list of {', '.join(LAYER_TYPES)}")
        for name in layers:
            if name not in LAYER_TYPES:
                raise known("layer type", name, LAYER_TYPES)
        self._model = model
        self._layers = frozenset(layers)
        self._new_axis = partial(SampleAxis, model, batch_dim, timesteps, layout, samples)
        self._audits = audit
        self._watches = gradients
        self._active: ExitStack | None = None
        with unseen_by_others():
            self._clear()

    def _clear(self) -> None:
        axis = self._axis = self._new_axis()
        names = self._names = module_names(self._model)
        self._row_order = RowOrder(axis.present, axis.layout, axis.states_itself)
        self._doubt = SampleDoubt()
        self._tracker = ModuleTracker(
            self._model, names, self._begin_call, self._doubt.end, self._end_call, self._note_fault
        )
        arranged = partial(arrange, self._row_order, axis, self._tracker)
        watch = self._watch = GradientWatch() if self._watches else None
        self._neurons = NeuronRates(names, self._tracker, axis, arranged, watch)
        self._faults = Faults(names[self._model])
        self._tallies = Tallies(
            self._layers, names, axis, arranged, self._doubt, self._faults, watch
        )
        self._audit = Audit(self._tracker.running_name, names[self._model])
        watched = (*OPERATIONS, *PRODUCTS, *UNCOUNTED)
        observe = self._observe if watch is None else self._observe_and_watch
        self._mode = OperationMode(watched, observe, self._note_failure, self._row_order.follow)
        self._on = ExitStack()  # while the model runs
        self._failed = False
        self._stem_failed = False

    def __enter__(self) -> SopCounter:
        if self._active is not None:
            raise SnnprofError("this counter is already counting: make another one to nest them")
        self._release()
        with unseen_by_others():
            self._clear()
        with ExitStack() as stack:
            stack.callback(self._tallies.release_weights)
            stack.callback(self._tallies.verify_weights)
            stack.enter_context(running_eagerly())
            self._neurons.attach(stack)
            self._tracker.attach(stack)
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
            self._release()
            if self._watch is not None:
                self._watch.close()
            if exc is None:
                self._faults.tell_at_end()

    def _release(self) -> None:
        """Let go of each other: in a circle the model would outlive its last name."""
        for watching in (self._tracker, self._mode, self._audit):
            watching.release()

    def _begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """The mode is on while the model runs, and costs nothing in between.

        An error of use is kept until the model has answered: the call is not counted.
        """
        axis = self._axis
        try:
            axis.begin_call(args, kwargs)
        except SnnprofError as error:
            self._faults.keep(error)
            return False
        except Exception as error:
            self._note_fault(None, error, lost=True)
            return False
        if self._watch is not None:
            self._watch.begin_call()
        if axis.calls == 1:
            with self._faults.forgiven():
                self._doubt.begin(axis.input)
        self._mode.followed = NOTHING
        if axis.present.steps.length > 1:
            with self._faults.forgiven():
                self._mode.followed = self._row_order.begin(axis.input)
        auditing = axis.calls == 1 and self._audits
        self._mode.covering = self._audit.covering if auditing else None
        if auditing:
            self._on.enter_context(self._audit)
        self._on.enter_context(self._mode)
        return True

    def _note_fault(self, name: str | None, error: Exception, lost: bool) -> None:
        if lost:
            self._axis.lose_call(failed(error))
        self._faults.list(name, error)

    def _end_call(self) -> None:
        with self._faults.forgiven():
            self._on.close()
        self._axis.input = None

    def _note_failure(self, func: Callable[..., Any], error: Exception | None) -> None:
        try:
            name = self._tracker.running_name()
        except Exception:  # whose fault it may be
            name = self._names[self._model]
        if name is None:
            return
        if error is None:
            self._failed = True
        else:
            self._stem_failed = self._stem_failed or not self._tallies
            self._faults.list(name, error, f"{operation_name(func)}: ")

    def _observe(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        frame = self._tracker.frame()
        if frame is not None:
            self._tallies.observe(func, args, kwargs, frame)

    def _observe_and_watch(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> SeeOutput | None:
        frame = self._tracker.frame()
        row = None if frame is None else self._tallies.observe(func, args, kwargs, frame)
        return None if row is None or row.gradient is None else row.gradient.see

    def expect(self, samples: int, timesteps: int, calls: int | None = None) -> None:
        """Say what the next calls of the model hold, for who runs it in a way of their own.

        From then on the model's inputs are not read, whatever their shape, and every call or
        sequence of calls has to be announced.

        Args:
            samples: B, of all these calls.
            timesteps: their time steps together: T, or a part of it.
            calls: how many calls share them; by default one per time step for a model that is
                called step by step, else 1.

        Raises:
            SnnprofError: outside the block, no whole numbers, steps that do not fit into T or
                the calls, or calls that were announced before and did not come.
        """
        if self._active is None:
            raise SnnprofError("expect() announces calls inside the counter's with block")
        self._axis.expect(samples, timesteps, calls)

    def result(self, samples: int | None = None) -> CountResult:
        """The counts so far. Waits for the device.

        Args:
            samples: how many samples were fed, to be compared with those that were counted.

        Raises:
            SnnprofError: an input whose samples could not be read, the model was never called, the
                last sequence is not finished, a call of the model failed half-way, or another
                number of samples was counted.

        Warns:
            RuntimeWarning: a layer received NaN or infinity (``non_finite`` names it), or its
                weight was written to without a trace (``.data``, a fused optimiser); or, once, the
                samples look like time steps, or T in the layout "inside" like another.
        """
        self._faults.tell()
        self._axis.check_complete(samples)
        if self._failed or self._tracker.unfinished:
            raise SnnprofError(
                "a call of the model failed inside the counter, so its counts are of half a "
                "forward pass: count again"
            )
        if self._active is not None:
            self._tallies.verify_weights()
        with unseen_by_others(), torch._C.DisableTorchFunction():
            found = read_rows(self._tallies, self._stem_failed)
        self._tallies.uncounted.update(dict.fromkeys(found.unreadable))
        for warning in (*found.warnings(), *self._doubts(found.rows, samples)):
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        neurons = self._neurons.read()
        never_seen: list[tuple[str, str]] = []
        with self._faults.forgiven():
            never_seen.extend(self._unseen(found.rows))
        if not self._audits:
            never_seen.append((self._names[self._model], NOT_LOOKED))
        if self._watch is not None and not self._watch.came:
            never_seen.append((self._names[self._model], NO_BACKWARD))
        return CountResult(
            rows=found.rows,
            samples=self._axis.samples,
            timesteps=self._axis.timesteps,
            not_counted=(
                *self._tallies.uncounted,
                *self._audit.found,
                *found.remarks,
                *self._neurons.not_counted,
                *never_seen,
            ),
            non_finite=found.non_finite,
            neurons=neurons,
            scan=", ".join(sorted({t.scan for t in self._tallies if t.scan})) or None,
        )

    def _doubts(self, rows: Sequence[LayerCount], samples: int | None) -> Iterator[str]:
        """Sentences on samples and time steps that may have been read wrongly."""
        axis = self._axis
        # A network without spikes has no time steps.
        spikes = any(row.input_kind != Kind.REAL for row in rows)
        with self._faults.forgiven():
            if spikes and samples is None and axis.reads_first_dimension_only:
                yield from filter(None, [self._doubt.say_once()])
        with self._faults.forgiven():
            if axis.steps_run_inside:
                yield from filter(None, [self._neurons.doubt_steps(axis.samples, axis.timesteps)])

    def all_reduce(self, group: Any = None) -> CountResult:
        """:meth:`result` of all processes of a torch.distributed group, merged, on each of them.

        Every process must call it; one whose model was never called takes part with nothing.

        Raises:
            SnnprofError: on every process, where :meth:`result` does on any; and as
                :meth:`snnprof.CountResult.merge`.
        """
        called = self._axis.was_called or self._faults.misused
        return of_all_processes(self.result, called, group)

    def _unseen(self, rows: Sequence[LayerCount]) -> Iterator[tuple[str, str]]:
        listed = {name for name, _ in (*self._tallies.uncounted, *self._audit.found)}
        known = listed | self._tallies.counted_in | {row.name for row in rows}
        return unseen(self._tracker, self._names, known)

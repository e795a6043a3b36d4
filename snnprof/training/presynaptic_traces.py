"""Presynaptic traces, which the weight gradient of OTTT and NDOT sees instead of the spikes.

The trace a of a layer of neurons starts with its spikes and goes on as a_t = e_t * a_(t-1) +
s_t. It travels with the spikes as a forward-mode tangent, so that what lies between the
neurons and the next weights (pooling, flattening, sums of branches) does with the trace what
its derivative says: a pooling by maximum takes the trace of the neuron it chose. The linear
operation that receives it saves the trace for its backward pass where it would have saved its
input; its output and the gradients of input and bias are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from snnprof.core.errors import SnnprofError
from snnprof.counting.linear_ops import OPERATIONS
from snnprof.spiking.neuron_equations import NeuronEquations, equations_of, not_stated, number
from snnprof.training.batch_run import BatchRun
from snnprof.training.stepped_model import first_of

TRACED = "traces (modes ottt, ottt-step, ndot)"


@dataclass
class PresynapticTrace:
    """The trace of one layer of neurons.

    Attributes:
        values: the trace after the last step; None before the first.
        membrane: the membrane potential that step left; None if it is not needed.
        steps: time steps seen.
    """

    values: Tensor | None = None
    membrane: Tensor | None = None
    steps: int = 0


# (the trace so far, the leak of this step, the membrane it left, its spikes) to the trace now
TraceStep = Callable[[PresynapticTrace, float | Tensor, Tensor | None, Tensor], Tensor]


def leaky_step(
    last: PresynapticTrace, leak: float | Tensor, membrane: Tensor | None, spikes: Tensor
) -> Tensor:
    """a_t = leak * a_(t-1) + s_t (OTTT)."""
    assert last.values is not None
    return leak * last.values + spikes


def dynamic_step(
    last: PresynapticTrace, leak: float | Tensor, membrane: Tensor | None, spikes: Tensor
) -> Tensor:
    """a_t = e_t * a_(t-1) + s_t (NDOT).

    e_t = (u_t - V s_t) / (u_(t-1) - V s_(t-1)), clamped to [-leak, leak]: the ratio of the
    membrane potentials after the soft resets. Where the one before is 0, e_t is the leak, as
    for a membrane that no current has touched.
    """
    assert last.values is not None
    if membrane is None or last.membrane is None:  # stateless
        return leak * last.values + spikes
    leak = torch.as_tensor(leak, dtype=membrane.dtype, device=membrane.device)
    ratio = membrane / last.membrane
    ratio = torch.where(last.membrane == 0, leak, ratio.clamp(-leak, leak))
    return ratio.view_as(spikes) * last.values + spikes


@contextmanager
def leaky_traces(run: BatchRun) -> Iterator[None]:
    """Train on the traces of OTTT inside the block."""
    with _traces(run, leaky_step, keep_membrane=False):
        yield


@contextmanager
def dynamic_traces(run: BatchRun) -> Iterator[None]:
    """Train on the traces of NDOT inside the block."""
    with _traces(run, dynamic_step, keep_membrane=True):
        yield


@contextmanager
def _traces(run: BatchRun, step: TraceStep, keep_membrane: bool) -> Iterator[None]:
    neurons = [
        m
        for m in run.stepped.model.modules()
        if (equations := equations_of(m)) is not None and equations.spiking
    ]
    if not neurons:
        raise SnnprofError(
            f"{TRACED} need the leak of the neurons, and no layer of this model states it: return "
            "NeuronEquations(leak=...) from a function that @snnprof.register_neuron(TheirNeuron) "
            "registers"
        )
    for neuron in neurons:
        _leak(neuron, 0)
    if run.stepped.compiled:
        raise SnnprofError(f"{TRACED} do not run compiled: drop compile")
    with ExitStack() as stack:
        for neuron in neurons:
            before, after = _hooks(step, keep_membrane)
            stack.callback(neuron.register_forward_pre_hook(before).remove)
            stack.callback(neuron.register_forward_hook(after).remove)
        stack.enter_context(run.around_forward(_seeing_traces))
        yield


@contextmanager
def _seeing_traces() -> Iterator[None]:
    # A level per time step: the backward pass must not carry tangents along.
    with forward_ad.dual_level(), SwapOperands():
        yield


def _hooks(step: TraceStep, keep_membrane: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    trace = PresynapticTrace()

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(forward_ad.unpack_dual(x)[0] if isinstance(x, Tensor) else x for x in inputs)

    def after(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> Any:
        spikes: Tensor = first_of(out)
        now = spikes.detach()
        with torch.no_grad():
            leak = _leak(module, trace.steps)
            left = _membrane(module, leak, out) if keep_membrane else None
            trace.values = now if trace.values is None else step(trace, leak, left, now)
            trace.membrane = None if left is None else left.clone()
            trace.steps += 1
        dual: Tensor = forward_ad.make_dual(spikes, trace.values)
        return dual if spikes is out else (dual, *out[1:])

    return before, after


def _stated(neuron: nn.Module) -> NeuronEquations:
    equations = equations_of(neuron)
    assert equations is not None, "only neurons that state their equations are hooked"
    return equations


def _leak(neuron: nn.Module, step: int) -> float | Tensor:
    """The leak by which it multiplies its membrane potential in this time step."""
    leak = _stated(neuron).leak
    if leak is None:
        raise not_stated(neuron, "leak", TRACED)
    return number(leak, step)


def _membrane(neuron: nn.Module, leak: float | Tensor, out: Any) -> Tensor | None:
    """The membrane potential after the reset; None for a stateless neuron, whose leak is 0.

    Args:
        neuron: the layer.
        leak: of this time step.
        out: what its call returned.
    """
    membrane = _stated(neuron).membrane
    if callable(membrane):
        membrane = membrane(out)
    if membrane is None and leak != 0:
        raise not_stated(neuron, "membrane", "ndot")
    return None if membrane is None else membrane.detach()


class SwapOperands(TorchFunctionMode):
    """Linear operations save the trace of their input for the weight gradient."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        operation = OPERATIONS.get(func)
        if operation is None:
            return func(*args, **kwargs)
        x, weight = operation.operands(args, kwargs)
        primal, trace = forward_ad.unpack_dual(x)
        if trace is None:  # no spikes: the image
            return func(*args, **kwargs)
        device = primal.device.type
        if torch.is_autocast_enabled(device):
            primal = primal.to(torch.get_autocast_dtype(device))
        if not operation.is_convolution:  # or it would save a copy, not what it is given
            primal = primal.contiguous()
        swap = _Swap(primal, trace.detach())
        with saved_tensors_hooks(swap, lambda saved: saved):
            args, kwargs = operation.with_input(primal, args, kwargs)
            out = func(*args, **kwargs)
        if torch.is_grad_enabled() and weight.requires_grad and not swap.done:
            raise SnnprofError(
                f"{TRACED}: {func.__name__} on an input of shape "
                f"{tuple(primal.shape)} saves no input to swap, for it "
                "saves a copy (uneven padding, an operation of your own): use 'online'"
            )
        return out


class _Swap:
    """Saves the trace where the operation saves its input."""

    def __init__(self, primal: Tensor, trace: Tensor) -> None:
        self.done = False
        self._primal = primal
        self._trace = trace

    def __call__(self, saved: Tensor) -> Tensor:
        if saved.data_ptr() != self._primal.data_ptr() or saved.numel() != self._primal.numel():
            return saved
        self.done = True
        return self._trace.to(saved.dtype).reshape(saved.shape)

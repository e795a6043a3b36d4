"""Presynaptic traces: what the weight gradient of OTTT and NDOT sees instead of the spikes.

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
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from snnprof.core.errors import SnnprofError
from snnprof.counting.linear_ops import OPERATIONS
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF, IntegerLIF
from snnprof.training.batch_run import BatchRun

Leak = float | Tensor
# neuron -> (membrane left at the last step, its trace, its spikes now) -> trace now
TraceStep = Callable[[nn.Module, "NeuronTrace", Tensor], Tensor]


@singledispatch
def leak_of(neuron: nn.Module) -> Leak:
    """The leak by which a layer of neurons has just multiplied its membrane potential.

    ``leak_of.register(TheirNeuron)`` states it for another library's.
    """
    raise TypeError(f"no leak is known for {type(neuron).__name__}")


@leak_of.register
def _(neuron: LIF) -> Leak:
    return neuron.settings.leak


@leak_of.register
def _(neuron: IntegerLIF) -> Leak:
    return neuron.leak


@leak_of.register
def _(neuron: HDLIF) -> Leak:
    if neuron.parallel:  # stateless
        return 0.0
    return neuron.leak_logit[neuron.steps_run - 1].detach().sigmoid()


@singledispatch
def membrane_of(neuron: nn.Module) -> Tensor | None:
    """The membrane potential after the reset, shaped as the spikes but for a leading 1.

    ``membrane_of.register(TheirNeuron)`` states it for another library's.
    """
    raise TypeError(f"no membrane potential is known for {type(neuron).__name__}")


@membrane_of.register(LIF)
@membrane_of.register(IntegerLIF)
@membrane_of.register(HDLIF)
def _(neuron: Any) -> Tensor | None:
    membrane: Tensor | None = neuron.membrane
    return membrane


class NeuronTrace:
    """The trace of one layer of neurons, and the membrane potential it was left with."""

    def __init__(self) -> None:
        self.trace: Tensor | None = None
        self.membrane: Tensor | None = None


def leaky_step(neuron: nn.Module, last: NeuronTrace, spikes: Tensor) -> Tensor:
    """a_t = leak * a_(t-1) + s_t (OTTT)."""
    assert last.trace is not None
    return leak_of(neuron) * last.trace + spikes


def dynamic_step(neuron: nn.Module, last: NeuronTrace, spikes: Tensor) -> Tensor:
    """a_t = e_t * a_(t-1) + s_t (NDOT).

    e_t = (u_t - V s_t) / (u_(t-1) - V s_(t-1)), clamped to [-leak, leak]: the ratio of the
    membrane potentials after the soft resets. Where the one before is 0, e_t is the leak, as
    for a membrane that no current has touched.
    """
    assert last.trace is not None
    leak, membrane = leak_of(neuron), membrane_of(neuron)
    if membrane is None or last.membrane is None:  # stateless
        return leak * last.trace + spikes
    leak = torch.as_tensor(leak, dtype=membrane.dtype, device=membrane.device)
    ratio = membrane.detach() / last.membrane
    ratio = torch.where(last.membrane == 0, leak, ratio.clamp(-leak, leak))
    return ratio.view_as(spikes) * last.trace + spikes


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
    unknown = leak_of.dispatch(object)
    neurons = [m for m in run.stepped.model.modules() if leak_of.dispatch(type(m)) is not unknown]
    if not neurons:
        raise SnnprofError(
            "traces (modes ottt, ottt-step, ndot) need the leak of the neurons, and no layer of "
            "this model states it: "
            "snnprof.training.presynaptic_traces.leak_of.register(TheirNeuron) does"
        )
    if run.stepped.compiled:
        raise SnnprofError("traces (modes ottt, ottt-step, ndot) do not run compiled: drop compile")
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
    state = NeuronTrace()

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(forward_ad.unpack_dual(x)[0] if isinstance(x, Tensor) else x for x in inputs)

    def after(module: nn.Module, inputs: tuple[Any, ...], spikes: Tensor) -> Tensor:
        now = spikes.detach()
        with torch.no_grad():
            state.trace = now if state.trace is None else step(module, state, now)
            left = membrane_of(module) if keep_membrane else None
            state.membrane = None if left is None else left.detach().clone()
        dual: Tensor = forward_ad.make_dual(spikes, state.trace)
        return dual

    return before, after


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
                f"traces (modes ottt, ottt-step, ndot): {func.__name__} on an input of shape "
                f"{tuple(primal.shape)} saves no input to swap: use symmetric padding, or 'online'"
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

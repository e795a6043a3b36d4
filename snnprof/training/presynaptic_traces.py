"""Presynaptic traces, which the weight gradient of OTTT and NDOT sees instead of the spikes.

The trace a of a layer of neurons starts with its spikes and goes on as a_t = e_t * a_(t-1) +
s_t. It travels with the spikes as a forward-mode tangent, so that what lies between the
neurons and the next weights (pooling, flattening, sums of branches) does with the trace what
its derivative says: a pooling by maximum takes the trace of the neuron it chose. The linear
operation that receives it saves the trace for its backward pass where it would have saved its
input; its output and the gradients of input and bias are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

TRACED = "traces (modes ottt, ottt-step, ndot, ndot-code, ndot-step)"

# A leak, or the factor of every neuron.
Factor = float | Tensor


@dataclass(frozen=True)
class TraceRule:
    """The factor e_t of a trace, by which it goes from one time step to the next.

    Attributes:
        factor: from the membranes left by the last steps, this one's last, and the leak of this
            step to e_t, a number or a tensor of the membrane's shape.
        membranes: how many it looks at, this step's included; 0 for none.
        reset_again: what the reset took off is taken off the membranes once more.
    """

    factor: Callable[[Sequence[Tensor], Factor], Factor]
    membranes: int = 0
    reset_again: bool = False


def published_ratio(left: Sequence[Tensor], leak: Factor) -> Factor:
    """NDOT's factor: a_t = e_(t-1) * a_(t-1) + s_t, e_t = (u_t - V s_t) / (u_(t-1) - V s_(t-1)).

    Where there is no such ratio (the first two steps, a membrane of 0) it is the leak, as for a
    membrane that no current has touched. It has no bound. (Jiang et al., ICML 2024.)
    """
    if len(left) < 3:
        return leak
    ratio = left[-2] / left[-3]
    return torch.where(ratio.isfinite(), ratio, _as(ratio, leak))


def bounded_ratio(left: Sequence[Tensor], leak: Factor) -> Factor:
    """NDOT's factor as its authors' code has it: of this step to the one before.

    Clamped to [-leak, leak]; the leak where it is 0 or not a number. The membranes are those after
    the reset, less V s_t once more.
    """
    if len(left) < 2:
        return leak
    ratio = left[-1] / left[-2]
    leak = _as(ratio, leak)
    ratio = ratio.clamp(-leak.abs(), leak.abs())
    return torch.where((ratio == 0) | ratio.isnan(), leak, ratio)


def _as(like: Tensor, leak: Factor) -> Tensor:
    return torch.as_tensor(leak, dtype=like.dtype, device=like.device)


LEAKY = TraceRule(lambda left, leak: leak)  # OTTT
PUBLISHED_NDOT = TraceRule(published_ratio, membranes=3)
CODED_NDOT = TraceRule(bounded_ratio, membranes=2, reset_again=True)


@contextmanager
def traces(run: BatchRun, rule: TraceRule) -> Iterator[None]:
    """Train on traces inside the block.

    Raises:
        SnnprofError: no neurons are known, one states too little, or the model is compiled.
    """
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
            watch = _stated(neuron).watch_reset if rule.reset_again else None
            trace = PresynapticTrace(rule, watch and stack.enter_context(watch()))
            stack.callback(neuron.register_forward_pre_hook(_without_tangents).remove)
            stack.callback(neuron.register_forward_hook(trace.after).remove)
        stack.enter_context(run.around_forward(_seeing_traces))
        yield


@contextmanager
def _seeing_traces() -> Iterator[None]:
    # A level per time step: the backward pass must not carry tangents along.
    with forward_ad.dual_level(), SwapOperands():
        yield


def _without_tangents(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(forward_ad.unpack_dual(x)[0] if isinstance(x, Tensor) else x for x in inputs)


class PresynapticTrace:
    """The trace of one layer of neurons.

    Args:
        rule: says its factor.
        taken_off: gives what the last reset took off; None where spikes tell it.
    """

    def __init__(self, rule: TraceRule, taken_off: Callable[[], Tensor] | None = None) -> None:
        self._rule = rule
        self._watched = taken_off
        self._values: Tensor | None = None
        self._left: list[Tensor] = []
        self._steps = 0

    def after(self, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> Any:
        """Forward hook: take a time step, and hand its trace on as the tangent of the spikes."""
        spikes: Tensor = first_of(out)
        now = spikes.detach()
        with torch.no_grad():
            leak = _leak(module, self._steps)
            left = [*self._left, *self._membranes(module, leak, now, out)]
            self._left = left[1 - self._rule.membranes :] if left else []
            if self._values is not None:
                factor = self._rule.factor(left, leak)
                if isinstance(factor, Tensor) and factor.dim():
                    factor = factor.view_as(now)
                now = factor * self._values + now
            self._values = now
            self._steps += 1
        dual: Tensor = forward_ad.make_dual(spikes, now)
        return dual if spikes is out else (dual, *out[1:])

    def _membranes(
        self, module: nn.Module, leak: Factor, spikes: Tensor, out: Any
    ) -> Iterator[Tensor]:
        """The membrane that this step left, if the rule looks at it; none of a stateless neuron."""
        left = _membrane(module, leak, out) if self._rule.membranes else None
        if left is None:
            return
        if self._rule.reset_again:
            watched = self._watched
            fell = watched() if watched else _taken_off(module, self._steps, spikes)
            yield left - fell.view_as(left)
        else:
            yield left.clone()  # the neuron may go on in its place


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


def _taken_off(neuron: nn.Module, step: int, spikes: Tensor) -> Tensor:
    """V * s: what the reset takes off the membrane in this time step."""
    equations = _stated(neuron)
    per_spike = equations.reset_per_spike
    if per_spike is None:
        per_spike = 1.0 if equations.threshold is None else equations.threshold
    return spikes * number(per_spike, step)


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

"""The hybrid-driven LIF neuron of the HD-LIF paper, and its variants.

Rethinking SNN Online Training and Deployment: Gradient-Coherent Learning via Hybrid-Driven LIF
Model (arXiv 2410.07547).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.kernel import run_kernel
from snnprof.spiking.membrane_norm import MembraneNorm
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import NeuronEquations
from snnprof.spiking.spike_recomputation import register_recomputable

_FOUR_BIT_LEVELS = 15
_FOUR_BIT_STEPS = 4  # per unit of the membrane
MEMBRANE_NORM = "the norm of the membrane mixes neurons, so that dm_t/dm_{t-1} is no scalar leak"


def hdlif_step(
    membrane: Tensor | None,
    current: Tensor,
    leak: Tensor,
    threshold: Tensor,
    literal: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of the hybrid-driven LIF neuron, differentiated by torch: the definition.

    m = leak * m + I;  s = ReLU(m - threshold), a floating-point number;  m = m - s, so that a
    fired membrane is left at the threshold. Read literally, Eq. S1 of the paper also admits
    s = m where m >= threshold, which leaves 0. Either way ds/dm = 1 where it fires (the
    threshold itself included) and dm_next/dm = 0 after a spike, leak otherwise: no surrogate
    is needed.

    Args:
        membrane: [B, ...], None at rest.
        current: [B, ...].
        leak, threshold: scalars of this time step.
        literal: s = m where m >= threshold.

    Returns:
        The spike and the membrane potential after the reset.
    """
    charged = current if membrane is None else leak * membrane + current
    fires = charged >= threshold
    spike = torch.where(fires, charged if literal else charged - threshold, 0.0)
    return spike, torch.where(fires, torch.zeros_like(charged) if literal else threshold, charged)


class _HDLIFSequence(torch.autograd.Function):
    """K steps of :func:`hdlif_step`.

    From rest it saves the charged membrane, from which all else follows. From any other state
    it saves the membrane before each step and a byte that tells who fired.
    """

    @staticmethod
    def forward(
        ctx: Any,
        currents: Tensor,
        membrane: Tensor | None,
        leak: Tensor,
        threshold: Tensor,
        literal: bool,
        four_bit: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(currents)
        rest = membrane is None
        held = torch.empty_like(currents) if keep else None  # charged from rest, else reset
        fired = torch.empty_like(currents, dtype=torch.bool) if keep and not rest else None
        heights = threshold.to(currents.dtype)
        last = membrane
        for t, (current, height) in enumerate(zip(currents, heights, strict=True)):
            m = torch.empty_like(current) if held is None else held[t]
            if last is None:
                m.copy_(current)
            else:
                torch.mul(last, leak[t], out=m).add_(current)
            if fired is not None:
                torch.ge(m, height, out=fired[t])
            _spikes_of(m, height, literal, out=spikes[t])
            last = _after_reset(m, height, literal, in_place=not (keep and rest))
        assert last is not None, "an input has at least one time step"
        if four_bit:
            four_bit_(spikes)
        if held is not None and rest:
            register_recomputable(spikes, held, partial(_recompute, heights, literal, four_bit))
        ctx.save_for_backward(
            held if held is None or rest else held[:-1], fired, membrane, leak, threshold
        )
        ctx.literal = literal
        ctx.set_materialize_grads(False)
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """dL/dm = dL/ds where it fired, dL/dm' where not (m' is m after the reset).

        Unless read literally, a fired m' is the threshold, and s falls as that rises.
        """
        held, fired, membrane, leak, threshold = ctx.saved_tensors
        to_spikes, to_left = grads
        some = to_spikes if to_spikes is not None else to_left
        if some is None:
            return (None,) * len(ctx.needs_input_grad)
        zeros = torch.zeros_like(some[0] if to_spikes is not None else some)
        heights = threshold.to(held.dtype)
        to_currents = some.new_empty((len(leak), *held.shape[1:]))
        to_leak, to_threshold = torch.zeros_like(leak), torch.zeros_like(threshold)
        _, needs_membrane, needs_leak, needs_threshold, *_ = ctx.needs_input_grad
        for t in reversed(range(len(leak))):
            fires = held[t] >= heights[t] if fired is None else fired[t]
            to_spike = zeros if to_spikes is None else to_spikes[t]
            to_after = zeros if to_left is None else to_left
            to_charged = torch.where(fires, to_spike, to_after, out=to_currents[t])
            if needs_threshold and not ctx.literal:
                # The sum of dL/dm' - dL/ds over those that fired: the silent ones cancel.
                to_threshold[t] = to_after.sum() - to_charged.sum()
            if needs_leak and (t or membrane is not None):
                before = held[t - 1] if t else membrane
                if t and fired is None:
                    before = _after_reset(before, heights[t - 1], ctx.literal)
                to_leak[t] = _dot(to_charged, before)
            to_left = to_charged * leak[t] if t or needs_membrane else None
        return to_currents, to_left, to_leak, to_threshold, None, None, None


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products; without a copy where both lie in one piece."""
    if x.is_contiguous() and y.is_contiguous() and x.dtype in (torch.float32, torch.float64):
        return torch.dot(x.view(-1), y.view(-1))
    return (x * y).sum()


def _spikes_of(
    charged: Tensor, threshold: Tensor, literal: bool, out: Tensor | None = None
) -> Tensor:
    """The spikes of a charged membrane, in the place that is given or in one of their own."""
    out = torch.empty_like(charged) if out is None else out
    if literal:
        return torch.mul(charged, charged >= threshold, out=out)
    return torch.sub(charged, threshold, out=out).clamp_min_(0)


def _recompute(heights: Tensor, literal: bool, four_bit: bool, charged: Tensor) -> Tensor:
    """The spikes of all K steps of a charged membrane, heights [K] being the thresholds."""
    spikes = _spikes_of(charged, _per_step(heights, charged), literal)
    return four_bit_(spikes) if four_bit else spikes


def _per_step(heights: Tensor, like: Tensor) -> Tensor:
    """[K] to [K, 1, ...], as many dimensions as the other has."""
    return heights.reshape(-1, *[1] * (like.dim() - 1))


def _after_reset(
    charged: Tensor, threshold: Tensor, literal: bool, in_place: bool = False
) -> Tensor:
    """The membrane after the reset: at the threshold where it fired, or, literally, at 0."""
    if literal:
        fires = charged >= threshold
        return charged.masked_fill_(fires, 0) if in_place else charged.masked_fill(fires, 0)
    return torch.minimum(charged, threshold, out=charged if in_place else None)


class _StatelessFire(torch.autograd.Function):
    """s = ReLU(I - threshold_t) for K steps that know nothing of each other; saves a byte."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, threshold: Tensor, literal: bool, four_bit: bool, keep: bool
    ) -> Tensor:
        per_step = _per_step(threshold.to(currents.dtype), currents)
        fires = currents >= per_step
        spikes = _spikes_of(currents, per_step, literal)
        if four_bit:
            four_bit_(spikes)
        ctx.save_for_backward(fires if keep else None, threshold)
        ctx.literal = literal
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        fires, threshold = ctx.saved_tensors
        to_currents = grads[0] * fires
        to_threshold = None
        if ctx.needs_input_grad[1]:
            to_threshold = torch.zeros_like(threshold)
            if not ctx.literal:
                to_threshold -= to_currents.flatten(1).sum(1)
        return to_currents, to_threshold, None, None, None


def four_bit_(spikes: Tensor) -> Tensor:
    """clamp(round(4 s), 0, 15) / 4, in place; the gradient passes unchanged.

    The membrane is reset by the spike as it was before.
    """
    return spikes.mul_(_FOUR_BIT_STEPS).round_().clamp_(0, _FOUR_BIT_LEVELS).div_(_FOUR_BIT_STEPS)


class HDLIF(Neuron):
    """Hybrid-driven LIF neurons: leak and threshold are learnt, one of each per time step.

    leak_t = sigmoid(leak_logit[t]) and threshold_t = sigmoid(threshold_logit[t]), both 0.5
    at the start. The equations are those of :func:`hdlif_step`.

    Args:
        timesteps: T.
        channels: channels of the input [K, B, C, ...]; needed for ``mem_bn`` only.
        four_bit: spikes in 16 steps of 1/4: clamp(round(4 s), 0, 15) / 4.
        parallel: stateless: s = ReLU(I_t - threshold_t). Without a membrane there is nothing
            for ``mem_bn`` to norm: it is left out.
        mem_bn: the charged membrane is normalised, see :class:`MembraneNorm`.
        seca: the currents are scaled per channel, see :class:`ChannelAttention`.
        literal: s = m where m >= threshold, which leaves the membrane at 0.
        authors_code: what the authors' code does where the paper says otherwise: a parallel
            neuron has the threshold of step 0 at every step.

    Saves for the backward pass, per neuron and step: the membrane (4 bytes in float32), one
    byte more if it does not start from rest; a byte alone if ``parallel``.

    Raises:
        SnnprofError: more time steps than the neurons have parameters for.
    """

    def __init__(
        self,
        timesteps: int,
        channels: int = 1,
        *,
        four_bit: bool = False,
        parallel: bool = False,
        mem_bn: bool = False,
        seca: bool = False,
        literal: bool = False,
        authors_code: bool = False,
    ) -> None:
        super().__init__(timesteps)
        self.four_bit = four_bit
        self.parallel = parallel
        self.literal = literal
        self.first_threshold = parallel and authors_code
        if parallel:
            self.operations_per_step = 1
        else:
            self.leak_logit = nn.Parameter(torch.zeros(timesteps))
        self.threshold_logit = nn.Parameter(torch.zeros(timesteps))
        self.membrane_norm: MembraneNorm | None = None
        if mem_bn and not parallel:
            self.membrane_norm = MembraneNorm(timesteps, channels)
        self.channel_attention = ChannelAttention() if seca else None
        self._watching = False
        self._taken_off: Tensor | None = None  # by the last reset, while somebody watches

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        self.check_steps_left(len(currents))
        steps = slice(self.steps_run, self.steps_run + len(currents))
        threshold = self.threshold(steps)
        if self.channel_attention is not None:
            # Step by step: the rounding of a convolution depends on how many rows it gets.
            currents = torch.stack([self.channel_attention(current) for current in currents])
        if self.parallel:
            return self._run_stateless(currents, threshold), None
        leak = self.leak(steps)
        if self.membrane_norm is None:
            return self._fire(currents, membrane, leak, threshold)
        spikes = []
        for t, current in enumerate(currents):
            charged = current if membrane is None else leak[t] * membrane + current
            normed = self.membrane_norm(charged, self.steps_run + t).unsqueeze(0)
            spike, membrane = self._fire(normed, None, leak[t : t + 1], threshold[t : t + 1])
            spikes.append(spike)
        return torch.cat(spikes), membrane

    def _run_stateless(self, currents: Tensor, threshold: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        spikes: Tensor = run_kernel(
            _StatelessFire, currents, threshold, self.literal, self.four_bit, keep
        )
        return spikes

    def _fire(
        self, currents: Tensor, membrane: Tensor | None, leak: Tensor, threshold: Tensor
    ) -> tuple[Tensor, Tensor]:
        keep = torch.is_grad_enabled()
        spikes: Tensor
        operands = (currents, membrane, leak, threshold, self.literal, self.four_bit, keep)
        spikes, left = run_kernel(_HDLIFSequence, *operands)
        if self._watching and len(currents) == 1:
            with torch.no_grad():
                charged = currents[0] if membrane is None else membrane * leak[0] + currents[0]
                self._taken_off = charged - left
        return spikes, left

    @contextmanager
    def _watched_reset(self) -> Iterator[Callable[[], Tensor]]:
        """A block in which calls of one time step keep what their reset takes off."""

        def taken_off() -> Tensor:
            assert self._taken_off is not None, "a call of one time step came before"
            return self._taken_off

        self._watching = True
        try:
            yield taken_off
        finally:
            self._watching, self._taken_off = False, None

    def threshold(self, steps: slice) -> Tensor:
        """The thresholds of these time steps, [K]."""
        if self.first_threshold:
            return self.threshold_logit[:1].sigmoid().expand(len(self.threshold_logit[steps]))
        return self.threshold_logit[steps].sigmoid()

    def leak(self, steps: slice) -> Tensor:
        """The leaks of these time steps, [K]."""
        return self.leak_logit[steps].sigmoid()

    def step(
        self, membrane: Tensor | None, current: Tensor, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Charged membrane, spike, membrane after the reset: :func:`hdlif_step`.

        The current is what :meth:`observed` gives: scaled by SECA; with Mem-BN, the charged
        and normalised membrane itself.
        """
        whole = slice(0, self.timesteps)  # sigmoid rounds as it does in a run of the sequence
        threshold = self.threshold(whole).to(current.dtype)[t]
        if membrane is None or self.parallel or self.membrane_norm is not None:
            charged = current
        else:
            charged = self.leak(whole)[t] * membrane + current
        spike, left = hdlif_step(None, charged, threshold, threshold, self.literal)
        return charged, four_bit_(spike) if self.four_bit else spike, left

    def observed(self) -> nn.Module | None:
        return self.membrane_norm or self.channel_attention

    def equations(self) -> NeuronEquations:
        variants = {
            "four_bit": self.four_bit,
            "parallel": self.parallel,
            "mem_bn": self.membrane_norm is not None,
            "seca": self.channel_attention is not None,
            "literal": self.literal,
            "authors_code": self.first_threshold,
        }
        normed = self.membrane_norm is not None
        return NeuronEquations(
            self.step,
            threshold=self.threshold,
            leak=0.0 if self.parallel else self.leak,
            identity=not normed,
            watch_reset=self._watched_reset if self.four_bit and not self.parallel else None,
            reason=MEMBRANE_NORM if normed else None,
            name="+".join(["hdlif", *(variant for variant, on in variants.items() if on)]),
        )

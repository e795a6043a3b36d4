"""The leaky integrate-and-fire neuron (LIF)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnprof.core.errors import SnnprofError, known
from snnprof.spiking.kernel import run_kernel
from snnprof.spiking.neuron import Neuron, check_leak
from snnprof.spiking.neuron_equations import NeuronEquations
from snnprof.spiking.spike_recomputation import register_recomputable
from snnprof.spiking.surrogates import SURROGATES, surrogate_spike

RESETS = ("hard", "soft")


@dataclass(frozen=True)
class LIFSettings:
    """Constants of a LIF neuron, the same at every time step.

    Attributes:
        leak: factor on the membrane per time step, from 0 to 1.
        threshold: firing threshold and height of a spike.
        surrogate: one of :data:`~snnprof.spiking.surrogates.SURROGATES`.
        reset: "soft" subtracts the spike from the membrane, "hard" sets it to 0.
        detach_reset: True if no gradient flows through the reset.
    """

    leak: float = 0.5
    threshold: float = 1.0
    surrogate: str = "triangle"
    reset: str = "soft"
    detach_reset: bool = False

    def __post_init__(self) -> None:
        SURROGATES.find(self.surrogate)
        if self.reset not in RESETS:
            raise known("reset", self.reset, RESETS)
        if not 0 < self.threshold < math.inf:
            raise SnnprofError(f"threshold={self.threshold}: must be above 0, and finite")
        check_leak(self.leak)


_DEFAULT = LIFSettings()
SURROGATE = "a surrogate gradient passes at silent steps and through the reset"


def lif_step(
    membrane: Tensor | None, current: Tensor, settings: LIFSettings = _DEFAULT
) -> tuple[Tensor, Tensor]:
    """One step of the LIF neuron, differentiated by torch: the definition.

    m = leak * m + I;  s = threshold * H(m - threshold);  then m = m - s (soft reset) or
    m = m * (1 - H) (hard reset).

    Args:
        membrane: [B, ...], None at rest.
        current: [B, ...].
        settings: of the neuron.

    Returns:
        The spike (0 or threshold) and the membrane potential after the reset.
    """
    charged = current if membrane is None else settings.leak * membrane + current
    fired = surrogate_spike(charged - settings.threshold, settings.surrogate)
    spike = settings.threshold * fired
    by_reset = fired.detach() if settings.detach_reset else fired
    if settings.reset == "hard":
        return spike, charged * (1 - by_reset)
    return spike, charged - settings.threshold * by_reset


class _LIFSequence(torch.autograd.Function):
    """K steps of :func:`lif_step`; saves the charged membrane, from which all else follows."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, membrane: Tensor | None, settings: LIFSettings, keep: bool
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(currents)
        charged = torch.empty_like(currents if keep else currents[:1])
        places = charged.unbind() if keep else charged.unbind() * len(currents)
        left = membrane
        for t, (current, m, s) in enumerate(
            zip(currents.unbind(), places, spikes.unbind(), strict=True)
        ):
            if left is None:
                m.copy_(current)
            else:
                torch.add(current, left, alpha=settings.leak, out=m)
            spike = _spikes_of(m, settings.threshold, out=s)
            # The membrane that came in is the caller's; from then on one place will do.
            left = _after_reset(m, spike, settings, out=left if t else torch.empty_like(m))
        assert left is not None, "an input has at least one time step"
        if keep:
            register_recomputable(
                spikes, charged, partial(_spikes_of, threshold=settings.threshold)
            )
        ctx.save_for_backward(charged if keep else None)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return spikes, left

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (charged,) = ctx.saved_tensors
        settings: LIFSettings = ctx.settings
        to_spikes, to_left = grads
        to_currents = torch.empty_like(charged)
        share = 1.0  # of to_left: from the second on it is dL/dm of the step after, times the leak
        for t in reversed(range(len(charged))):
            to_spike = None if to_spikes is None else to_spikes[t]
            # Worked out in the place where it belongs: no memory but the result's.
            place = to_currents[t]
            distance = torch.sub(charged[t], settings.threshold, out=place)
            slope = SURROGATES[settings.surrogate](distance)
            to_charged = _lif_step_backward(slope, charged[t], to_spike, to_left, share, settings)
            if to_charged is not place:
                place.copy_(to_charged)
            to_left, share = place, settings.leak
        to_membrane = to_currents[0] * settings.leak if ctx.needs_input_grad[1] else None
        return to_currents, to_membrane, None, None


def _spikes_of(charged: Tensor, threshold: float, out: Tensor | None = None) -> Tensor:
    """threshold * H(charged - threshold), in the place that is given or in one of its own."""
    spikes = torch.ge(charged, threshold, out=torch.empty_like(charged) if out is None else out)
    return spikes if threshold == 1 else spikes.mul_(threshold)


def _after_reset(
    charged: Tensor, spike: Tensor, settings: LIFSettings, out: Tensor | None
) -> Tensor:
    if settings.reset == "hard":
        return charged.masked_fill(spike != 0, 0)
    return torch.sub(charged, spike, out=out)


def _lif_step_backward(
    slope: Tensor,
    charged: Tensor,
    to_spike: Tensor | None,
    to_left: Tensor | None,
    share: float,
    settings: LIFSettings,
) -> Tensor:
    """dL/dm from dL/ds and dL/dm' = share * to_left (m' is m after the reset); overwrites h.

    With h the surrogate's dH/dm: ds/dm = threshold * h, and dm'/dm is 1 - threshold * h (soft)
    or (1 - H) - m * h (hard), without the term in h where the reset is detached.
    """
    hard, threshold = settings.reset == "hard", settings.threshold
    if to_left is None:
        return slope.zero_() if to_spike is None else slope.mul_(to_spike).mul_(threshold)
    through_spike = _through_spike(charged, to_spike, to_left, share, settings)
    if hard:
        to_left = to_left.masked_fill(charged >= threshold, 0)
    return slope.mul_(through_spike).add_(to_left, alpha=share)


def _through_spike(
    charged: Tensor,
    to_spike: Tensor | None,
    to_left: Tensor,
    share: float,
    settings: LIFSettings,
) -> Tensor:
    """dL/dH, a new tensor: the spike's own share, and that of the reset unless it is detached."""
    to_spike = torch.zeros_like(charged) if to_spike is None else to_spike
    if settings.detach_reset:
        return to_spike * settings.threshold
    if settings.reset == "hard":
        return (to_spike * settings.threshold).addcmul_(to_left, charged, value=-share)
    both = torch.sub(to_spike, to_left, alpha=share)
    return both if settings.threshold == 1 else both.mul_(settings.threshold)


class LIF(Neuron):
    """Leaky integrate-and-fire neurons.

    Args:
        timesteps: T (not used: the parameters are the same at every step).
        settings: leak, threshold, surrogate and reset.

    Saves the charged membrane for the backward pass, 4 bytes per neuron and step in float32.
    """

    def __init__(self, timesteps: int, settings: LIFSettings = _DEFAULT) -> None:
        super().__init__(timesteps)
        self.settings = settings
        self.binary = settings.threshold == 1

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        keep = torch.is_grad_enabled()
        spikes: Tensor
        spikes, membrane = run_kernel(_LIFSequence, currents, membrane, self.settings, keep)
        return spikes, membrane

    def step(
        self, membrane: Tensor | None, current: Tensor, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Charged membrane, spike, membrane after the reset: :func:`lif_step`."""
        charged = current if membrane is None else self.settings.leak * membrane + current
        return charged, *lif_step(None, charged, self.settings)

    def equations(self) -> NeuronEquations:
        return NeuronEquations(
            self.step,
            threshold=self.settings.threshold,
            leak=self.settings.leak,
            reason=SURROGATE,
            name=f"lif+surrogate={self.settings.surrogate}",
        )

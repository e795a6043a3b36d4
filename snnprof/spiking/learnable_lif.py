"""The LIF neuron whose leak and threshold are learnt, one of each per time step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.spiking.lif import SURROGATE, LIFSettings
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import NeuronEquations
from snnprof.spiking.surrogates import surrogate_spike

LEAST_THRESHOLD = 0.5


class LearnableLIF(Neuron):
    """LIF neurons with leak_t = sigmoid(a_t) and threshold_t = 0.5 + sigmoid(b_t), both learnt.

    The "learnable" form of the HD-LIF authors' baseline. The equations are those of
    :func:`~snnprof.spiking.lif.lif_step`: a spike is as high as its threshold, so that behind
    training the spikes of a layer have T different heights.

    Differentiated by torch, which saves several values per neuron and step; :class:`LIF`
    saves one.

    Args:
        timesteps: T.
        settings: leak and threshold are where these start; surrogate and reset.

    Raises:
        SnnprofError: a start that the sigmoids cannot have: a leak outside (0, 1), a threshold
            outside (0.5, 1.5); or more time steps than the neurons have parameters for.
    """

    def __init__(self, timesteps: int, settings: LIFSettings) -> None:
        super().__init__(timesteps)
        self.settings = settings
        leak = _logit("leak", settings.leak, 0.0)
        threshold = _logit("threshold", settings.threshold, LEAST_THRESHOLD)
        self.leak_logit = nn.Parameter(torch.full((timesteps,), leak))
        self.threshold_logit = nn.Parameter(torch.full((timesteps,), threshold))

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        self.check_steps_left(len(currents))
        spikes = []
        for t, current in enumerate(currents, self.steps_run):
            _, spike, membrane = self.step(membrane, current, t)
            spikes.append(spike)
        return torch.stack(spikes), membrane

    def threshold(self, steps: slice) -> Tensor:
        """The thresholds of these time steps, [K]."""
        return LEAST_THRESHOLD + self.threshold_logit[steps].sigmoid()

    def leak(self, steps: slice) -> Tensor:
        """The leaks of these time steps, [K]."""
        return self.leak_logit[steps].sigmoid()

    def step(
        self, membrane: Tensor | None, current: Tensor, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Charged membrane, spike, membrane after the reset."""
        whole = slice(0, self.timesteps)  # sigmoid rounds alike however many steps are run
        threshold = self.threshold(whole).to(current.dtype)[t]
        charged = current
        if membrane is not None:
            charged = self.leak(whole).to(current.dtype)[t] * membrane + current
        fired = surrogate_spike(charged - threshold, self.settings.surrogate)
        by_reset = fired.detach() if self.settings.detach_reset else fired
        if self.settings.reset == "hard":
            return charged, threshold * fired, charged * (1 - by_reset)
        return charged, threshold * fired, charged - threshold * by_reset

    def equations(self) -> NeuronEquations:
        return NeuronEquations(
            self.step,
            threshold=self.threshold,
            leak=self.leak,
            reason=SURROGATE,
            name=f"lif+surrogate={self.settings.surrogate}+learnable",
        )


def _logit(what: str, value: float, least: float) -> float:
    """x where least + sigmoid(x) = value."""
    share = value - least
    if not 0 < share < 1:
        raise SnnprofError(
            f"{what}={value}: a learnable {what} lies between {least:g} and {least + 1:g}; "
            "leave 'learnable' out to fix it"
        )
    return math.log(share / (1 - share))

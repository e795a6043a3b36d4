"""The integer LIF neuron (I-LIF): a spike is a whole number.

Source: Luo et al., Integer-valued training and spike-driven inference (I-LIF), ECCV 2024.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnprof.core.errors import SnnprofError
from snnprof.spiking.kernel import run_kernel
from snnprof.spiking.neuron import Neuron, check_leak
from snnprof.spiking.neuron_equations import NeuronEquations


class _IntegerLIFSequence(torch.autograd.Function):
    """K steps of the integer LIF; saves one byte per neuron and step."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, membrane: Tensor | None, leak: float, levels: int, keep: bool
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(currents)
        inside = torch.empty_like(currents, dtype=torch.bool) if keep else None
        left = membrane
        for t, current in enumerate(currents):
            m = current.clone() if left is None else torch.add(current, left, alpha=leak)
            if inside is not None:
                torch.logical_and(m >= 0, m <= levels, out=inside[t])
            left = m.sub_(torch.round(m, out=spikes[t]).clamp_(0, levels))
        assert left is not None, "an input has at least one time step"
        ctx.save_for_backward(inside)
        ctx.leak = leak
        ctx.set_materialize_grads(False)
        return spikes, left

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """ds/dm = 1 inside [0, levels], else 0; m' = m - s."""
        (inside,) = ctx.saved_tensors
        to_spikes, to_left = grads
        some = to_spikes if to_spikes is not None else to_left
        if some is None:
            return (None,) * len(ctx.needs_input_grad)
        to_currents = some.new_zeros(inside.shape)
        for t in reversed(range(len(inside))):
            if to_spikes is not None:
                to_currents[t] = to_spikes[t] * inside[t]
            if to_left is not None:
                to_currents[t] += to_left.masked_fill(inside[t], 0)
            to_left = to_currents[t] * ctx.leak
        return to_currents, to_left if ctx.needs_input_grad[1] else None, None, None, None


class IntegerLIF(Neuron):
    """LIF neurons whose spike is a whole number: value k stands for k spikes.

    m = leak * m + I;  s = clip(round(m), 0, levels);  m = m - s. The gradient passes where
    0 <= m <= levels.

    Args:
        timesteps: T (not used).
        leak: factor on the membrane per time step, from 0 to 1.
        levels: largest spike.

    Saves one byte per neuron and step.
    """

    def __init__(self, timesteps: int, leak: float = 0.5, levels: int = 4) -> None:
        super().__init__(timesteps)
        if levels < 1:
            raise SnnprofError(f"levels={levels}: must be at least 1")
        check_leak(leak)
        self.leak = leak
        self.levels = levels

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        keep = torch.is_grad_enabled()
        spikes: Tensor
        spikes, membrane = run_kernel(
            _IntegerLIFSequence, currents, membrane, self.leak, self.levels, keep
        )
        return spikes, membrane

    def step(
        self, membrane: Tensor | None, current: Tensor, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Charged membrane, spike, membrane after the reset, without the gradient."""
        charged = current if membrane is None else membrane * self.leak + current
        spike = torch.round(charged).clamp_(0, self.levels)
        return charged, spike, charged - spike

    def equations(self) -> NeuronEquations:
        return NeuronEquations(
            self.step,
            threshold=None,
            passes=lambda charged: (charged >= 0) & (charged <= self.levels),
            leak=self.leak,
            identity=True,
            name="ilif",
        )

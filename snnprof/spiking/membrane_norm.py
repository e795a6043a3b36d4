"""Mem-BN: batch norm of the membrane potential, one for each time step (HD-LIF paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class ChannelNorm(_BatchNorm):
    """Batch norm over [B, C, ...] with any number of trailing dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class MembraneNorm(nn.Module):
    """Mem-BN: m <- sigmoid(p_t) * BN_t(m) + sigmoid(q_t) * m, a batch norm per time step.

    Args:
        timesteps: T.
        channels: channels of the membrane [B, C, ...]. p and q start at 0, where each sigmoid
            is one half: their start in the authors' code.
    """

    def __init__(self, timesteps: int, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(timesteps))
        self.norm_logit = nn.Parameter(torch.zeros(timesteps))
        self.pass_logit = nn.Parameter(torch.zeros(timesteps))

    def forward(self, membrane: Tensor, step: int) -> Tensor:
        """The membrane [B, C, ...] of time step ``step``."""
        normed: Tensor = self.norms[step](membrane)
        share, rest = self.norm_logit[step].sigmoid(), self.pass_logit[step].sigmoid()
        return share * normed + rest * membrane

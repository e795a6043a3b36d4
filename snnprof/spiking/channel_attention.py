"""SECA: attention over the channels of the current (HD-LIF paper)."""

from __future__ import annotations

from torch import Tensor, nn

_SECA_KERNEL = 5


class ChannelAttention(nn.Module):
    """SECA: every channel scaled by the sigmoid of a 5-tap convolution over channel means.

    The convolution has a bias, as in the authors' code. It is counted, and billed, like any
    other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, _SECA_KERNEL, padding=_SECA_KERNEL // 2)

    def forward(self, current: Tensor) -> Tensor:
        """The current [B, C, ...], scaled."""
        means = current.flatten(2).mean(2) if current.dim() > 2 else current
        scale = self.mix(means.unsqueeze(1)).sigmoid()
        scaled: Tensor = current * scale.reshape(*means.shape, *[1] * (current.dim() - 2))
        return scaled

"""SECA by hand."""

import torch

from snnprof.spiking.channel_attention import ChannelAttention


def test_channel_attention_by_hand() -> None:
    attention = ChannelAttention()
    torch.nn.init.constant_(attention.mix.weight, 1.0)
    torch.nn.init.constant_(attention.mix.bias, 0.5)
    x = torch.zeros(1, 3, 2, 2)
    x[0, 1] = 4.0  # means 0, 4, 0; every window of five channels sums to 4
    expected = 4 * torch.sigmoid(torch.tensor(4.5))
    torch.testing.assert_close(attention(x)[0, 1], expected.expand(2, 2))
    assert attention(torch.rand(3, 8)).shape == (3, 8)

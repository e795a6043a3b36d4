"""Integers derived by hand, one layer type after the other, the arithmetic in view."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row


def counted(layer: nn.Module, x: Tensor):
    """The one row of ``layer`` on ``x``, every weight 1."""
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    return count_row(layer, x)


def at(shape: tuple[int, ...], *places: tuple[int, ...]) -> Tensor:
    """Spikes at the given places."""
    x = torch.zeros(shape)
    for place in places:
        x[place] = 1
    return x


def test_linear():
    row = counted(nn.Linear(4, 3), at((2, 4), (0, 1), (1, 0), (1, 3)))
    assert row.op == "linear"
    assert row.synops == 9  # 3 spikes * 3 outputs
    assert row.dense_macs == row.nominal_macs == 24  # 2 rows * 4 features * 3 outputs
    assert (row.nonzeros, row.inputs) == (3, 8)
    assert row.input_density == 3 / 8
    assert row.rate_synops == 9.0  # 3/8 * 24


def test_linear_with_zero_weights():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.5, 0.0, -2.0], [0.0, 0.0, 0.5]]))
    with SopCounter(layer) as counter:
        layer(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
    (row,) = counter.result().rows
    # Fan-out of the three features: 1, 0, 2. Row 0: 1 + 0 = 1. Row 1: 0 + 2 = 2.
    assert row.synops == 3
    assert row.dense_macs == 6  # 2 rows * (1 + 0 + 2)
    assert row.nominal_macs == 12  # 2 rows * 3 * 2, zero weights and all


def test_linear_on_tokens():
    x = at((2, 3, 4), (0, 0, 0), (0, 2, 3), (1, 1, 1), (1, 1, 2), (1, 1, 3))
    row = counted(nn.Linear(4, 5), x)
    assert row.synops == 25  # 5 spikes * 5 outputs
    assert row.nominal_macs == row.dense_macs == 120  # 2 * 3 tokens * 4 * 5
    assert row.input_density == 5 / 24


def test_conv1d():
    # Length 5, 3 taps, padding 1: the fan-out along the line is 2 3 3 3 2, to 2 channels.
    x = at((1, 1, 5), (0, 0, 0), (0, 0, 2))
    row = counted(nn.Conv1d(1, 2, 3, padding=1), x)
    assert row.op == "conv1d"
    assert row.synops == 10  # (2 + 3) * 2 channels
    assert row.dense_macs == 26  # (2 + 3 + 3 + 3 + 2) * 2
    assert row.nominal_macs == 30  # 2 channels * 5 positions * 3 taps
    assert row.rate_synops == 12.0  # 2/5 * 30


def test_conv1d_strided_and_dilated():
    # 2 taps 3 apart, stride 2, length 8: outputs at 0, 2, 4 read {0,3}, {2,5}, {4,7}.
    layer = nn.Conv1d(1, 1, 2, stride=2, dilation=3)
    row = counted(layer, torch.ones(1, 1, 8))
    assert row.synops == row.dense_macs == row.nominal_macs == 6  # 3 outputs * 2 taps
    assert counted(layer, at((1, 1, 8), (0, 0, 1), (0, 0, 6))).synops == 0  # nobody reads these
    assert counted(layer, at((1, 1, 8), (0, 0, 5))).synops == 1


def test_conv2d():
    # 3x3 taps, padding 1, 4x4 image: a corner reaches 2*2, an edge 2*3, the middle 3*3 outputs.
    layer = nn.Conv2d(1, 16, 3, padding=1)
    assert counted(layer, at((1, 1, 4, 4), (0, 0, 0, 0))).synops == 64  # 2*2 * 16
    assert counted(layer, at((1, 1, 4, 4), (0, 0, 0, 1))).synops == 96  # 2*3 * 16
    row = counted(layer, at((1, 1, 4, 4), (0, 0, 1, 2)))
    assert row.op == "conv2d"
    assert row.synops == 144  # 3*3 taps * 16
    # 4 corners * 4 + 8 edges * 6 + 4 inner * 9 = 100; * 16 = 1600
    assert row.dense_macs == 1600
    assert row.nominal_macs == 2304  # 16 * 4*4 * 3*3
    assert row.rate_synops == 144.0  # 1/16 * 2304


def test_conv2d_grouped():
    # 4 -> 6 channels in 2 groups: a channel reaches 3 of the 6; 1x1 taps.
    row = counted(nn.Conv2d(4, 6, 1, groups=2), at((1, 4, 2, 2), (0, 0, 0, 0), (0, 3, 1, 1)))
    assert row.synops == 6  # 2 spikes * 3 channels
    assert row.dense_macs == row.nominal_macs == 48  # 6 channels * 2*2 * 4/2 inputs


def test_conv2d_with_circular_padding_has_no_border():
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    row = counted(layer, at((1, 1, 4, 4), (0, 0, 0, 0)))
    assert row.synops == 18  # 9 taps * 2, in the corner as everywhere
    assert row.dense_macs == row.nominal_macs == 288  # 16 positions * 9 * 2
    assert row.input_density == 1 / 16  # of the layer's own input, not of the padded one


def test_conv1d_with_replicated_padding_reads_the_ends_more_often():
    # Length 3 padded to a a b c c, 3 taps: a is read 2 + 1 = 3 times, b 3, c 3.
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="replicate")
    row = counted(layer, at((1, 1, 3), (0, 0, 0)))
    assert row.synops == 3  # twice by output 0 (padded and itself), once by output 1
    assert row.dense_macs == 9


def test_conv1d_with_reflected_padding():
    # Length 3 padded to b a b c b, 3 taps: a is read 2, b 1 + 3 + 1 = 5, c 2 times.
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="reflect")
    assert counted(layer, at((1, 1, 3), (0, 0, 0))).synops == 2
    assert counted(layer, at((1, 1, 3), (0, 0, 1))).synops == 5
    assert counted(layer, at((1, 1, 3), (0, 0, 2))).synops == 2


def test_conv2d_same_with_an_even_kernel():
    # 2 taps, "same": one padded position, after the end. Fan-out along 3 positions: 1 2 2,
    # so in 3x3: corner (0,0) 1*1, corner (2,2) 2*2.
    layer = nn.Conv2d(1, 1, 2, padding="same")
    assert counted(layer, at((1, 1, 3, 3), (0, 0, 0, 0))).synops == 1
    row = counted(layer, at((1, 1, 3, 3), (0, 0, 2, 2)))
    assert row.synops == 4
    assert row.dense_macs == 25  # (1 + 2 + 2)^2
    assert row.nominal_macs == 36  # 9 positions * 4 taps


def test_conv3d():
    # 2x2x2 taps without padding on 3x3x3: fan-out along a line is 1 2 1.
    layer = nn.Conv3d(1, 2, 2)
    assert counted(layer, at((1, 1, 3, 3, 3), (0, 0, 0, 0, 0))).synops == 2  # 1*1*1 * 2
    row = counted(layer, at((1, 1, 3, 3, 3), (0, 0, 1, 1, 0)))
    assert row.op == "conv3d"
    assert row.synops == 8  # 2*2*1 * 2
    assert row.dense_macs == row.nominal_macs == 128  # 2 channels * 2^3 positions * 2^3 taps


def test_conv_transpose1d():
    # Stride 2, 3 taps, padding 1, length 3: i writes 2i-1 .. 2i+1, kept are 0..4.
    layer = nn.ConvTranspose1d(1, 4, 3, stride=2, padding=1)
    assert counted(layer, at((1, 1, 3), (0, 0, 0))).synops == 8  # 2 of 3 taps * 4
    row = counted(layer, at((1, 1, 3), (0, 0, 1)))
    assert row.op == "conv_transpose1d"
    assert row.synops == 12  # 3 * 4
    assert row.dense_macs == 28  # (2 + 3 + 2) * 4
    assert row.nominal_macs == 36  # weight 1*4*3 * 3 input positions


def test_output_padding_keeps_taps_that_would_be_cropped():
    # As above with one more output position, 5: the last input's third tap is kept.
    layer = nn.ConvTranspose1d(1, 4, 3, stride=2, padding=1, output_padding=1)
    row = counted(layer, at((1, 1, 3), (0, 0, 2)))
    assert row.synops == 12
    assert row.dense_macs == 32  # (2 + 3 + 3) * 4


def test_conv_transpose2d():
    # 2x2 taps, stride 2: no overlap, nothing cropped. 2 -> 3 channels on 2x3 positions.
    row = counted(nn.ConvTranspose2d(2, 3, 2, stride=2), at((1, 2, 2, 3), (0, 1, 0, 2)))
    assert row.op == "conv_transpose2d"
    assert row.synops == 12  # 2*2 taps * 3
    assert row.dense_macs == row.nominal_macs == 144  # 2*2*3 inputs * 4 taps * 3


def test_conv_transpose3d_grouped():
    # 2 -> 4 channels in 2 groups: an input reaches 2; 1x1x2 taps, stride 1.
    row = counted(
        nn.ConvTranspose3d(2, 4, (1, 1, 2), groups=2), at((1, 2, 1, 2, 2), (0, 0, 0, 0, 0))
    )
    assert row.op == "conv_transpose3d"
    assert row.synops == 4  # 2 taps * 2 channels
    assert row.dense_macs == row.nominal_macs == 32  # 2*1*2*2 = 8 inputs * 4


def test_unbatched_convolution():
    row = counted(nn.Conv2d(2, 3, 3, padding=1), at((2, 3, 3), (0, 0, 0), (1, 1, 1)))
    assert row.synops == 39  # corner 2*2, middle 3*3: 13 * 3 channels
    assert row.dense_macs == 294  # (2+3+2)^2 = 49 * 2 inputs * 3 outputs
    assert row.nominal_macs == 486  # 3 channels * 9 positions * 2*9 taps
    assert row.inputs == 18


def test_bias_adds_no_synapse():
    x = at((1, 1, 3), (0, 0, 1))
    assert counted(nn.Conv1d(1, 1, 3, bias=True), x) == counted(nn.Conv1d(1, 1, 3, bias=False), x)


def test_two_layers_and_their_sum():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3, padding=1)
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            spikes = (self.conv(x) > 0).float()
            return self.fc(spikes.flatten(1))

    net = Net()
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([[[1.0, 1.0, 1.0]], [[0.0, -1.0, 0.0]]]))
        net.conv.bias.zero_()
    x = torch.tensor([[[1.0, 0.0, 0.0, 0.0]], [[0.0, 1.0, 0.0, 1.0]]])
    with SopCounter(net) as counter:
        net(x)
    result = counter.result()
    conv, fc = result.rows
    assert [conv.name, fc.name] == ["conv", "fc"]
    # conv, channel 0 (3 taps): fan-out 2 3 3 2; channel 1 (middle tap only): 1 1 1 1.
    # Sum 3 4 4 3. Sample 0 spikes at 0: 3. Sample 1 at 1 and 3: 4 + 3 = 7.
    assert conv.synops == 10
    assert conv.dense_macs == 28  # 2 * (3 + 4 + 4 + 3)
    assert conv.nominal_macs == 48  # 2 samples * 2 channels * 4 positions * 3 taps
    # fc receives channel 0's spikes only. Sample 0: 1 1 0 0. Sample 1: 1 1 1 1. 6 * 3 = 18.
    assert fc.synops == 18
    assert fc.nominal_macs == fc.dense_macs == 48  # 2 * 8 * 3
    assert result.samples == 2
    assert result.total("synops") == 28
    assert result.per_sample("synops") == 14.0
    assert result.input_density == (3 + 6) / (8 + 16)  # no stem: the first input is spikes

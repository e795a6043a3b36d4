"""The quantised twin: activations of few bits, weights of eight."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.quantization.quantised_twin import (
    EightBitWeight,
    QuantisedReLU,
    activation_bits,
    quantised_twin,
)
from snnprof.quantization.quantized_layers import quantiser_of, quantize
from snnprof.spiking.lif import LIF, LIFSettings


def test_bits_are_those_that_tell_t_plus_1_values() -> None:
    assert [activation_bits(t) for t in (1, 2, 3, 4, 7, 8, 255)] == [1, 2, 2, 3, 3, 4, 8]
    assert all(activation_bits(t) == math.ceil(math.log2(t + 1)) for t in range(1, 256))


def test_activations_by_hand() -> None:
    # 2 bits, alpha 3: steps of 1. 1.4 to 1, 1.6 to 2, 7 to 3.
    relu = QuantisedReLU(2)
    x = torch.tensor([-1.0, 0.4, 1.4, 1.6, 2.9, 7.0], requires_grad=True)
    out = relu(x)
    assert out.tolist() == [0, 0, 1, 2, 3, 3]
    out.backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    assert x.grad is not None and relu.alpha.grad is not None
    assert x.grad.tolist() == [0, 2, 4, 8, 16, 0]  # straight through, where nothing is clipped
    assert relu.alpha.grad.item() == 32  # of what is clipped at it


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_an_alpha_that_training_took_below_zero_lets_nothing_through(alpha: float) -> None:
    relu = QuantisedReLU(2)
    with torch.no_grad():
        relu.alpha.fill_(alpha)
    x = torch.tensor([-1.0, 0.5, 7.0], requires_grad=True)
    out = relu(x)
    assert out.tolist() == [0, 0, 0]
    out.backward(torch.tensor([0.0, 2.0, 4.0]))
    assert x.grad is not None and relu.alpha.grad is not None
    assert x.grad.tolist() == [0, 0, 0]
    assert relu.alpha.grad.item() == 6  # 0.5 and 7 are clipped at it


def test_weights_by_hand() -> None:
    # Steps of 1.27 / 127 = 0.01, and of 2.54 / 127 = 0.02; a row of zeros stays one.
    weight = torch.tensor([[1.27, 0.014, -0.016], [-2.54, 0.011, 0.009], [0, 0, 0]])
    weight.requires_grad_()
    out = EightBitWeight()(weight)
    expected = torch.tensor([[1.27, 0.01, -0.02], [-2.54, 0.02, 0.0], [0, 0, 0]])
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0] * 3] * 3


def test_transposed_weights_have_their_channels_second() -> None:
    weight = torch.tensor([[[[1.27]], [[2.54]]], [[[0.014]], [[0.011]]]])  # [in, out, 1, 1]
    out = EightBitWeight(1)(weight)
    torch.testing.assert_close(out.flatten(), torch.tensor([1.27, 2.54, 0.01, 0.02]))


def test_a_transposed_convolution_has_255_steps_per_output_channel() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 1), LIF(4, LIFSettings()))
    with torch.no_grad():  # the largest of a channel is its first, of an input its last
        weight = torch.tensor([[1.27, 2.54, 12.7], [0.014, 0.011, 0.26]])
        model[0].weight.copy_(weight[..., None, None])
    twin = quantised_twin(model, 4)
    assert isinstance(twin, nn.Sequential)
    # Steps of 0.01, 0.02 and 0.1
    expected = torch.tensor([[1.27, 2.54, 12.7], [0.01, 0.02, 0.3]])
    torch.testing.assert_close(twin[0].weight.detach().flatten(1), expected)


def test_the_twin_of_a_network() -> None:
    model = nn.Sequential(nn.Linear(3, 4), LIF(4, LIFSettings()), nn.Linear(4, 2))
    twin = quantised_twin(model, 4)
    assert isinstance(twin, nn.Sequential)
    assert isinstance(twin[1], QuantisedReLU)
    assert twin[1].bits == 3
    with torch.no_grad():
        levels = twin[:2](torch.randn(1, 50, 3)) / (3.0 / 7)
        assert torch.allclose(levels, levels.round(), atol=1e-5)
        assert 2 < len(levels.round().unique()) <= 8
        rows = twin[2].weight / twin[2].weight.abs().amax(1, keepdim=True) * 127
        assert torch.allclose(rows, rows.round(), atol=1e-3)
    assert not nn.utils.parametrize.is_parametrized(model[0])
    assert isinstance(model[1], LIF)


def test_quantised_weights_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(3, 4), LIF(4, LIFSettings()), nn.Linear(4, 2))
    quantize(model, "1bit", skip="0")
    twin = quantised_twin(model, 4)
    assert isinstance(twin, nn.Sequential)
    assert quantiser_of(twin[2]) is not None
    assert torch.equal(twin[2].weight, model[2].weight)


def test_more_than_eight_bits_have_no_price() -> None:
    model = nn.Sequential(nn.Linear(3, 4), LIF(4, LIFSettings()))
    with pytest.raises(SnnprofError, match=r"timesteps=256 are 9 bits.*at most 255 time steps"):
        quantised_twin(model, 256)

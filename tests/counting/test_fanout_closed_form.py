"""Fan-out in closed form against its definition, a gradient, on random convolutions."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.counting.fanout import FanOut, count_synapses, fan_out
from snnprof.counting.linear_call import LinearCall, unpadded
from snnprof.counting.linear_ops import OPERATIONS

CONVS = {
    False: (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    True: (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}
FUNCTIONS = {
    False: (F.conv1d, F.conv2d, F.conv3d),
    True: (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
}


def by_definition(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The gradient of the summed output with respect to the input, weights 1 or 0."""
    row = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    layer = layer.double()
    weight = (layer.weight.detach() != 0).double()
    torch.func.functional_call(layer, {"weight": weight}, (row,)).sum().backward()
    return row.grad[0]


def random_layer(draw: random.Random, dims: int, transposed: bool) -> nn.Module:
    groups = draw.choice([1, 2, 4])
    settings: dict = {
        "kernel_size": tuple(draw.choice([1, 2, 3, 5]) for _ in range(dims)),
        "stride": tuple(draw.choice([1, 2, 3]) for _ in range(dims)),
        "padding": tuple(draw.choice([0, 1, 2]) for _ in range(dims)),
        "dilation": tuple(draw.choice([1, 2]) for _ in range(dims)),
    }
    if transposed:
        settings["output_padding"] = tuple(
            draw.randrange(max(s, d))
            for s, d in zip(settings["stride"], settings["dilation"], strict=True)
        )
    elif draw.random() < 0.6:
        settings["padding_mode"] = draw.choice(["circular", "reflect", "replicate"])
    elif draw.random() < 0.5:
        settings |= {"padding": draw.choice(["same", "valid"]), "stride": 1}
    layer = CONVS[transposed][dims - 1](4, 8, groups=groups, bias=False, **settings)
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) < 0.6
    return layer


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_random_convolutions(dims: int, transposed: bool):
    draw = random.Random(dims)
    for _ in range(40 if dims < 3 else 10):
        layer = random_layer(draw, dims, transposed)
        shape = (4, *(draw.choice([11, 12, 13]) for _ in range(dims)))
        found, outputs = closed_form(layer, shape)
        assert torch.equal(found, by_definition(layer, shape)), layer
        assert outputs == layer(torch.zeros(1, *shape, dtype=torch.float64))[0, 0].numel()


def closed_form(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """Of the call that the layer makes, as the counter sees it."""
    seen: list[tuple] = []
    function = FUNCTIONS[layer.transposed][len(shape) - 2]

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is function:
                seen.append((args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    x = torch.zeros(1, *shape)
    with Watch():
        layer.float()(x)
    ((args, kwargs),) = seen
    call = LinearCall.of(OPERATIONS[function], args, kwargs)
    call, inner = unpadded(call, layer, x, args[0])
    assert inner.shape == x.shape
    return fan_out(call, count_synapses(call, layer.weight), torch.Size(shape))


def test_a_convolution_by_hand():
    """A line of 4, 3 taps, padding 1, stride 2: outputs at 0 and 2, which read -1..1 and 1..3."""
    call = LinearCall.of(OPERATIONS[F.conv1d], (None, None, None, 2, 1), {})
    weight = torch.tensor([[[1.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]]])  # synapses per tap: 2, 1, 0
    held = FanOut(call, torch.zeros(1, 1, 4), weight, count_synapses(call, weight))
    # Input 0 meets tap 1 of output 0; input 1 taps 2 of output 0 and 0 of output 2; 2 meets tap 1.
    assert held.laid_out((0, 1)).counts.tolist() == [[1, 2, 1, 0]]
    assert (int(held.dense), held.nominal_macs) == (4, 12)  # 6 weights * 2 outputs


def test_a_linear_layer():
    call = LinearCall.of(OPERATIONS[F.linear], (None, None), {})
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, -1.0]])
    held = FanOut(call, torch.zeros(5, 3), weight, count_synapses(call, weight))
    assert held.laid_out((0,)).counts.tolist() == [[1, 0, 2]]
    assert held.nominal_macs == 6

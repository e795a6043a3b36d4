"""Batch norms behind SpikingJelly's layers, with SpikingJelly."""

from __future__ import annotations

import warnings

import torch
from torch import nn

import snnprof

from .library import spikingjelly


def test_layers_over_time_are_folded() -> None:
    parts = spikingjelly()
    torch.manual_seed(0)
    if parts.package == "clock_driven":
        container = parts.layer.SeqToANNContainer
        body = container(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        net = nn.Sequential(body, parts.neuron.MultiStepLIFNode())
    else:
        conv = parts.layer.Conv2d(3, 4, 3, step_mode="m")
        norm = parts.layer.BatchNorm2d(4, step_mode="m")
        net = nn.Sequential(conv, norm, parts.neuron.LIFNode(step_mode="m"))
    x = 3 * torch.randn(2, 5, 3, 6, 6)
    net(x)  # statistics
    parts.functional.reset_net(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = snnprof.fold_batch_norm(net)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    net.eval()
    with torch.no_grad():
        currents, theirs = (model[:-1](x) for model in (folded, net))
    torch.testing.assert_close(currents, theirs, rtol=1e-5, atol=1e-5)

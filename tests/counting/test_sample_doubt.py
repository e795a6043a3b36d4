"""A warning where the number of samples looks like T, and none where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.counting.counter import SopCounter

from ..support.counting import Loop, count
from .nets import MultiStep, spikes
from .test_row_order import Container


class Through(nn.Module):
    """Layers, and the way through them."""

    def __init__(self, function: Callable[[nn.ModuleList, Tensor], object], *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(self.layers, x)


def doubts(model: nn.Module, *inputs: Tensor, samples: int | None = None, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with SopCounter(model, **options) as counter:
            for x in inputs:
                model(x)
        counter.result(samples)
        counter.result(samples)  # once
    return [str(warning.message) for warning in caught]


def conv_then_mean() -> nn.Module:
    return Through(
        lambda layers, x: layers[1](layers[0](x).flatten(3).mean(3).mean(0)),
        Container(nn.Conv2d(2, 3, 3)),
        nn.Linear(3, 2),
    )


DOUBTFUL = {
    "[T, B, C, H, W] to [T, B, classes]": (MultiStep(), (4, 5, 2, 3, 3)),
    "T = B": (MultiStep(), (4, 4, 2, 3, 3)),
    "a single step": (MultiStep(), (1, 5, 2, 3, 3)),
    "a single sample": (MultiStep(), (4, 1, 2, 3, 3)),
    "[T, B, C, H, W] to [B, classes]": (conv_then_mean(), (4, 5, 2, 3, 3)),
    "[T, B, features] to [T, B, classes]": (nn.Sequential(nn.Linear(3, 2)), (4, 5, 3)),
    "a loop over time": (Loop(nn.Linear(3, 2)), (4, 5, 3)),
    "[T, B, C, L], several outputs": (
        Through(lambda layers, x: (layers[0](x).flatten(2), x), Container(nn.Conv1d(2, 3, 3))),
        (4, 5, 2, 7),
    ),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_samples_that_look_like_time_steps_are_doubted_once(name: str):
    model, shape = DOUBTFUL[name]
    (said,) = doubts(model, spikes(*shape), spikes(*shape))
    assert said.startswith(f"an input {shape} was read as [B, ...], {shape[0]} samples, but")
    assert 'give layout="time-first"' in said
    assert "\n" not in said


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_was_said_or_confirmed_is_not_doubted(name: str):
    model, shape = DOUBTFUL[name]
    x = spikes(*shape)
    assert doubts(model, x, layout="time-first") == []
    assert doubts(model, x, batch_dim=1) == []
    assert doubts(model, x, layout="batch-first") == []
    assert doubts(model, x, timesteps=1) == []
    assert doubts(model, x, samples=shape[0]) == []


def test_an_announced_call_is_not_doubted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SopCounter(model := MultiStep()) as counter:
            counter.expect(samples=5, timesteps=4)
            model(spikes(4, 5, 2, 3, 3))
        assert counter.result().samples == 5


def segmentation(dims: int, classes: int) -> nn.Module:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, classes, 3, padding=1))


def classifier(dims: int) -> nn.Module:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return nn.Sequential(conv(2, 4, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(1))


UNDOUBTED = {
    "a vector": (nn.Linear(3, 2), (4, 3)),
    "an image": (classifier(2), (4, 2, 5, 5)),
    "an image, as many channels as samples": (classifier(2), (2, 2, 5, 5)),
    "one channel": (nn.Sequential(nn.Flatten(1), nn.Linear(25, 2)), (4, 1, 5, 5)),
    "one channel and sample": (nn.Sequential(nn.Flatten(1), nn.Linear(25, 2)), (1, 1, 5, 5)),
    "segmentation": (segmentation(2, 3), (4, 2, 5, 5)),
    "segmentation into as many classes as channels": (segmentation(2, 2), (4, 2, 5, 5)),
    "segmentation of signals": (segmentation(1, 2), (4, 2, 5)),
    "segmentation of signals, a single channel": (nn.Conv1d(1, 1, 3, padding=1), (4, 1, 5)),
    "segmentation of volumes": (segmentation(3, 2), (4, 2, 5, 5, 5)),
    "volumes": (classifier(3), (4, 2, 5, 5, 5)),
    "one volume": (classifier(3), (1, 2, 5, 5, 5)),
    "video, frame by frame, to [B, classes]": (
        Through(lambda layers, x: layers[0](x).flatten(2).mean(1), Container(nn.Conv2d(2, 3, 3))),
        (5, 4, 2, 4, 4),
    ),
    "tokens, averaged": (
        Through(lambda layers, x: layers[0](x).mean(1), nn.Linear(3, 2)),
        (5, 4, 3),
    ),
}


@pytest.mark.parametrize("name", UNDOUBTED)
def test_other_networks_are_not_doubted(name: str):
    model, shape = UNDOUBTED[name]
    assert doubts(model, spikes(*shape)) == []


def test_a_network_without_spikes_has_no_time_steps():
    tokens = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2))
    assert doubts(tokens, torch.rand(4, 5, 3)) == []


def test_our_networks_are_not_doubted():
    model = snnprof.models.create("vgg5", timesteps=2, in_channels=1, image_size=8)
    assert doubts(model, spikes(2, 3, 1, 8, 8)) == []


def test_what_is_counted_does_not_depend_on_the_doubt():
    x = spikes(4, 5, 2, 3, 3)
    with pytest.warns(RuntimeWarning, match="looks like"):
        doubted = count(MultiStep(), x)
    assert doubted.samples == 4
    assert doubted.total("dense_macs") == count(MultiStep(), x, batch_dim=1).total("dense_macs")

"""profile_inference: what it measures, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.models import create
from snnprof.results import InferenceProfile
from snnprof.results.serialization import from_json, to_json
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF

from ..support.neurons import Remembering

IMAGES, LABELS = torch.rand(6, 1, 8, 8), torch.arange(6)


def ticking() -> Callable[[], float]:
    return map(float, itertools.count()).__next__


def quick(model, batch, **settings) -> InferenceProfile:
    settings = {"warmup": 1, "repeats": 3, "device": "cpu", "clock": ticking(), **settings}
    return snnprof.profile_inference(model, batch, **settings)


def test_latency_by_a_clock() -> None:
    times = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])  # begin and end of three calls
    found = quick(nn.Linear(4, 3), torch.rand(8, 4), clock=times.__next__)
    assert found.latency_s == (2.0, 1.0, 4.0)
    assert found.latency_median_s == 2.0
    assert found.samples_per_s == 8 / 2
    assert (found.device, found.batch_size) == ("cpu", 8)


def test_memory_by_hand() -> None:
    layer = nn.Linear(1000, 1, bias=False)  # 4,000
    found = quick(layer, torch.rand(4, 1000))  # 16,000
    assert found.peak_bytes == 4000 + 16_000 + 16  # and the output, 4 of 4 bytes
    deep = nn.Sequential(layer, nn.Linear(1, 500), nn.Linear(500, 3))
    # The outputs of two layers stand at once, never those of all: 4 * 4 * (1 + 500) = 8,016 and
    # 4 * 4 * (500 + 3) = 8,048. Weights: 4 * (1000 + 500 + 500 + 1500 + 3) = 14,012.
    assert quick(deep, torch.rand(4, 1000)).peak_bytes == 14_012 + 16_000 + 8048


class Watching(nn.Module):
    """Notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout()
        self.neuron = Remembering()
        self.calls: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.training, self.drop.training, torch.is_grad_enabled()))
        return self.drop(self.norm(self.layer(x))) + torch.rand(3)


def test_the_model_is_left_as_it_was() -> None:
    model = Watching()
    model.drop.eval()  # one part in evaluation mode, the others in training
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    quick(model, torch.rand(6, 4, generator=torch.Generator()))
    assert torch.equal(torch.rand(2), expected)
    assert model.calls == [(False, False, False)] * (1 + 1 + 3)
    assert [m.training for m in (model, model.norm, model.drop)] == [True, True, False]
    for (name, a), b in zip(model.state_dict().items(), before.values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.is_grad_enabled()


def test_an_exception_passes_and_the_model_is_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        quick(model, torch.rand(6, 5))
    assert model.training
    assert model[1].training


def test_each_call_starts_from_rest_and_the_last_leaves_none() -> None:
    """Neurons made for three time steps refuse a fourth: each call needs a reset."""
    neuron = HDLIF(3)
    found = quick(nn.Sequential(nn.Linear(4, 5), neuron), torch.rand(3, 6, 4), warmup=2, samples=6)
    assert len(found.latency_s) == 3
    assert neuron.membrane is None
    assert neuron.steps_run == 0


def test_samples_of_a_network_of_ours() -> None:
    model = create("vgg5", timesteps=3, in_channels=1, image_size=8)
    assert quick(model, IMAGES).batch_size == 6  # of an output [3, 6, 10]


def test_the_same_memory_in_every_run() -> None:
    model = create("vgg5", timesteps=3, in_channels=1, image_size=8)
    assert quick(model, IMAGES) == quick(model, IMAGES)
    assert quick(model, IMAGES).peak_bytes < quick(model, IMAGES.repeat(2, 1, 1, 1)).peak_bytes


@pytest.mark.parametrize("batch", [(IMAGES.flatten(1), LABELS), [IMAGES.flatten(1), LABELS]])
def test_a_batch_with_its_classes(batch) -> None:
    assert quick(nn.Linear(64, 3), batch).batch_size == 6


def test_how_many_samples() -> None:
    stepwise = nn.Sequential(nn.Linear(4, 3), LIF(5))
    sequence = torch.rand(5, 6, 4)
    with pytest.raises(snnprof.SnnprofError, match=r"gave \(5, 6, 3\).*give samples=B"):
        quick(stepwise, sequence)
    assert quick(stepwise, sequence, samples=6).batch_size == 6
    assert quick(stepwise, (sequence, LABELS)).batch_size == 6


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": IMAGES}, r"batch is a dict: .*snnprof\.profile\(lambda: model"),
        ((IMAGES,), "batch is a tuple"),
        ((IMAGES, [1, 2]), "batch is a tuple"),
    ],
)
def test_what_is_no_batch(batch, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        quick(nn.Linear(2, 2), batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 0}, "repeats=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"samples": 0}, "samples=0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        quick(nn.Linear(4, 3), torch.rand(6, 4), **settings)


def test_a_model_on_another_device() -> None:
    with pytest.raises(snnprof.SnnprofError, match="the model is on meta, and device='cpu'"):
        quick(nn.Linear(4, 3, device="meta"), torch.rand(6, 4))


def test_it_is_a_result_like_any_other(tmp_path: Path) -> None:
    found = InferenceProfile("cpu", 8, (0.002, 0.001, 0.004), 3 * 2**20)
    assert from_json(to_json(found)) == found
    row = found.to_frame().iloc[0]
    assert row["latency_median_s"] == 0.002
    assert (row["samples_per_s"], row["peak_bytes"], row["repeats"]) == (4000, 3 * 2**20, 3)
    found.save(tmp_path / "inference.json")
    assert snnprof.load(tmp_path / "inference.json") == found
    found.save(tmp_path / "inference.md")
    text = " ".join((tmp_path / "inference.md").read_text("utf-8").split())
    assert "| 8 | 2.000 (1.500-3.000) | 4000 | 3.000 |" in text
    empty = InferenceProfile("cpu", 8, (), 0)
    assert empty.latency_median_s is empty.samples_per_s is None

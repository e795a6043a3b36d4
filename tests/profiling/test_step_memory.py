"""Bytes of a step, against what is known to be allocated."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from snnprof.models import create
from snnprof.profiling.step_memory import (
    AfterBackward,
    allocated_and_reserved,
    static_bytes,
    step_memory,
)
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode

CPU = torch.device("cpu")


def test_peak_is_what_is_held_plus_the_highest_level_on_top() -> None:
    layer = nn.Linear(1000, 1, bias=False)  # 4,000 bytes held
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    inputs = torch.zeros(256)  # 1,024 bytes held

    def step() -> Tensor:
        first = torch.zeros(1000)  # 4,000
        del first
        second = torch.zeros(2000)  # 8,000: the peak
        third = torch.zeros(500)  # and 2,000
        return second[0] + third[0] * 0

    memory, _ = step_memory(step, adapt(layer), optimizer, (inputs,), CPU)
    held = 4000 + 1024
    assert held + 10_000 <= memory.peak_bytes <= held + 10_000 + 64  # and the few scalars
    assert memory.reserved_bytes is None
    assert memory.static_bytes == 4000 + 4000  # the weight and its gradient; SGD has no state


def test_static_bytes_are_parameters_gradients_and_optimiser_state() -> None:
    layer = nn.Linear(10, 3)  # 33 parameters of 4 bytes
    layer.register_buffer("ignored", torch.zeros(1000))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = layer(torch.ones(2, 10)).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    memory, _ = step_memory(step, adapt(layer), optimizer, (), CPU)
    assert memory.static_bytes == 3 * 33 * 4  # parameter, gradient, momentum


def test_state_in_lists_counts_too() -> None:
    """As L-BFGS keeps its directions."""
    layer = nn.Linear(10, 3)  # 33 parameters
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    directions = [torch.zeros(10), torch.zeros(5)]
    optimizer.state[layer.weight] = {"directions": directions, "more": {"step": torch.zeros(2)}}
    assert static_bytes(layer, optimizer) == 4 * (33 + 33 + 10 + 5 + 2)


def peak(mode: str, timesteps: int) -> int:
    torch.manual_seed(0)
    network = create("vgg5", timesteps=timesteps, in_channels=1, image_size=8)
    stepped = adapt(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    sequence = images.expand(timesteps, *images.shape)
    generator = torch.Generator().manual_seed(0)

    def step() -> Tensor:
        run = BatchRun(stepped, sequence, labels, optimizer, generator=generator)
        return find_mode(mode, timesteps)(run)

    step()
    return step_memory(step, stepped, optimizer, (images, labels), CPU)[0].peak_bytes


@pytest.mark.parametrize(
    "mode", ["online", "online-step", "sltt-2", "random-bp", "ottt", "ottt-step", "ndot"]
)
def test_online_modes_are_flat_in_time(mode: str) -> None:
    two = peak(mode, 2)
    assert two == peak(mode, 2)  # the same bytes in every run
    assert peak(mode, 8) <= 1.02 * two


def test_stbp_grows_by_the_same_bytes_per_step() -> None:
    # Below, the convolutions' scratch memory hides some of the rise.
    found = [peak("stbp", timesteps) for timesteps in (16, 24, 32)]
    assert found == [peak("stbp", timesteps) for timesteps in (16, 24, 32)]
    rises = [b - a for a, b in pairwise(found)]
    assert max(rises) <= 1.02 * min(rises)
    assert found[0] > 2 * peak("online", 16)


def test_the_figure_of_hdlifs_authors_is_that_after_the_last_backward_pass() -> None:
    figures = iter([7, 11, 13])
    recorder = AfterBackward(lambda: next(figures))
    found = []
    for name in ("optimizer", "forward", "backward", "forward", "backward", "optimizer"):
        with recorder.phase(name):
            pass
        found.append(recorder.found)
    assert found == [None, None, 7, 7, 11, 11]


def test_the_cpu_has_no_such_figure() -> None:
    assert allocated_and_reserved(torch.device("cpu")) is None


def test_on_a_gpu_it_is_allocated_plus_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 8)
    assert allocated_and_reserved(torch.device("cuda")) == 13

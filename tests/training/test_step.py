"""Time with an injected clock, memory against what is known to be allocated."""

import torch
from torch import Tensor, nn

from snnprof.models import create
from snnprof.training.modes import MODES
from snnprof.training.step import StepTimer, peak_bytes

CPU = torch.device("cpu")


def test_the_timer_keeps_every_repetition() -> None:
    ticks = iter([10.0, 10.5, 20.0, 22.0])
    timer = StepTimer(CPU, clock=lambda: next(ticks))
    for _ in range(2):
        assert timer.time(lambda: torch.tensor(7.0)) == 7
    assert timer.seconds() == (0.5, 2.0)


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

    peak, _ = peak_bytes(step, layer, optimizer, (inputs,), CPU)
    held = 4000 + 1024
    assert held + 10_000 <= peak <= held + 10_000 + 64  # and the few scalars


def test_cpu_peaks_are_the_same_in_every_run_and_flat_online() -> None:
    def peak(mode: str, timesteps: int) -> int:
        torch.manual_seed(0)
        network = create("vgg5", timesteps=timesteps, in_channels=1, image_size=8)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
        sequence = images.expand(timesteps, *images.shape)

        def step() -> Tensor:
            return MODES.find(mode)(network, sequence, labels, optimizer)

        step()
        return peak_bytes(step, network, optimizer, (images, labels), CPU)[0]

    assert peak("stbp", 4) == peak("stbp", 4)
    assert peak("online", 4) == peak("online", 4)
    assert peak("online", 8) <= 1.02 * peak("online", 4)
    assert peak("stbp", 8) > 1.5 * peak("stbp", 4) > peak("online", 4)

"""The training modes against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnprof
from snnprof.models import create
from snnprof.spiking.neurons import neurons_of
from snnprof.training.modes import MODES


class NoStep(torch.optim.SGD):
    """Leaves the gradients to be looked at; counts its steps."""

    steps = 0

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.steps += 1


def gradients(name: str, timesteps: int, neuron: str = "lif") -> tuple[list[torch.Tensor], int]:
    torch.manual_seed(0)
    network = create("vgg5", neuron=neuron, timesteps=timesteps, in_channels=1, image_size=8)
    network.double().eval()
    optimizer = NoStep(network.parameters(), lr=0.1)
    torch.manual_seed(1)
    sequence = torch.randn(timesteps, 4, 1, 8, 8, dtype=torch.float64)
    MODES.find(name)(network, sequence, torch.arange(4), optimizer)
    return [p.grad for p in network.parameters() if p.grad is not None], optimizer.steps


@pytest.mark.parametrize("neuron", ["lif", "hdlif"])
@pytest.mark.parametrize("name", sorted(MODES))
def test_all_modes_agree_at_one_time_step(name: str, neuron: str) -> None:
    found, steps = gradients(name, 1, neuron)
    expected, _ = gradients("stbp", 1, neuron)
    assert steps == 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_stbp_is_the_gradient_of_the_summed_output() -> None:
    torch.manual_seed(0)
    network = create("vgg5", timesteps=3, in_channels=1, image_size=8).double().eval()
    torch.manual_seed(1)
    sequence = torch.randn(3, 4, 1, 8, 8, dtype=torch.float64)
    loss = F.cross_entropy(network(sequence).sum(0), torch.arange(4))
    expected = torch.autograd.grad(loss, list(network.parameters()))
    for a, b in zip(gradients("stbp", 3)[0], expected, strict=True):
        assert torch.equal(a, b)


def test_online_is_the_sum_of_single_steps_with_the_membrane_held_fixed() -> None:
    torch.manual_seed(0)
    network = create("vgg5", timesteps=3, in_channels=1, image_size=8).double().eval()
    torch.manual_seed(1)
    sequence = torch.randn(3, 4, 1, 8, 8, dtype=torch.float64)
    parameters = list(network.parameters())
    expected = [torch.zeros_like(p) for p in parameters]
    for current in sequence:
        for neuron in neurons_of(network):
            held = neuron.membrane
            neuron.membrane = None if held is None else held.clone().detach()
        loss = F.cross_entropy(network(current.unsqueeze(0))[0], torch.arange(4)) / 3
        for total, part in zip(expected, torch.autograd.grad(loss, parameters), strict=True):
            total += part
    found, steps = gradients("online", 3)
    assert steps == 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_online_differs_from_stbp_beyond_one_step() -> None:
    online, stbp = gradients("online", 3)[0], gradients("stbp", 3)[0]
    assert not all(torch.allclose(a, b) for a, b in zip(online, stbp, strict=True))


def test_an_unknown_mode_lists_the_known_ones() -> None:
    with pytest.raises(snnprof.SnnprofError, match="known: online, stbp"):
        MODES.find("bptt")


def test_a_mode_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        MODES.register("stbp")(MODES["stbp"])


def test_modes_reset_what_a_broken_sequence_left() -> None:
    network = create("vgg5", timesteps=2, in_channels=1, image_size=8)
    network(torch.randn(1, 4, 1, 8, 8))  # one step of two
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for name in MODES:
        MODES.find(name)(network, torch.randn(2, 3, 1, 8, 8), torch.arange(3), optimizer)


def test_modes_serve_any_module_of_time_steps() -> None:
    linear = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    for name in MODES:
        loss = MODES.find(name)(linear, torch.randn(2, 5, 4), torch.zeros(5).long(), optimizer)
        assert torch.isfinite(loss)

"""Whole sequences, single steps, and what is refused."""

import pytest
import torch

import snnprof
from snnprof.models import create
from snnprof.spiking.neuron import neurons_of
from snnprof.spiking.neuron_equations import neuron_ops


@pytest.fixture
def network() -> snnprof.models.SpikingNetwork:
    torch.manual_seed(0)
    return create("vgg5", timesteps=3, in_channels=1, image_size=8).eval()


def test_an_image_is_repeated(network: snnprof.models.SpikingNetwork) -> None:
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(image), network(image.expand(3, *image.shape)))
    assert network(image).shape == (3, 2, 10)


def test_a_whole_sequence_starts_and_ends_at_rest(
    network: snnprof.models.SpikingNetwork,
) -> None:
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(image), network(image))
    assert all(neuron.membrane is None for neuron in neurons_of(network))
    assert network(image[:1]).shape == (3, 1, 10)  # another batch size needs no reset


def test_single_steps_go_on_and_equal_the_sequence(
    network: snnprof.models.SpikingNetwork,
) -> None:
    sequence = torch.randn(3, 2, 1, 8, 8)
    expected = network(sequence)
    parts = [network(step.unsqueeze(0)) for step in sequence]
    assert torch.allclose(torch.cat(parts), expected, atol=1e-6)
    with pytest.raises(snnprof.SnnprofError, match="reset"):
        network(sequence[:1])
    snnprof.reset(network)
    assert torch.allclose(network(sequence[:1]), expected[:1], atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 8, 8), (2, 1, 9, 9), (4, 2, 1, 8, 8)])
def test_other_shapes_are_refused(
    network: snnprof.models.SpikingNetwork, shape: tuple[int, ...]
) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"takes \[T, B|made for 3"):
        network(torch.zeros(shape))


def test_neuron_ops_of_vgg5(network: snnprof.models.SpikingNetwork) -> None:
    network(torch.zeros(2, 1, 8, 8))
    # 64 maps of 8x8, twice 128 of 4x4, 128 hidden; 3 steps, 3 operations
    assert neuron_ops(network) == (64 * 64 + 2 * 128 * 16 + 128) * 3 * 3


@pytest.mark.parametrize("neuron", ["lif", "hdlif", "ilif"])
def test_an_empty_batch_runs(neuron: str) -> None:
    network = create("vgg5", neuron=neuron, timesteps=2, in_channels=1, image_size=8).eval()
    assert network(torch.zeros(0, 1, 8, 8)).shape == (2, 0, 10)
    with snnprof.SopCounter(network) as counter:
        network(torch.zeros(0, 1, 8, 8))
    with pytest.raises(snnprof.SnnprofError, match="empty batches"):
        counter.result()

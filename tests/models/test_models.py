"""The registry of networks, and what holds for every network in it."""

import warnings
from itertools import pairwise

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import snnprof
from snnprof.models import MODELS, create, list_models, nominal_macs, options_of, usual
from snnprof.quantization.quantized_layers import latent_weight, quantised_layers
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.neuron import neurons_of
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode

SMALL = {  # an image that is quick and still has several tokens or positions in the last layer
    "vgg5": 8,
    "vgg11": 32,
    "vgg13": 32,
    "vgg16": 32,
    "vgg_dvs": 32,
    "resnet18": 16,
    "resnet19": 8,
    "resnet34": 16,
    "sew_resnet18": 16,
    "sew_resnet34": 16,
    "spikformer_2_384": 16,
    "spikformer_4_256": 16,
    "spikformer_4_384": 16,
    "spikformer_8_384": 64,
    "spikformer_8_512": 64,
    "spikformer_8_768": 64,
}


def test_names_are_sorted() -> None:
    assert list_models() == sorted(list_models())
    assert set(list_models()) == set(SMALL)


@pytest.mark.parametrize("name", list_models())
def test_every_network_at_its_usual_size(name: str) -> None:
    info = MODELS[name]
    with torch.device("meta"):
        network = usual(name, timesteps=3).eval()
        out = network(torch.empty(2, info.in_channels, info.image_size, info.image_size))
    assert out.shape == (3, 2, info.num_classes)
    kept = [network.get_submodule(layer) for layer in network.full_precision]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first = layers[0]
    # Of the authors' VGG for event frames the first convolution is quantised too.
    assert (first in kept) == (name != "vgg_dvs")
    linear = [layer for layer in kept if layer is not first]
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == info.in_channels
    assert layers[-len(linear) :] == linear
    assert isinstance(linear[-1], nn.Linear)
    assert linear[-1].out_features == info.num_classes


@pytest.mark.parametrize("name", list_models())
def test_every_neuron_layer_fires_at_the_start(name: str) -> None:
    torch.manual_seed(0)
    network = create(name, timesteps=2, image_size=SMALL[name])
    fired: list[float] = []
    for neuron in neurons_of(network):
        neuron.register_forward_hook(
            lambda neuron, given, spikes: fired.append((spikes != 0).double().mean().item())
        )
    with torch.no_grad():
        network(torch.randn(3, 3, SMALL[name], SMALL[name]))
    assert len(fired) == len(neurons_of(network))
    if name == "resnet19":  # the authors have no norm before the neuron of the classifier
        assert fired.pop() > 0.01
    assert min(fired) > 0.05  # 16 % of a standard normal distribution lie above the threshold


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("vgg5", {}),
        ("vgg_dvs", {}),
        ("resnet18", {}),
        ("resnet18", {"neuron": "hdlif"}),
        ("resnet19", {}),
        ("sew_resnet18", {}),
        ("sew_resnet18", {"neuron": "hdlif"}),
        ("sew_resnet18", {"connect": "and"}),
        ("sew_resnet18", {"connect": "iand"}),
        ("spikformer_2_384", {}),
        ("spikformer_2_384", {"neuron": "hdlif"}),
    ],
)
def test_the_loss_falls(name: str, variants: dict[str, str]) -> None:
    torch.manual_seed(0)
    size = max(8, SMALL[name] // 2)
    network = create(name, timesteps=2, image_size=size, **variants)  # type: ignore[arg-type]
    sequence = torch.randn(8, 3, size, size).expand(2, 8, 3, size, size)
    target = torch.arange(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    stbp = find_mode("stbp")
    losses = [stbp(BatchRun(adapt(network), sequence, target, optimizer)).item() for _ in range(6)]
    assert all(p.grad is not None for p in network.parameters())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["vgg5", "resnet18", "sew_resnet18", "spikformer_2_384"])
def test_single_steps_equal_the_sequence(name: str) -> None:
    torch.manual_seed(0)
    network = create(name, timesteps=3, image_size=8).double()
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None  # statistics of the one batch: the network fires in eval too
    sequence = torch.randn(3, 4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        network(sequence)
        network.eval()
        expected = network(sequence)
        parts = [network(step.unsqueeze(0)) for step in sequence]
    assert torch.allclose(torch.cat(parts), expected, rtol=0, atol=1e-9)
    assert not torch.allclose(expected[0], expected[1])


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "sew_resnet18", "spikformer_2_384"])
def test_weights_start_around_zero(name: str) -> None:
    # Signs that are all + would make a 1-bit layer a constant.
    torch.manual_seed(0)
    for module in create(name).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach()
            positive = (weight > 0).double().mean().item()
            # A share of n fair coins, five standard errors of 0.5 / sqrt(n) wide.
            assert abs(positive - 0.5) < 5 * 0.5 / weight.numel() ** 0.5


def test_vgg11_parameters_by_hand() -> None:
    # 3x3 convolutions 3-64-128-256-256-512-512-512-512, batch norms, one linear layer of 2x2
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    expected = convolutions + 2 * sum(widths[1:]) + 512 * 2 * 2 * 10 + 10  # 32 / 2^4 = 2
    network = create("vgg11")
    assert sum(p.numel() for p in network.parameters()) == expected == 9_243_722
    assert snnprof.size_bytes(network) == 4 * (expected - 2 * sum(widths[1:]))


@pytest.mark.parametrize("name", ["vgg5", "vgg11", "resnet18"])
def test_nominal_macs_equal_fvcores(name: str) -> None:
    network = create(name, timesteps=3).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(norm.bias)
    image = torch.randn(1, 3, 32, 32)
    with snnprof.SopCounter(network) as counter:
        network(image)
    flops = FlopCountAnalysis(create(name, timesteps=3).eval(), image)
    flops.unsupported_ops_warnings(False)
    by_operator = flops.by_operator()
    assert counter.result().total("nominal_macs") == by_operator["conv"] + by_operator["linear"]


# The attention's q k^T and (q k^T) v: tokens * tokens * channels each, in every block.
ATTENTION = {"spikformer_2_384": 2 * 2 * 64 * 64 * 384, "spikformer_4_384": 4 * 2 * 64 * 64 * 384}


@pytest.mark.parametrize(
    "name", ["vgg5", "vgg11", "vgg13", "vgg16", "vgg_dvs", "resnet18", "resnet19", *ATTENTION]
)
def test_macs_on_shapes_are_those_that_the_counter_sees(name: str) -> None:
    network = usual(name, timesteps=1).eval()
    with torch.no_grad(), snnprof.SopCounter(network, layers=("conv", "linear")) as counter:
        network(torch.randn(1, *network.image_shape))
    layers = counter.result().total("nominal_macs")
    assert nominal_macs(name) == layers + ATTENTION.get(name, 0)


def test_macs_of_an_unknown_network() -> None:
    with pytest.raises(snnprof.SnnprofError, match="unknown model 'vgg6'; known: resnet18, "):
        nominal_macs("vgg6")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg6"}, "unknown model 'vgg6'; known: resnet18, "),
        ({"name": "vgg5", "neuron": "if"}, "unknown neuron 'if'; known: hdlif"),
        ({"name": "vgg5", "weights": "int8"}, "unknown weights 'int8'; known: "),
        ({"name": "vgg5", "timesteps": 0}, "timesteps=0"),
        ({"name": "vgg5", "wings": True}, "unknown variant of lif 'wings'; known: "),
        ({"name": "vgg5", "connect": "add"}, "connect"),  # an option of another network
        ({"name": "vgg11", "image_size": 8}, "give at least 16"),
        ({"name": "vgg13", "image_size": 15}, "give at least 16"),
        ({"name": "vgg16", "image_size": 31}, "give at least 32"),
        ({"name": "vgg_dvs", "image_size": 15}, "give at least 16"),
        ({"name": "resnet18", "image_size": 7}, "give at least 8"),
        ({"name": "resnet18", "image_size": 15, "num_classes": 200}, "4 times, .* at least 16"),
        ({"name": "resnet18", "image_size": 31, "num_classes": 1000}, "5 times, .* at least 32"),
        ({"name": "resnet19", "image_size": 3}, "give at least 4"),
        ({"name": "resnet19", "image_size": 7, "in_channels": 2}, "give at least 8"),
        ({"name": "resnet18", "seca": 3}, "unknown seca of resnet18 '3'; known: 2, False, True"),
        ({"name": "resnet18", "authors_code": 2}, "unknown authors_code of resnet18 '2'; known: "),
        ({"name": "sew_resnet34", "image_size": 4}, "give at least 8"),
        (
            {"name": "sew_resnet18", "connect": "or"},
            "unknown connect of sew_resnet18 'or'; known: add, and, iand",
        ),
        ({"name": "sew_resnet18", "connect": True}, "known: add, and, iand"),
        ({"name": "spikformer_4_384", "image_size": 30}, "a multiple of 4, 28 say"),
        ({"name": "spikformer_4_384", "image_size": 3}, "a multiple of 4, 4 say"),
        ({"name": "spikformer_8_512", "image_size": 200}, "a multiple of 16, 192 say"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        create(**arguments)  # type: ignore[arg-type]


def test_an_unknown_size_accounting_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="known: fp32, nominal, packed, paper"):
        snnprof.size_bytes(nn.Linear(1, 1), "zip")


def latent_weights(network: nn.Module) -> list[torch.Tensor]:
    return [latent_weight(layer) for _, layer, _ in quantised_layers(network)]


@pytest.mark.parametrize("name", ["vgg5", "vgg11", "resnet18", "resnet19"])
@pytest.mark.parametrize("weights", ["1bit", "1.5bit"])
def test_latent_weights_start_as_the_authors_only_when_asked(name: str, weights: str) -> None:
    torch.manual_seed(0)
    for latent in latent_weights(create(name, weights=weights)):
        assert 0.4 < (latent > 0).double().mean() < 0.6
    with pytest.warns(UserWarning, match=r"start uniform in \[0, 0.001\)"):
        network = create(name, weights=weights, authors_code=True)
    assert latent_weights(network)
    for latent in latent_weights(network):
        assert latent.min() >= 0
        # A mean of 36864 weights or more, uniform, whose deviation is 0.001 / sqrt(12): five
        # standard errors are 5 * 0.00029 / 192 = 7.5e-6
        assert latent.max() < 0.001
        assert latent.mean().item() == pytest.approx(0.0005, abs=7.5e-6)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert (layers[0].weight < 0).any()  # full precision keeps its start
    assert (layers[-1].weight < 0).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"neuron": "hdlif+parallel", "authors_code": True},
        {"neuron": "hdlif+parallel+authors_code"},
        {"neuron": "hdlif", "parallel": "true", "authors_code": "true"},
    ],
)
def test_authors_code_reaches_the_neurons(arguments: dict[str, object]) -> None:
    network = create("resnet18", **arguments)  # type: ignore[arg-type]
    asked = [n.first_threshold for n in neurons_of(network) if isinstance(n, HDLIF)]
    assert asked == [False, True] * 8
    plain = create("resnet18", neuron="hdlif", parallel=True, authors_code=False)
    assert not any(n.first_threshold for n in neurons_of(plain) if isinstance(n, HDLIF))


def test_authors_code_changes_nothing_where_they_do_what_the_paper_says() -> None:
    networks = []
    for authors_code in (False, True):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it changes nothing
            network = create("resnet18", neuron="lif", authors_code=authors_code)
        networks.append(network.state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


@pytest.mark.parametrize("name", ["spikformer_2_384", "vgg5", "sew_resnet18", "vgg11"])
@pytest.mark.parametrize("neuron", ["lif", "hdlif"])
def test_authors_code_that_changes_nothing_is_said(name: str, neuron: str) -> None:
    with pytest.warns(UserWarning, match=f"it changes nothing of this {name}: the HD-LIF"):
        create(name, neuron=neuron, authors_code=True)


def test_authors_code_clips_ternary_weights_and_no_others() -> None:
    # paper-facts, the authors' quantisers: "1.5 bit: clipped to [-1, 1], Delta = 0.7 mean |W|". Of
    # 3, .6, -.6, .1: clipped 1, .6, -.6, .1, whose mean is 2.3 / 4 and Delta 0.4025; three are
    # kept, alpha = 2.2 / 3. Not clipped: mean 1.075, Delta 0.7525, 3 alone is kept.
    latent = torch.tensor([3, 0.6, -0.6, 0.1], dtype=torch.float64)
    expected = {
        ("1.5bit", False): [3, 0, 0, 0],
        ("1.5bit", True): [2.2 / 3, 2.2 / 3, -2.2 / 3, 0],
        ("1bit", False): [1.075, 1.075, -1.075, 1.075],
        ("1bit", True): [1.075, 1.075, -1.075, 1.075],  # "alpha_o = mean |W_o|", unclipped
    }
    for (weights, authors_code), found in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the authors' start
            network = create("vgg5", weights=weights, authors_code=authors_code).double()
        _, layer, _ = quantised_layers(network)[0]
        with torch.no_grad():
            original = latent_weight(layer)
            original.copy_(latent.repeat(original.numel() // 4).view_as(original))
        assert layer.weight.flatten()[:4].tolist() == pytest.approx(found, rel=1e-12)
        layer.weight.sum().backward()
        # Straight through where |W| < 1 (1.5 bit) or <= 1.
        assert original.grad.flatten()[:4].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg_dvs"])
def test_parallel_where_there_is_no_residual_block_is_said(name: str) -> None:
    with pytest.warns(UserWarning, match=f"parallel: no neuron of {name} is"):
        network = create(name, neuron="hdlif", parallel=True, image_size=16)
    assert not any(n.parallel for n in neurons_of(network) if isinstance(n, HDLIF))


def test_options_of_a_network() -> None:
    assert options_of("vgg5") == {"authors_code": (False, True)}
    assert options_of("resnet19") == {"authors_code": (False, True), "seca": (False, True, 2)}
    with pytest.raises(snnprof.SnnprofError, match="unknown model 'vgg6'"):
        options_of("vgg6")

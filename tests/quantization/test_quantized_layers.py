"""Putting quantisers on the layers of a model."""

import copy
import io
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import snnprof
from snnprof.models import create
from snnprof.quantization.quantized_layers import latent_weight, quantised_layers
from snnprof.quantization.quantizers import SCHEMES, Channels, binarise, ternarise
from snnprof.spiking.lif import LIF
from snnprof.spiking.network import SpikingNetwork

names = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Flatten()),
        nn.Linear(6 * 36, 5),
    )


def quantised_names(model: nn.Module) -> list[str]:
    return [name for name, _, _ in quantised_layers(model)]


@names
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, groups=2),
        nn.Conv2d(4, 6, (3, 1)),
        nn.Conv3d(2, 3, 2),
        nn.ConvTranspose1d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(2, 3, 3),
        nn.ConvTranspose3d(4, 2, 2, groups=2),
        nn.Linear(5, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_layer(scheme: str, layer: nn.Module) -> None:
    layer = copy.deepcopy(layer)
    latent, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    channels = Channels(True, layer.groups) if "Transpose" in type(layer).__name__ else Channels()
    assert snnprof.quantize(layer, scheme) is layer
    expected = {"1bit": binarise, "1.5bit": ternarise}[scheme](latent, channels)
    assert torch.equal(layer.weight, expected)
    assert torch.equal(latent_weight(layer), latent)
    assert torch.equal(layer.bias, bias)
    if scheme == "1bit":  # one scale per output channel, as the output shows
        assert len(layer.weight.abs().unique()) == len(bias)


@names
def test_an_optimiser_made_before_goes_on_with_the_latent_weights(scheme: str) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = {id(p) for p in model.parameters()}
    snnprof.quantize(model, scheme)
    assert {id(p) for p in model.parameters()} == parameters
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.randn(2, 2, 4, 4)).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert gradients[name] is not None and bool(gradients[name].any())
        assert torch.equal(parameter, before[name].sub(gradients[name], alpha=0.1))


@names
@pytest.mark.parametrize(
    ("skip", "expected"),
    [
        ((), ["0", "3.0", "4"]),
        (["0"], ["3.0", "4"]),
        ("4", ["0", "3.0"]),
        ({"3"}, ["0", "4"]),
        (["1", "2"], ["0", "3.0", "4"]),
        (lambda name, layer: isinstance(layer, nn.Linear), ["0", "3.0"]),
        (lambda name, layer: name == "3.0", ["0", "4"]),
    ],
)
def test_skip(scheme: str, skip: object, expected: list[str]) -> None:
    model = snnprof.quantize(small(), scheme, skip=skip)  # type: ignore[arg-type]
    assert quantised_names(model) == expected


def test_schemes_can_be_mixed() -> None:
    model = snnprof.quantize(small(), "1bit", skip=["3", "4"])
    snnprof.quantize(model, "1.5bit", skip=["0"])
    assert [q.scheme for _, _, q in quantised_layers(model)] == ["1bit", "1.5bit", "1.5bit"]


@names
def test_networks_keep_their_ends_in_full_precision(scheme: str) -> None:
    network = create("vgg5", in_channels=1, image_size=8)
    for model in (network, nn.Sequential(copy.deepcopy(network))):
        snnprof.quantize(model, scheme)
        assert len(quantised_names(model)) == 3  # 3 convolutions, 2 linear layers, without the ends
        for name, module in model.named_modules():
            if isinstance(module, SpikingNetwork):
                for kept in module.full_precision:
                    assert f"{name}.{kept}".lstrip(".") not in quantised_names(model)


class WithConvolution(LIF):
    def __init__(self) -> None:
        super().__init__(1)
        self.attention = nn.Conv1d(1, 1, 5)


def test_layers_inside_a_neuron_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), WithConvolution())
    assert quantised_names(snnprof.quantize(model, "1bit")) == ["0"]


@names
def test_a_module_used_twice_is_quantised_once(scheme: str) -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert quantised_names(snnprof.quantize(model, scheme)) == ["0"]
    with pytest.raises(snnprof.SnnprofError, match="nothing to quantise"):  # under either name
        snnprof.quantize(
            nn.Sequential(nn.ReLU(), layer, nn.Sequential(layer)), "1bit", ["2.0", "1"]
        )


@names
def test_a_weight_shared_alike_stays_shared(scheme: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    snnprof.quantize(model, scheme)
    assert latent_weight(model[0]) is latent_weight(model[1])
    assert torch.equal(model[0].weight, model[1].weight)


@names
def test_copies_and_state_dicts_compute_the_same(scheme: str) -> None:
    model = snnprof.quantize(small(), scheme)
    model.eval()
    x = torch.randn(2, 2, 4, 4)
    expected = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        latent_weight(twin[0]).neg_()
    assert not torch.equal(twin(x), expected) and torch.equal(model(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    fresh = snnprof.quantize(small(), scheme).eval()
    assert not torch.equal(fresh(x), expected)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)


@names
def test_removing_gives_the_latent_or_the_quantised_weight(scheme: str) -> None:
    for leave in (False, True):
        layer = nn.Linear(6, 4)
        latent = layer.weight.detach().clone()
        snnprof.quantize(layer, scheme)
        expected = layer.weight.detach().clone() if leave else latent
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=leave)
        assert torch.equal(layer.weight, expected)
        snnprof.quantize(layer, scheme)


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_and_autocast(scheme: str, dtype: torch.dtype) -> None:
    layer = snnprof.quantize(nn.Linear(64, 32).to(dtype), scheme)
    layer(torch.randn(3, 64, dtype=dtype)).sum().backward()
    assert layer.weight.dtype == dtype
    assert latent_weight(layer).grad.dtype == dtype
    whole = snnprof.quantize(nn.Linear(64, 32), scheme)
    with torch.autocast("cpu", torch.bfloat16):
        out = whole(torch.randn(3, 64))
        assert out.dtype == torch.bfloat16
        assert whole.weight.dtype == torch.float32
    out.sum().backward()
    assert latent_weight(whole).grad.dtype == torch.float32
    assert whole.to(dtype).weight.dtype == dtype


@names
def test_cached_weights_are_the_same(scheme: str) -> None:
    model = snnprof.quantize(small(), scheme).eval()
    x = torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        expected = model(x)
        with parametrize.cached():
            assert torch.equal(model(x), expected)
            assert model[0].weight is model[0].weight


def pruned() -> nn.Module:
    return nn.Sequential(prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5))


def with_nan() -> nn.Module:
    model = small()
    with torch.no_grad():
        model[4].weight[0, 0] = float("nan")
    return model


def tied(first: nn.Module, second: nn.Module) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        one, other = copy.deepcopy(first), copy.deepcopy(second)
        other.weight = one.weight
        return nn.ModuleDict({"encoder": one, "decoder": other})

    return make


LINEAR = nn.Linear(4, 4)
REFUSED: dict[str, tuple[Callable[[], nn.Module], str, object, str]] = {
    "scheme": (small, "2bit", (), "unknown weight scheme '2bit'; known: 1.5bit, 1bit"),
    "no layer": (nn.ReLU, "1bit", (), "nothing to quantise in ReLU"),
    "all skipped": (small, "1bit", lambda name, layer: True, "nothing to quantise in Sequential"),
    "unknown name": (small, "1bit", ["3.1.0"], "skip='3.1.0': .*close to it: 3.1, 3.0"),
    "unknown, nothing close": (small, "1bit", ["classifier"], "no module of that name$"),
    "twice": (
        lambda: snnprof.quantize(small(), "1.5bit", skip=["0"]),
        "1bit",
        (),
        r"layer '3.0' is quantised already \(1.5bit\): .*remove_parametrizations",
    ),
    "twice, root": (
        lambda: snnprof.quantize(nn.Linear(2, 2), "1bit"),
        "1bit",
        (),
        "the .*Linear is q",
    ),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))),
        "1bit",
        (),
        r"layer '0' carries another parametrisation \(_WeightNorm\)",
    ),
    "pruned": (pruned, "1bit", (), "'0' is computed from other parameters"),
    "NaN": (with_nan, "1.5bit", (), "layer '4' has weights that are NaN or infinite"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "1bit", (), "run the model once"),
    "complex": (
        lambda: nn.Linear(2, 2, dtype=torch.complex64),
        "1bit",
        (),
        "of type torch.complex64",
    ),
    "tied to an embedding": (
        tied(nn.Embedding(4, 4), LINEAR),
        "1bit",
        (),
        "'decoder' shares .*'encoder'",
    ),
    "tied to a skipped layer": (
        tied(LINEAR, LINEAR),
        "1bit",
        ["encoder"],
        "'decoder' shares .*'encoder'",
    ),
    "tied across layouts": (
        tied(nn.Conv1d(4, 4, 1), nn.ConvTranspose1d(4, 4, 1)),
        "1bit",
        (),
        "'encoder' shares its weight with 'decoder', which is not quantised alike",
    ),
    "no module": (lambda: [], "1bit", (), "model is a list, not a torch.nn.Module"),  # type: ignore[dict-item,return-value]
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line_and_changes_nothing(case: str) -> None:
    make, scheme, skip, message = REFUSED[case]
    model = make()
    before = quantised_names(model) if isinstance(model, nn.Module) else None
    with pytest.raises(snnprof.SnnprofError, match=message) as error:
        snnprof.quantize(model, scheme, skip)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert before is None or quantised_names(model) == before


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_one_sign_are_warned_of(sign: int) -> None:
    layer = nn.Linear(8, 4)
    nn.init.constant_(layer.weight, 0.1 * sign)
    with pytest.warns(UserWarning, match="all weights of layer 'only' have one sign"):
        snnprof.quantize(nn.ModuleDict({"only": layer}), "1bit")


def test_few_weights_may_share_a_sign() -> None:
    layer = nn.Linear(31, 1)
    nn.init.ones_(layer.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snnprof.quantize(layer, "1bit")


def test_a_change_of_one_latent_weight_is_seen_at_once() -> None:
    layer = snnprof.quantize(nn.Linear(2, 1, bias=False), "1bit")
    with torch.no_grad():
        latent_weight(layer).copy_(torch.tensor([[0.5, -0.25]]))
    x: Tensor = torch.tensor([[1.0, 0.0]])
    assert layer(x).item() == 0.375  # (0.5 + 0.25) / 2
    with torch.no_grad():
        latent_weight(layer)[0, 0] = -0.25
    assert layer(x).item() == -0.25

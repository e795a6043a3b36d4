"""The networks, by name. One file each, readable alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from snnprof.core.errors import SnnprofError, known
from snnprof.models.resnet import SECA_FORMS, resnet18, resnet19, resnet34
from snnprof.models.sew_resnet import CONNECTIONS, sew_resnet18, sew_resnet34
from snnprof.models.spikformer import (
    spikformer_2_384,
    spikformer_4_256,
    spikformer_4_384,
    spikformer_8_384,
    spikformer_8_512,
    spikformer_8_768,
)
from snnprof.models.vgg import vgg5, vgg11, vgg13, vgg16
from snnprof.quantization.quantized_layers import latent_weight, quantised_layers, quantize
from snnprof.quantization.quantizers import SCHEMES
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron import neurons_of
from snnprof.spiking.neuron_registry import (
    NeuronMaker,
    neuron_maker,
    parse_specification,
    takes_variant,
)


class Builder(Protocol):
    """Makes a network; a model's own options come as further keywords."""

    def __call__(
        self,
        make_neuron: NeuronMaker,
        timesteps: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> SpikingNetwork: ...


@dataclass(frozen=True)
class ModelInfo:
    """A network and the input it is usually seen with.

    Attributes:
        build: makes it.
        in_channels, image_size: of its usual input.
        source: a short citation.
        num_classes: its usual outputs.
        options: keywords of its own that it takes besides the neuron's variants, each with
            the values it may have; names are lower case, and given in either. See
            :func:`options_of`.
    """

    build: Builder
    in_channels: int
    image_size: int
    source: str
    num_classes: int = 10
    options: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


_CONNECT = {"connect": tuple(CONNECTIONS)}
_SECA = {"seca": SECA_FORMS}
_OF_ALL = {"authors_code": (False, True)}
_CLIPPED = ("1.5bit",)  # to [-1, 1] before they are quantised, in the HD-LIF authors' code
_LARGEST_START = 0.001  # of a latent weight in the HD-LIF authors' code
_ZHENG = "HD-LIF authors' code after Zheng et al. 2021, pre-activation; CIFAR form"
_HE = "HD-LIF authors' code after He et al. 2016, pre-activation; "
_VGG = "HD-LIF authors' code, average pooling; "
_FANG = "Fang et al. 2021 (SEW-ResNet), ImageNet form"
_ZHOU = "Zhou et al. 2023 (Spikformer), "

MODELS: dict[str, ModelInfo] = {
    "vgg5": ModelInfo(vgg5, 1, 8, "3 convolutions, 2 linear layers; small, for the digits"),
    "vgg11": ModelInfo(vgg11, 3, 32, _VGG + "CIFAR form"),
    "vgg13": ModelInfo(vgg13, 3, 32, _VGG + "CIFAR form"),
    "vgg16": ModelInfo(vgg16, 3, 32, "configuration D of Simonyan & Zisserman, CIFAR form"),
    "vgg_dvs": ModelInfo(vgg11, 2, 48, _VGG + "DVS-CIFAR10 form of vgg11"),
    "resnet18": ModelInfo(resnet18, 3, 32, _HE + "CIFAR form", options=_SECA),
    "resnet19": ModelInfo(resnet19, 3, 32, _ZHENG, options=_SECA),
    "resnet34": ModelInfo(resnet34, 3, 224, _HE + "ImageNet form", 1000, _SECA),
    "sew_resnet18": ModelInfo(sew_resnet18, 3, 224, _FANG, 1000, _CONNECT),
    "sew_resnet34": ModelInfo(sew_resnet34, 3, 224, _FANG, 1000, _CONNECT),
    "spikformer_2_384": ModelInfo(spikformer_2_384, 3, 32, _ZHOU + "CIFAR form"),
    "spikformer_4_256": ModelInfo(spikformer_4_256, 3, 32, _ZHOU + "CIFAR form"),
    "spikformer_4_384": ModelInfo(spikformer_4_384, 3, 32, _ZHOU + "CIFAR form"),
    "spikformer_8_384": ModelInfo(spikformer_8_384, 3, 224, _ZHOU + "ImageNet form", 1000),
    "spikformer_8_512": ModelInfo(spikformer_8_512, 3, 224, _ZHOU + "ImageNet form", 1000),
    "spikformer_8_768": ModelInfo(spikformer_8_768, 3, 224, _ZHOU + "ImageNet form", 1000),
}
WEIGHTS = ("fp32", *SCHEMES)


def list_models() -> list[str]:
    """The names that :func:`create` takes, sorted."""
    return sorted(MODELS)


def options_of(name: str) -> dict[str, tuple[object, ...]]:
    """The keywords that a network takes besides its neuron's variants, and their values.

    Raises:
        SnnprofError: an unknown name.
    """
    if name not in MODELS:
        raise known("model", name, MODELS)
    return {**_OF_ALL, **MODELS[name].options}


def create(
    name: str,
    *,
    neuron: str = "lif",
    weights: str = "fp32",
    timesteps: int = 4,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    **variants: object,
) -> SpikingNetwork:
    """Build a network.

    Args:
        name: one of :func:`list_models`.
        neuron: "lif", "hdlif" or "ilif", perhaps with variants: ``"hdlif+four_bit"``.
        weights: "fp32", "1bit" or "1.5bit"; the first convolution and the classifier stay in
            full precision.
        timesteps: T.
        num_classes: outputs.
        in_channels: channels of the image.
        image_size: height and width of the image in pixels.
        **variants: options of the network (``connect`` of a SEW-ResNet; ``seca`` of a ResNet:
            True or 2, the form that adds the block's inner inputs) and variants of the neuron
            (``four_bit``, ``parallel``, ``mem_bn``, ``seca`` and ``literal`` of "hdlif";
            ``leak``, ``threshold``, ``surrogate``, ``reset``, ``detach_reset`` and
            ``learnable`` of "lif"). ``authors_code=True`` takes the HD-LIF authors' code where
            their paper says otherwise: a parallel neuron has the threshold of step 0 at every
            step, the latent weights of quantised layers start uniform in [0, 0.001), and those of
            1.5 bit are clipped to [-1, 1] before they are quantised.

    Returns:
        A network from [T, B, C, H, W], or an image [B, C, H, W] that it repeats T times, to
        [T, B, num_classes].

    Raises:
        SnnprofError: an unknown name or variant, a number below 1, or an image too small.

    Warns:
        UserWarning: the latent weights start all positive; or no neuron is parallel, or nothing
            is as in the authors' code alone, though that was asked for.
    """
    parts = look_up(name, neuron=neuron, weights=weights, timesteps=timesteps, **variants)
    sizes = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "image_size": image_size,
    }
    for key, value in sizes.items():
        _check_size(key, value)
    network = MODELS[name].build(parts.make_neuron, timesteps, **sizes, **parts.options)
    if "parallel" in parts.variants:
        _warn_unless_parallel(name, network, parts.variants["parallel"])
    if weights != "fp32":
        quantize(network, weights, clip=parts.authors_code and weights in _CLIPPED)
        if parts.authors_code:
            _start_as_the_authors(network)
    elif parts.authors_code:
        _warn_unless_as_the_authors(name, network)
    return network


@dataclass(frozen=True)
class Parts:
    """What a network is made of, looked up.

    Attributes:
        make_neuron: of its layers of neurons.
        options: of the network's own.
        variants: of the neurons.
        authors_code: the HD-LIF authors' code is taken where their paper says otherwise.
    """

    make_neuron: NeuronMaker
    options: Mapping[str, Any]
    variants: Mapping[str, object]
    authors_code: bool


def look_up(name: str, *, neuron: str, weights: str, timesteps: int, **variants: object) -> Parts:
    """What :func:`create` makes a network of, without making it: whatever its sizes will be.

    Raises:
        SnnprofError: an unknown name or variant, or a value that it cannot have.
    """
    known_options = options_of(name)
    if weights not in WEIGHTS:
        raise known("weights", weights, WEIGHTS)
    _check_size("timesteps", timesteps)
    neuron, given = parse_specification(neuron, **variants)
    options = {
        key: _chosen(f"{key} of {name}", given.pop(key), known_options[key])
        for key in tuple(given)
        if key in known_options
    }
    authors_code = bool(options.pop("authors_code", False))
    if authors_code and takes_variant(neuron, "authors_code"):
        given["authors_code"] = True
    return Parts(neuron_maker(neuron, timesteps, **given), options, given, authors_code)


def _check_size(what: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise SnnprofError(f"{what}={value}: must be at least 1, and whole")


def _chosen(what: str, given: object, values: tuple[object, ...]) -> object:
    """The value that is meant, perhaps written as text, in either case."""
    for value in values:
        if str(value).lower() == str(given).lower():
            return value
    raise known(what, str(given), map(str, values))


def _warn_unless_parallel(name: str, network: SpikingNetwork, asked: object) -> None:
    hdlifs = [neuron for neuron in neurons_of(network) if isinstance(neuron, HDLIF)]
    if str(asked).lower() == "true" and not any(neuron.parallel for neuron in hdlifs):
        warnings.warn(
            f"parallel: no neuron of {name} is, for it replaces the second neuron of a residual "
            "block, and there is none",
            UserWarning,
            stacklevel=3,
        )


def _warn_unless_as_the_authors(name: str, network: SpikingNetwork) -> None:
    """Of a network without quantised weights."""
    hdlifs = [neuron for neuron in neurons_of(network) if isinstance(neuron, HDLIF)]
    if not any(neuron.first_threshold for neuron in hdlifs):
        warnings.warn(
            f"authors_code: it changes nothing of this {name}: the HD-LIF authors' code differs "
            "from their paper in quantised weights and in parallel neurons, and there are none; of "
            "other authors' code it says nothing",
            UserWarning,
            stacklevel=3,
        )


def _start_as_the_authors(network: SpikingNetwork) -> None:
    for _, layer, _ in quantised_layers(network):
        nn.init.uniform_(latent_weight(layer), 0, _LARGEST_START)
    warnings.warn(
        "authors_code: all latent weights start uniform in [0, 0.001), so that every quantised "
        "weight that is not 0 starts positive; leave authors_code out for a symmetric start",
        UserWarning,
        stacklevel=3,
    )


def usual(name: str, timesteps: int = 4) -> SpikingNetwork:
    """The network at its usual size: that of its :class:`ModelInfo`, with LIF neurons.

    Under ``torch.device("meta")`` it takes no memory.

    Raises:
        SnnprofError: an unknown name.
    """
    if name not in MODELS:
        raise known("model", name, MODELS)
    info = MODELS[name]
    return create(
        name,
        timesteps=timesteps,
        num_classes=info.num_classes,
        in_channels=info.in_channels,
        image_size=info.image_size,
    )


def nominal_macs(name: str) -> int:
    """Textbook multiply-accumulates per image and time step at the usual size.

    Those of convolutions and linear layers, padded taps included, and of the attention's two
    products, counted by torch's flop counter (2 flops per MAC) on shapes alone.

    Raises:
        SnnprofError: an unknown name.
    """
    with torch.device("meta"), torch.no_grad():
        network = usual(name, timesteps=1).eval()
        image = torch.empty(1, *network.image_shape)
        with FlopCounterMode(display=False) as counter:
            network(image)
    return int(counter.get_total_flops()) // 2

"""The networks, by name. One file each, readable alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from snnprof.core.errors import SnnprofError, known
from snnprof.models.resnet import resnet18, resnet19, resnet34
from snnprof.models.sew_resnet import CONNECTIONS, sew_resnet18, sew_resnet34
from snnprof.models.spikformer import (
    spikformer_2_384,
    spikformer_4_256,
    spikformer_4_384,
    spikformer_8_384,
    spikformer_8_512,
    spikformer_8_768,
)
from snnprof.models.vgg import vgg5, vgg11, vgg16, vgg_dvs
from snnprof.quantization.quantized_layers import quantize
from snnprof.quantization.quantizers import SCHEMES
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron_registry import NeuronMaker, neuron_maker


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
            the values it may have; names are lower case, and given in either.
    """

    build: Builder
    in_channels: int
    image_size: int
    source: str
    num_classes: int = 10
    options: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


_CONNECT = {"connect": tuple(CONNECTIONS)}
_ZHENG = "Zheng et al. 2021 (widths, depths), pre-activation; CIFAR form"
_HE = "He et al. 2016, pre-activation, as HD-LIF; "
_FANG = "Fang et al. 2021 (SEW-ResNet), ImageNet form"
_ZHOU = "Zhou et al. 2023 (Spikformer), "

MODELS: dict[str, ModelInfo] = {
    "vgg5": ModelInfo(vgg5, 1, 8, "3 convolutions, 2 linear layers; small, for the digits"),
    "vgg11": ModelInfo(vgg11, 3, 32, "configuration A of Simonyan & Zisserman, CIFAR form"),
    "vgg16": ModelInfo(vgg16, 3, 32, "configuration D of Simonyan & Zisserman, CIFAR form"),
    "vgg_dvs": ModelInfo(vgg_dvs, 2, 48, "Deng et al. 2022 (VGG-SNN), DVS-CIFAR10 form"),
    "resnet18": ModelInfo(resnet18, 3, 32, _HE + "CIFAR form"),
    "resnet19": ModelInfo(resnet19, 3, 32, _ZHENG),
    "resnet34": ModelInfo(resnet34, 3, 224, _HE + "ImageNet form", 1000),
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
        **variants: options of the network (``connect`` of a SEW-ResNet) and variants of the
            neuron (``four_bit``, ``parallel``, ``mem_bn``, ``seca`` and ``literal`` of
            "hdlif"; ``leak``, ``threshold``, ``surrogate``, ``reset`` and ``detach_reset`` of
            "lif").

    Returns:
        A network from [T, B, C, H, W], or an image [B, C, H, W] that it repeats T times, to
        [T, B, num_classes].

    Raises:
        SnnprofError: an unknown name or variant, a number below 1, or an image too small.
    """
    if name not in MODELS:
        raise known("model", name, MODELS)
    if weights not in WEIGHTS:
        raise known("weights", weights, WEIGHTS)
    sizes = {
        "timesteps": timesteps,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "image_size": image_size,
    }
    for key, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise SnnprofError(f"{key}={value}: must be at least 1, and whole")
    info = MODELS[name]
    options = {
        key: value.lower() if isinstance(value, str) else value
        for key, value in variants.items()
        if key in info.options
    }
    for key, option in options.items():
        if option not in info.options[key]:
            raise known(f"{key} of {name}", str(option), map(str, info.options[key]))
    others = {key: value for key, value in variants.items() if key not in info.options}
    make_neuron = neuron_maker(neuron, timesteps, **others)
    network = info.build(make_neuron, timesteps, num_classes, in_channels, image_size, **options)
    if weights != "fp32":
        quantize(network, weights)
    return network


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

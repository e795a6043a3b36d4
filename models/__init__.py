"""The networks, by name. One file each, readable alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from snnprof.errors import SnnprofError, known
from snnprof.models.vgg import vgg5, vgg11
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neurons import NeuronMaker, neuron_maker


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
        options: keywords of its own that it takes besides the neuron's variants, each with
            the values it may have.
    """

    build: Builder
    in_channels: int
    image_size: int
    source: str
    options: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


MODELS: dict[str, ModelInfo] = {
    "vgg5": ModelInfo(vgg5, 1, 8, "3 convolutions, 2 linear layers; small, for the digits"),
    "vgg11": ModelInfo(vgg11, 3, 32, "configuration A of Simonyan & Zisserman, CIFAR form"),
}
WEIGHTS = ("fp32",)


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
        neuron: "lif" or "hdlif".
        weights: "fp32".
        timesteps: T.
        num_classes: outputs.
        in_channels: channels of the image.
        image_size: height and width of the image in pixels.
        **variants: options of the network (``connect`` of a SEW-ResNet) and variants of the
            neuron.

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
    options = {key: value for key, value in variants.items() if key in info.options}
    for key, option in options.items():
        if option not in info.options[key]:
            raise known(f"{key} of {name}", str(option), map(str, info.options[key]))
    others = {key: value for key, value in variants.items() if key not in info.options}
    make_neuron = neuron_maker(neuron, timesteps, **others)
    return info.build(make_neuron, timesteps, num_classes, in_channels, image_size, **options)

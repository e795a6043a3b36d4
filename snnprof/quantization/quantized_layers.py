"""Which parameters of a model are weights, and putting quantisers on them."""

from __future__ import annotations

import difflib
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from snnprof.core.errors import SnnprofError
from snnprof.quantization.quantizers import SCHEMES, Channels, Quantiser
from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.network import SpikingNetwork
from snnprof.spiking.neuron import Neuron

Skip = Collection[str] | Callable[[str, nn.Module], bool]

# What belongs to the neurons: never quantised, with everything inside.
_OF_NEURONS = (Neuron, ChannelAttention)
# Left out of a network's size, with everything inside.
_NOT_WEIGHTS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *_OF_NEURONS)
# Fewer weights may well share a sign by chance: 2^-31 for this many.
_SIGNS_BY_CHANCE = 32


def quantize(model: nn.Module, scheme: str, skip: Skip = (), clip: bool = False) -> nn.Module:
    """Give every convolution and linear layer a quantised weight, trained straight through.

    Each layer's ``weight`` gets a parametrisation (:mod:`torch.nn.utils.parametrize`): the
    parameter it had becomes the latent weight, ``layer.parametrizations.weight.original``,
    the same object as before, so an optimiser that holds it goes on working. ``layer.weight``
    is computed from it at each use. Biases stay as they are; so do layers inside a neuron, SECA
    and the layers that a :class:`snnprof.models.SpikingNetwork` lists as ``full_precision``.

    Args:
        model: any module; changed in place.
        scheme: "1bit" (:func:`~snnprof.quantization.quantizers.binarise`) or "1.5bit"
            (:func:`~snnprof.quantization.quantizers.ternarise`).
        skip: layers to leave in full precision: names of modules, each standing for
            everything inside it, or a predicate of a layer's name and the layer.
        clip: latent weights are held to [-1, 1] before they are quantised, as the HD-LIF authors'
            code has it for 1.5 bit.

    Returns:
        The model.

    Raises:
        SnnprofError: an unknown scheme, a name in ``skip`` that the model does not have,
            nothing to quantise, or a layer whose weight cannot be: quantised already, under
            another parametrisation, not finite, shared with what is not quantised. The model
            is then as it was.

    Warns:
        UserWarning: all latent weights of a layer have one sign, so that 1 bit says nothing.
    """
    SCHEMES.find(scheme)
    if not isinstance(model, nn.Module):
        raise SnnprofError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    is_skipped = _predicate(model, skip)
    chosen = [(name, layer) for name, layer in layers_of(model) if not is_skipped(name, layer)]
    if not chosen:
        raise SnnprofError(
            f"nothing to quantise in {type(model).__name__}: it has no convolution or linear "
            "layer that is not skipped"
        )
    for name, layer in chosen:
        _check(name, layer)
    _check_sharing(model, dict(chosen))
    for name, layer in chosen:
        _warn_of_one_sign(name, layer)
        quantiser = Quantiser(scheme, channels_of(layer), clip)
        parametrize.register_parametrization(layer, "weight", quantiser)
    return model


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every convolution and linear layer outside neurons and SECA, each once.

    Layers without a single weight are left out.
    """
    inside = {
        m for owner in model.modules() if isinstance(owner, _OF_NEURONS) for m in owner.modules()
    }
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd | nn.Linear) and module not in inside:
            weight = _raw_weight(module)
            if isinstance(weight, UninitializedParameter) or weight.numel():
                yield name, module


def channels_of(layer: nn.Module) -> Channels:
    """Where the output channels of a layer's weight are."""
    if isinstance(layer, _ConvTransposeNd):
        return Channels(transposed=True, groups=layer.groups)
    return Channels()


def quantiser_of(layer: nn.Module) -> Quantiser | None:
    """The quantiser on a layer's weight, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    stack = layer.parametrizations["weight"]  # type: ignore[index]
    return next((step for step in stack if isinstance(step, Quantiser)), None)


def latent_weight(layer: nn.Module) -> Tensor:
    """The latent weight of a quantised layer."""
    latent: Tensor = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
    return latent


def quantised_layers(model: nn.Module) -> list[tuple[str, nn.Module, Quantiser]]:
    """Name, module and quantiser of every quantised layer, each once."""
    found = ((name, layer, quantiser_of(layer)) for name, layer in model.named_modules())
    return [(name, layer, quantiser) for name, layer, quantiser in found if quantiser is not None]


def weights_of(model: nn.Module) -> list[Tensor]:
    """Every weight and bias, latent weights of quantised layers included, each once.

    Parameters of normalisation layers, neurons and SECA are none.
    """
    excluded = {
        inner
        for module in model.modules()
        if isinstance(module, _NOT_WEIGHTS)
        for inner in module.modules()
    }
    found = {
        id(parameter): parameter
        for module in model.modules()
        if module not in excluded
        for parameter in module.parameters(recurse=False)
    }
    return list(found.values())


def _raw_weight(layer: nn.Module) -> Tensor:
    if quantiser_of(layer) is not None:
        return latent_weight(layer)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight


def _predicate(model: nn.Module, skip: Skip) -> Callable[[str, nn.Module], bool]:
    """``skip`` as a predicate, which also holds for what networks keep in full precision."""
    kept = {
        f"{prefix}.{name}" if prefix else name
        for prefix, network in model.named_modules()
        if isinstance(network, SpikingNetwork)
        for name in network.full_precision
    }
    if callable(skip):
        return lambda name, layer: _is_under(name, kept) or bool(skip(name, layer))
    names = (skip,) if isinstance(skip, str) else tuple(skip)
    known_names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for name in names:
        if name not in known_names:
            close = difflib.get_close_matches(name, known_names, n=3)
            listed = f"; close to it: {', '.join(close)}" if close else ""
            raise SnnprofError(f"skip={name!r}: the model has no module of that name{listed}")
    # A module that is used under two names goes by the first; skip must know it by both.
    modules = {id(inner) for name in names for inner in model.get_submodule(name).modules()}
    return lambda name, layer: id(layer) in modules or _is_under(name, kept)


def _is_under(name: str, parents: Collection[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def _check(name: str, layer: nn.Module) -> None:
    """Raise SnnprofError where the layer's weight cannot be quantised."""
    where = f"layer {name!r}" if name else f"the {type(layer).__name__}"
    quantiser = quantiser_of(layer)
    if quantiser is not None:
        raise SnnprofError(
            f"{where} is quantised already ({quantiser.scheme}): name it in skip, or undo that "
            "first with torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight', "
            "leave_parametrized=False)"
        )
    if parametrize.is_parametrized(layer, "weight"):
        others = ", ".join(type(p).__name__ for p in layer.parametrizations["weight"])  # type: ignore[index]
        raise SnnprofError(
            f"the weight of {where} carries another parametrisation ({others}): name it in "
            "skip, or remove that first with torch.nn.utils.parametrize.remove_parametrizations"
        )
    weight = layer._parameters.get("weight")
    if weight is None:
        raise SnnprofError(
            f"the weight of {where} is computed from other parameters (pruning, or the older "
            "weight_norm): name it in skip, or make that permanent first"
        )
    if isinstance(weight, UninitializedParameter):
        raise SnnprofError(f"{where} has no weight yet: run the model once, then quantise it")
    if not weight.is_floating_point():
        raise SnnprofError(f"{where} has weights of type {weight.dtype}: name it in skip")
    if not weight.is_meta and not weight.isfinite().all():
        raise SnnprofError(
            f"{where} has weights that are NaN or infinite: initialise it, or load another "
            "checkpoint, before quantising"
        )


def _check_sharing(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    """Raise SnnprofError where a weight to be quantised is also used in another way."""
    users: dict[int, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            users[id(parameter)].append((name, module))
    for name, layer in chosen.items():
        for other, module in users[id(layer.weight)]:
            alike = other in chosen and channels_of(module) == channels_of(layer)
            if not alike:
                raise SnnprofError(
                    f"layer {name!r} shares its weight with {other!r}, which is not quantised "
                    f"alike: name both in skip, or give {name!r} a weight of its own"
                )


def _warn_of_one_sign(name: str, layer: nn.Module) -> None:
    weight = _raw_weight(layer)
    if weight.is_meta or weight.numel() < _SIGNS_BY_CHANCE:
        return
    negative = weight < 0
    if negative.all() or not negative.any():
        warnings.warn(
            f"all weights of layer {name!r} have one sign, so that quantising leaves little "
            "of them: start from a symmetric distribution",
            UserWarning,
            stacklevel=3,
        )

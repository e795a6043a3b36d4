"""How many bytes a network's weights take."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from snnprof.errors import known
from snnprof.spiking.neurons import Neuron

ACCOUNTINGS = ("packed", "fp32", "paper")
_NOT_WEIGHTS = (_NormBase, nn.LayerNorm, nn.GroupNorm, Neuron)
_FP32_BYTES = 4


def size_bytes(model: nn.Module, accounting: str = "packed") -> float:
    """Bytes of the stored weights; normalisation and neuron parameters excluded.

    No weight is quantised yet: "packed" and "paper" are the bytes of the weights' own type.

    Args:
        model: any module.
        accounting: ``"packed"``, ``"fp32"`` or ``"paper"``.

    Raises:
        SnnprofError: unknown accounting.
    """
    if accounting not in ACCOUNTINGS:
        raise known("size accounting", accounting, ACCOUNTINGS)
    weights = {
        id(parameter): parameter
        for module in model.modules()
        if not isinstance(module, _NOT_WEIGHTS)
        for parameter in module.parameters(recurse=False)
    }
    return sum(
        w.numel() * (_FP32_BYTES if accounting == "fp32" else w.element_size())
        for w in weights.values()
    )

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

    Every weight is stored as fp32 (4 bytes), so the three accountings agree.

    Args:
        model: any module.
        accounting: ``"packed"``, ``"fp32"`` or ``"paper"``.

    Raises:
        SnnprofError: unknown accounting.
    """
    if accounting not in ACCOUNTINGS:
        raise known("size accounting", accounting, ACCOUNTINGS)
    weights = {
        id(parameter): parameter.numel()
        for module in model.modules()
        if not isinstance(module, _NOT_WEIGHTS)
        for parameter in module.parameters(recurse=False)
    }
    return _FP32_BYTES * sum(weights.values())

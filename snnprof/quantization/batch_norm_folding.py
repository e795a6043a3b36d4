"""Batch norms folded into the layers before them, for networks that are published so.

In evaluation mode a batch norm is y = g (x - m) / sqrt(v + eps) + b, per channel; behind a
convolution x = w * s + c it is one with weights g w / sqrt(v + eps) (Jacob et al., Quantization
and training of neural networks, CVPR 2018). torch.nn.utils.fusion has the arithmetic; pairs are
found in the graphs that torch.fx traces, one module's forward at a time.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from snnprof.core.errors import SnnprofError

_NORMS: tuple[type[nn.Module], ...] = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
)
_LAYERS: tuple[type[nn.Module], ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
# A library whose layers of the same names compute the same, over [T, B, ...] too.
_ALIKE = "spikingjelly."
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of the model, in evaluation mode, without the batch norms that could be folded.

    A batch norm right behind a convolution or a linear layer ([B, features]), whose output goes
    nowhere else, becomes a part of its weight and bias; nn.Identity stands in its place. Outputs
    are those of the model in evaluation mode up to rounding: the weights are computed in double
    precision and rounded once. Running statistics are used, whatever mode the model is in.

    Args:
        model: any module; it stays as it is.

    Raises:
        SnnprofError: no module, or one that cannot be copied.

    Warns:
        UserWarning: batch norms that were not folded, with the reason of each; or there is none.
    """
    if not isinstance(model, nn.Module):
        raise SnnprofError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    folded, traced = _copy(model), _copy(model)
    pairs, reasons = _Pairs(traced).find()
    for layer_name, norm_name in pairs.items():
        _fold(folded, layer_name, norm_name)
    if not pairs and not reasons:
        warnings.warn(
            f"{type(model).__name__} has no batch norm: the copy counts what the model does",
            UserWarning,
            stacklevel=2,
        )
    if reasons:
        names: dict[str, list[str]] = defaultdict(list)
        for name, reason in reasons.items():
            names[reason].append(name)
        listed = "; ".join(f"{', '.join(alike)} ({reason})" for reason, alike in names.items())
        warnings.warn(f"batch norms that are not folded: {listed}", UserWarning, stacklevel=2)
    return folded


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise SnnprofError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}): reset the "
            "state of its neurons first"
        ) from error


def _fold(model: nn.Module, layer_name: str, norm_name: str) -> None:
    """Put the layer with the norm in it in the place of both, under all names they have."""
    layer: Any = model.get_submodule(layer_name)
    norm = model.get_submodule(norm_name)
    fused = _fused(layer, norm).to(layer.weight.device, layer.weight.dtype)
    fused.requires_grad_(layer.weight.requires_grad)
    names = {layer: fused, norm: nn.Identity().eval()}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in names:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, names[module])


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """The layer with the norm in it, in double precision on the host."""
    one, other = (copy.deepcopy(module).to("cpu", torch.float64) for module in (layer, norm))
    assert isinstance(other, _BatchNorm)
    if not other.affine:  # which fuse_linear_bn_eval does not expect
        like = other.running_var
        assert like is not None
        other.weight = nn.Parameter(torch.ones_like(like))
        other.bias = nn.Parameter(torch.zeros_like(like))
    if isinstance(one, nn.Linear):
        return fuse_linear_bn_eval(one, other)
    assert isinstance(one, _ConvNd)
    return fuse_conv_bn_eval(one, other, isinstance(one, _ConvTransposeNd))


class _Call(NamedTuple):
    """A call of a module: the module whose output it takes, if any, and who takes its own."""

    source: nn.Module | None
    users: tuple[nn.Module | None, ...]


class _OneForward(fx.Tracer):
    """Traces a module's own forward; what it calls is not looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _Pairs:
    """Layers and the batch norms right behind them.

    Args:
        model: a copy; tracing may change what its modules hold.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names: dict[nn.Module, str] = {m: name for name, m in model.named_modules()}
        self._parents: dict[nn.Module, list[nn.Module]] = defaultdict(list)
        self._calls: dict[nn.Module, list[_Call]] = defaultdict(list)
        self._touched: set[nn.Module] = set()  # whose parameters a forward reads itself
        self._untraced: dict[nn.Module, str] = {}
        with torch.random.fork_rng(devices=[]):
            for module in self._names:
                for child in module.children():
                    self._parents[child].append(module)
                if next(module.children(), None) is not None:
                    self._trace(module)

    def _trace(self, module: nn.Module) -> None:
        parameters = inspect.signature(module.forward).parameters.values()
        given = {p.name: p.default for p in parameters if p.default is not p.empty}
        try:
            graph = _OneForward().trace(module, concrete_args=given or None)
        except Exception as error:  # theirs: control flow on values, shapes or types
            self._untraced[module] = type(error).__name__
            return
        for node in graph.nodes:
            if node.op == "get_attr":
                self._touched.add(module.get_submodule(node.target.rpartition(".")[0]))
            called = _called(module, node)
            if called is not None:
                users = tuple(_called(module, user) for user in node.users)
                alone = len(node.args) == 1 and not node.kwargs
                source = _called(module, node.args[0]) if alone else None
                self._calls[called].append(_Call(source, users))

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        """Names of layers with those of their batch norms; and why others are in none."""
        pairs, reasons = {}, {}
        for norm, name in self._names.items():
            if isinstance(norm, _BatchNorm):
                reason = next(self._reasons(norm), None)
                if reason is not None:
                    reasons[name or type(norm).__name__] = reason
                else:
                    layer = self._calls[norm][0].source
                    assert layer is not None
                    pairs[self._names[layer]] = name
        return pairs, reasons

    def _reasons(self, norm: _BatchNorm) -> Iterator[str]:
        """Why it cannot be folded, the first first; nothing where it can."""
        if not _is_plain(norm, _NORMS):
            yield f"a {type(norm).__name__} is no plain batch norm"
        if norm.running_mean is None:
            yield "it keeps no running statistics"
        yield from self._unknown_uses(norm)
        calls = self._calls[norm]
        if not calls:
            yield "no call of it was traced"
            return
        layer = calls[0].source
        if layer is None or not isinstance(layer, _ConvNd | nn.Linear):
            yield "it does not stand right behind a convolution or linear layer"
            return
        if any(call.source is not layer for call in calls):
            yield "it stands behind several layers"
        yield from self._reasons_of_layer(layer, norm)

    def _reasons_of_layer(self, layer: _ConvNd | nn.Linear, norm: _BatchNorm) -> Iterator[str]:
        name = self._names[layer]
        if not _is_plain(layer, _LAYERS):
            yield f"{name} is a {type(layer).__name__}, whose weight is not used as it stands"
        if any(call.users != (norm,) for call in self._calls[layer]):
            yield f"the output of {name} is used elsewhere too"
        yield from (f"{name}: {reason}" for reason in self._unknown_uses(layer))
        if "weight" not in layer._parameters:
            yield f"the weight of {name} is computed from other parameters"
        if isinstance(layer, _ConvTransposeNd) and layer.groups > 1:
            yield f"{name} is transposed and has groups, which torch.nn.utils.fusion cannot fold"
        channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        if channels != norm.num_features:
            yield f"{name} has {channels} outputs, the norm {norm.num_features} channels"
        if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            yield f"its channels are not the features of {name}"

    def _unknown_uses(self, module: nn.Module) -> Iterator[str]:
        for parent in self._parents[module]:
            if parent in self._untraced:
                yield (
                    f"torch.fx cannot trace the forward of {type(parent).__name__} "
                    f"({self._untraced[parent]}): put layer and norm into an nn.Sequential"
                )
        if module in self._touched:
            yield "its parameters are used directly"
        if any(vars(module)[hooks] for hooks in _HOOKS):
            yield "it has hooks"


def _called(module: nn.Module, node: Any) -> nn.Module | None:
    """The module that a node of this module's graph calls."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return module.get_submodule(str(node.target))
    return None


def _is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether it is one of these, and no derived class that computes something else."""
    kind = type(module)
    alike = kind.__module__.startswith(_ALIKE) and isinstance(module, kinds)
    return kind in kinds or (alike and kind.__name__ in {other.__name__ for other in kinds})

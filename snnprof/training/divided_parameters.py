"""Parameters, their gradients and the optimiser's state divided among the processes (FSDP).

torch's ``fully_shard`` does it: a parameter is a ``DTensor``, of which a process holds its part of
the first dimension; it is gathered before the module runs that it is gathered for, forward and
backward, and dropped afterwards; its gradient is averaged over the processes and divided at the
end of every backward pass. The classes of the modules stay what they are.
(Zhao et al., arXiv 2304.11277, for the method.)
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_map_only, tree_unflatten

from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError
from snnprof.core.processes import Processes
from snnprof.training.parameter_reads import Division, OneCall
from snnprof.training.stepped_model import SteppedModel


def divide(
    stepped: SteppedModel, division: Division, device: torch.device, processes: Processes
) -> SteppedModel:
    """Divide the parameters of a model among the processes; every one of them must call it.

    Args:
        stepped: the model, alike in all processes; anywhere: what is divided moves to the device.
        division: where its parameters are gathered.
        device: where it runs.
        processes: that share it.

    Returns:
        The model, run so that its parameters are there.

    Raises:
        SnnprofError: this torch is too old for it; a parameter is also held elsewhere than in its
            modules.
    """
    fully_shard, mesh = _fully_shard(), _mesh(device, processes)
    gc.collect()  # a divided model that is done with holds itself, and its memory
    model = stepped.model
    whole = {model.get_parameter(name) for name in division.whole}
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    before = {
        name: weakref.ref(p) for name, p in model.named_parameters() if name not in division.whole
    }
    network = OneCall(model)
    for module in (*map(model.get_submodule, division.groups), network):
        kind, tangents = type(module), _Tangents()
        module.register_forward_hook(_without_views)
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        module.__class__ = kind
        module.register_forward_pre_hook(tangents.put_aside, prepend=True, with_kwargs=True)
        module.register_forward_pre_hook(tangents.bring_back, with_kwargs=True)
    if any(reference() is not None for reference in before.values()):
        gc.collect()  # it may be garbage that holds them
    for name, reference in before.items():
        if reference() is not None:  # what holds it would go on with the untrained one
            raise SnnprofError(
                f"fsdp: {name} of {type(model).__name__} is held elsewhere too (a list, a closure, "
                "another object), so that it cannot be divided: read it from its module, or leave "
                "fsdp out"
            )
    return network.around(stepped)


def _fully_shard() -> Any:
    try:
        from torch.distributed.fsdp import fully_shard

        taken = signature(fully_shard).parameters
        # Before it was None the root's parameters stayed gathered after evaluation.
        is_new = "ignored_params" in taken and taken["reshard_after_forward"].default is None
    except ImportError:
        is_new = False
    if not is_new:
        raise SnnprofError(
            f"fsdp: torch {torch.__version__} is too old for it: use a newer one (2.13 was tried), "
            "or leave fsdp out"
        )
    return fully_shard


def _mesh(device: torch.device, processes: Processes) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (processes.count,))


def _without_views(module: nn.Module, args: Any, out: Any) -> Any:
    """The module's output, views copied: FSDP's hook on one is lost where it is written over."""

    def copied(leaf: Tensor) -> Tensor:
        return leaf.clone() if leaf.requires_grad and leaf._is_view() else leaf

    return tree_map_only(Tensor, copied, out)


class _Tangents:
    """Carries tangents of forward-mode differentiation past what FSDP does to a module's inputs.

    It marks them with an autograd function that takes no tangents.
    """

    def __init__(self) -> None:
        self._held: list[Tensor | None] = []

    def put_aside(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        pairs = [
            forward_ad.unpack_dual(leaf) if isinstance(leaf, Tensor) else (leaf, None)
            for leaf in leaves
        ]
        self._held = [tangent for _, tangent in pairs]
        return tree_unflatten([primal for primal, _ in pairs], structure)

    def bring_back(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        held, self._held = self._held, []
        dual = [
            leaf if tangent is None else forward_ad.make_dual(leaf, tangent)
            for leaf, tangent in zip(leaves, held, strict=True)
        ]
        return tree_unflatten(dual, structure)


@contextmanager
def explained_errors() -> Iterator[None]:
    """Raise SnnprofError for what torch says of a divided parameter that is used as a plain one."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if not any(word in str(error) for word in ("DTensor", "FSDP")):
            raise
        raise SnnprofError(
            f"fsdp: something uses a divided parameter as a whole one ({one_line(error)}): leave "
            "fsdp out"
        ) from error


def is_divided(value: object) -> bool:
    """True for a tensor that is divided among the processes."""
    loaded = sys.modules.get("torch.distributed.tensor")  # it takes its time to load
    return loaded is not None and isinstance(value, loaded.DTensor)


def has_divided(module: nn.Module) -> bool:
    """True if a parameter of the module is divided among the processes."""
    return any(map(is_divided, module.parameters()))


@torch.no_grad()
def own_part(value: Any) -> Any:
    """The part of a divided tensor that this process holds; anything else as it is."""
    return value.to_local() if is_divided(value) else value


@torch.no_grad()
def whole_state(state: Any) -> Any:
    """A state dict whose divided tensors are whole, on the host; every process must call it.

    An ordinary one: it loads where nothing is divided, or divided otherwise.
    """
    if not any(map(is_divided, tree_leaves(state))):
        return state
    return tree_map(lambda value: value.full_tensor().cpu() if is_divided(value) else value, state)


@torch.no_grad()
def load_whole_state(
    model: nn.Module, optimizer: Optimizer, of_model: Mapping[str, Any], of_optimizer: Any
) -> None:
    """Load what :func:`whole_state` gave, of a model and its optimiser, divided as they are.

    Every process must call it. Of the optimiser's state, tensors of a parameter's shape are
    divided as the parameter is.
    """
    own = model.state_dict()
    model.load_state_dict({key: _like(own.get(key), value) for key, value in of_model.items()})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = {
        number: tree_map(lambda value, p=parameters[number]: _like(p, value), state)
        for number, state in of_optimizer["state"].items()
    }
    optimizer.load_state_dict({**of_optimizer, "state": states})


def _like(own: Any, value: Any) -> Any:
    """The value divided as the tensor is that it belongs to, where that is divided."""
    if not is_divided(own) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)

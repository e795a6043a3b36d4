"""Blocks of a network whose activations are computed again in the backward pass.

A block is the smallest module that holds a layer of neurons and more than it; an ``nn.Sequential``
is cut behind each of its layers of neurons, and a layer of neurons that stands anywhere else is a
block of its own. What a block was given is kept, as bits where it is spikes (:mod:`spike_bits`),
and so is the state it began with; the rest is computed anew by torch.utils.checkpoint, from the
same random numbers, and what that changes in the block's modules is put back: membranes, time
steps run, running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint

from snnprof.core.errors import SnnprofError
from snnprof.spiking.neuron_equations import equations_of
from snnprof.training.spike_bits import check_unchanged, keep, restore

# What every module has: hooks, children, parameters. All else is state.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def recomputed_blocks(model: nn.Module) -> Iterator[None]:
    """Run the blocks of the model so, inside the block; the gradients are the same to the bit.

    Hooks on modules inside a block of the model run again in the backward pass.

    Raises:
        SnnprofError: no block was found.
    """
    runs = dict(_runs(model, _neurons(model), is_root=True))
    if not runs:
        raise SnnprofError(
            f"stbp-checkpoint: {type(model).__name__} has no module that holds a layer of neurons, "
            "so that there is no block to recompute: give neurons a module of their own (a class "
            "with its own forward inside the model), or use mode 'stbp'"
        )
    with ExitStack() as stack:
        for module, run in runs.items():
            stack.callback(_put_back, module, vars(module).get("forward"))
            module.forward = run
        stack.enter_context(saved_tensors_hooks(keep, restore))
        yield


def _put_back(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        del module.forward
    else:
        module.forward = forward


def _neurons(model: nn.Module) -> frozenset[nn.Module]:
    """The layers of neurons; where none is known, somebody's own modules without children."""
    known = frozenset(m for m in model.modules() if equations_of(m) is not None)
    return known or frozenset(
        m
        for m in model.modules()
        if not any(True for _ in m.children()) and type(m).__module__.partition(".")[0] != "torch"
    )


def _runs(
    module: nn.Module, neurons: frozenset[nn.Module], is_root: bool = False
) -> Iterator[tuple[nn.Module, Any]]:
    """Modules whose forward is run otherwise, and how."""
    inner = [child for child in module.children() if not neurons.isdisjoint(child.modules())]
    if module in neurons:
        yield module, _Recomputed([module], module.forward)
    elif type(module).forward is nn.Sequential.forward:
        yield module, _Parts(_cut(module, neurons))
        for child in inner:
            if child not in neurons:
                yield from _runs(child, neurons)
    elif is_root or not neurons.issuperset(inner):
        for child in inner:
            yield from _runs(child, neurons)
    else:
        yield module, _Recomputed([module], module.forward)


def _cut(sequential: nn.Module, neurons: frozenset[nn.Module]) -> Iterator[Callable[[Any], Any]]:
    """A Sequential cut behind each layer of neurons, and before and behind blocks of its own."""
    pending: list[nn.Module] = []
    for child in sequential.children():
        pending.append(child)
        if child in neurons:
            yield _Recomputed(pending, _Parts(pending))
        elif neurons.isdisjoint(child.modules()):
            continue
        else:
            yield _Parts(pending)
        pending = []
    yield _Parts(pending)


class _Parts:
    """Modules and blocks one after another."""

    def __init__(self, parts: Iterable[Callable[[Any], Any]]) -> None:
        self._parts = list(parts)

    def __call__(self, x: Any) -> Any:
        for part in self._parts:
            x = part(x)
        return x


@dataclass(frozen=True)
class _Recomputed:
    """A block: modules, and what runs them."""

    modules: Sequence[nn.Module]
    run: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.run(*args, **kwargs)
        state = _State([m for module in self.modules for m in module.modules()])
        again = False

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal again
            if not again:
                again = True
                return self.run(*args, **kwargs)
            with state.as_before():
                return self.run(*args, **kwargs)

        return checkpoint(run, *args, use_reentrant=False, **kwargs)


class _State:
    """The state of modules at one moment: attributes and buffers.

    Buffers are copied, for a run writes over them (running statistics); tensors among the
    attributes are not: neurons make new ones.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(dict.fromkeys(modules))
        self._attributes = [_held(_attributes(module)) for module in self._modules]
        self._buffers = [_copied(module) for module in self._modules]
        self._versions = [
            (leaf, leaf._version)
            for leaf in tree_leaves(self._attributes)
            if isinstance(leaf, Tensor)
        ]

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """The modules as they were, inside the block; afterwards as they are now.

        Raises:
            SnnprofError: a tensor of the state was written over meanwhile.
        """
        for tensor, version in self._versions:
            check_unchanged(tensor, version)
        now = [(_attributes(m), dict(m._buffers)) for m in self._modules]
        try:
            for module, attributes, buffers in zip(
                self._modules, self._attributes, self._buffers, strict=True
            ):
                _set(module, _held(attributes), {k: _clone(b) for k, b in buffers.items()})
            yield
        finally:
            for module, (attributes, tensors) in zip(self._modules, now, strict=True):
                _set(module, attributes, tensors)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE and k != "forward"}


def _set(module: nn.Module, attributes: dict[str, Any], buffers: dict[str, Tensor | None]) -> None:
    for key in _attributes(module).keys() - attributes.keys():
        del vars(module)[key]
    vars(module).update(attributes)
    module._buffers.clear()
    module._buffers.update(buffers)


def _held(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, containers anew, tensors cut from the graph that made them."""
    return tree_map_only(Tensor, _cut_off, attributes)  # type: ignore[no-any-return]


def _cut_off(tensor: Tensor) -> Tensor:
    # What an operation saves depends on whether its inputs need gradients.
    if tensor.grad_fn is None:
        return tensor
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _copied(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: _clone(buffer) for name, buffer in module._buffers.items()}


def _clone(buffer: Tensor | None) -> Tensor | None:
    if buffer is None:
        return None
    return buffer.detach().clone().requires_grad_(buffer.requires_grad)

"""Run a model and leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Whatever the model does to itself inside is undone on exit, also after an exception.

    Its buffers are exchanged for copies, so that not even the version of the originals moves
    (a graph of the user's may hold them); attributes that modules keep between calls are put
    back, and with them what lists, tuples, dicts, sets and plain tensors in them held; torch's
    random numbers go on where they were. Parameters and their gradients are not protected: do
    not write to them.
    """
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
    seen: dict[int, object] = {}
    restores = [
        restore
        for module in modules
        for name, value in vars(module).items()
        if name not in _TORCHS_OWN
        for restore in _restores(value, seen)
    ]
    buffers = [dict(module._buffers) for module in modules]
    devices = {t.device.index or 0 for t in _tensors(model) if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            copies: dict[int, Tensor] = {}
            for module, originals in zip(modules, buffers, strict=True):
                for name, buffer in originals.items():
                    if buffer is not None:
                        copy = copies.setdefault(id(buffer), buffer.detach().clone())
                        module._buffers[name] = copy
            yield
        finally:
            for restore in restores:
                restore()
            for module, before, originals in zip(modules, attributes, buffers, strict=True):
                vars(module).clear()
                vars(module).update(before)
                module._buffers.clear()
                module._buffers.update(originals)


# Parameters, buffers, children, hooks: looked after elsewhere, or not the model's to change.
_TORCHS_OWN = frozenset(vars(nn.Module()))


def _restores(value: object, seen: dict[int, object]) -> Iterator[Callable[[], object]]:
    """Calls that put a container or a plain tensor back to what it holds now, in place.

    Args:
        value: of an attribute, or in a container.
        seen: what was looked at before, by identity: containers may hold themselves.
    """
    if isinstance(value, nn.Parameter | nn.Module) or id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, Tensor):
        yield partial(_put_back, value, value._version, value.detach().clone())
    elif isinstance(value, list):
        yield partial(value.__setitem__, slice(None), list(value))
        for item in value:
            yield from _restores(item, seen)
    elif isinstance(value, tuple):
        for item in value:
            yield from _restores(item, seen)
    elif isinstance(value, dict):
        held = dict(value)
        yield partial(_refill, value, held)
        for item in held.values():
            yield from _restores(item, seen)
    elif isinstance(value, set):
        yield partial(_refill, value, set(value))


def _refill(container: Any, held: Any) -> None:
    container.clear()
    container.update(held)


def _put_back(tensor: Tensor, version: int, values: Tensor) -> None:
    if tensor._version != version:
        with torch.no_grad():
            tensor.copy_(values)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()

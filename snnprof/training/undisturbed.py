"""Run a model and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Whatever the model does to itself inside is undone on exit, also after an exception.

    Its buffers are exchanged for copies, so that not even the version of the originals moves
    (a graph of the user's may hold them); attributes that modules keep between calls are put
    back; torch's random numbers go on where they were. Parameters and their gradients are not
    protected: do not write to them.
    """
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
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
            for module, before, originals in zip(modules, attributes, buffers, strict=True):
                vars(module).clear()
                vars(module).update(before)
                module._buffers.clear()
                module._buffers.update(originals)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()

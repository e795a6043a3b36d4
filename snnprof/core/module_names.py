"""Layer names, free of what wrappers add to them."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

# DataParallel and DDP, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def strip_wrappers(name: str) -> str:
    """``"module._orig_mod.conv1"`` -> ``"conv1"``."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def module_names(root: nn.Module) -> dict[nn.Module, str]:
    """A name for every module below (and including) root; root's own is its class's.

    A name stays as it is where stripping would make two modules share it, unless one is the
    wrapper of the other (then they are the same layer to a reader).
    """
    stripped = {module: strip_wrappers(name) for name, module in root.named_modules()}
    layers = Counter(name for module, name in stripped.items() if not _wraps(module))
    names = {}
    for name, module in root.named_modules():
        short = stripped[module]
        names[module] = (short if layers[short] <= 1 else name) or type(root).__name__
    return names


def _wraps(module: nn.Module) -> bool:
    """True for a module with a single child under a wrapper's name."""
    children = [name for name, _ in module.named_children()]
    return len(children) == 1 and children[0] in _WRAPPERS


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside all wrappers."""
    while _wraps(module):
        (module,) = module.children()
    return module


class ParameterOwners:
    """Names the layer that a weight belongs to, by the identity of the tensor.

    ``fc.weight`` belongs to ``fc``; any other parameter goes by its own name.

    Args:
        root: whose parameters these are.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._names: dict[int, tuple[Tensor, str]] = {}
        self._read()

    def _read(self) -> None:
        for name, parameter in self._root.named_parameters():
            owner = strip_wrappers(name).removesuffix(".weight")
            self._names[id(parameter)] = (parameter, owner)

    def name_of(self, weight: Tensor) -> str | None:
        """The owner of a parameter, or of what a view (``weight.t()``) looks at."""
        for tensor in (weight, weight._base):
            if isinstance(tensor, nn.Parameter) and id(tensor) not in self._names:
                self._read()  # FSDP has others in their place while a module runs
            held = self._names.get(id(tensor))
            if held is not None and held[0] is tensor:
                return held[1]
        return self._by_storage(weight) if torch.is_inference_mode_enabled() else None

    def _by_storage(self, weight: Tensor) -> str | None:
        """In inference mode a view does not know its base where a dispatch mode listens."""
        for tensor, name in self._names.values():
            if weight.numel() == tensor.numel() and weight.data_ptr() == tensor.data_ptr():
                return name
        return None

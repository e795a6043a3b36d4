"""Graphs that a model keeps between time steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def kept_graphs(model: nn.Module) -> dict[str, int]:
    """How many tensors with a graph behind them each module holds, by the module's name."""
    return {
        f"{name or 'the model'} ({type(module).__name__})": count
        for name, module in model.named_modules()
        if (count := graphs_held(module))
    }


def graphs_held(module: nn.Module) -> int:
    """How many tensors with a graph behind them a module holds, its children's left out.

    Buffers, attributes, and lists and dictionaries of tensors are looked through. A weight that
    torch's pruning or weight norm makes anew for every call is not counted.
    """
    # All but the children: other libraries keep state under private names too.
    held = {key: value for key, value in vars(module).items() if key != "_modules"}
    made = {key.removesuffix(end) for key in held["_parameters"] for end in ("_orig", "_g")}
    leaves = _leaves([value for key, value in held.items() if key not in made], set())
    return sum(isinstance(leaf, Tensor) and leaf.grad_fn is not None for leaf in leaves)


def _leaves(value: object, seen: set[int]) -> Iterator[object]:
    """The values that containers hold in the end; each is looked into once: it may hold itself."""
    if not isinstance(value, dict | list | tuple | set | deque):
        yield value
    elif id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item, seen)


def detach_held(module: nn.Module) -> None:
    """Cut every tensor that a module holds, its children's left out, from the graph behind it.

    Of what it holds in lists, tuples and dictionaries too. Its parameters, and a weight that is
    made anew for every call, stay as they are.
    """
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.grad_fn is not None:
            module._buffers[name] = buffer.detach()
    for key, value in [*vars(module).items()]:
        if key in ("_parameters", "_buffers", "_modules") or _is_made(module, key):
            continue
        if any(isinstance(x, Tensor) and x.grad_fn is not None for x in _leaves(value, set())):
            vars(module)[key] = tree_map_only(Tensor, Tensor.detach, value)


def _is_made(module: nn.Module, key: str) -> bool:
    return f"{key}_orig" in module._parameters or f"{key}_g" in module._parameters

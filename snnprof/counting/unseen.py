"""Layers, and calls of the model, that the hooks did not see running."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import resolve_name

from snnprof.counting.linear_ops import OPERATIONS
from snnprof.counting.module_tracker import LAYER_MODULES, ModuleTracker
from snnprof.counting.operation_mode import UNCOUNTED
from snnprof.counting.products import PRODUCTS
from snnprof.results.counts import NEVER_CALLED, NO_OPERATION, NOTHING_COUNTED


def unseen(
    tracker: ModuleTracker, names: Mapping[nn.Module, str], listed: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Names, and why nothing is known of them; of the model, where nothing was counted in it.

    Args:
        tracker: followed the model.
        names: of all modules, the model first.
        listed: names of what was counted, or is listed for another reason.
    """
    model, root = next(iter(names.items()))
    silent = not listed and next(model.parameters(), None) is not None
    if tracker.other_threads:
        silent = False
        yield root, "called from a thread other than the counter's"
    for name in sorted(tracker.outside):
        yield name, "called outside a call of the model"
    known = {*listed, *tracker.outside}
    for module, name in names.items():
        if isinstance(module, torch.jit.ScriptModule):
            silent = False
            yield name, "TorchScript: runs outside Python, no hook sees it"
        elif isinstance(module, LAYER_MODULES) and name not in known:
            silent = False
            yield name, NO_OPERATION if name in tracker.entered else NEVER_CALLED
    if silent:
        yield root, NOTHING_COUNTED


def why_left_out(func: Callable[..., Any]) -> str:
    """Why an operation that was seen was not counted."""
    counted = func in OPERATIONS or func in PRODUCTS
    return f"{operation_name(func)}: {'left out by layers=' if counted else 'not counted yet'}"


def operation_name(func: Callable[..., Any]) -> str:
    """The name of an operation that is watched or followed."""
    entry = OPERATIONS.get(func) or PRODUCTS.get(func)
    return entry.name if entry else UNCOUNTED.get(func) or resolve_name(func) or str(func)

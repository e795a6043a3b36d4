"""How the parameters of a network can be divided among processes: a training step is watched.

A divided parameter is whole only while the module runs that it is gathered for. Which modules
these may be does not stand in the network's code: a parent may read its child's weight without
calling it (``nn.MultiheadAttention`` does), a module may give out its parameter, two may share one.
So every read of a parameter is noted, with the modules that were running then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_leaves

from snnprof.core.forward_hooks import Hooks
from snnprof.core.running_modules import RunningModules
from snnprof.spiking.neuron_equations import equations_of
from snnprof.training.stepped_model import SteppedModel

# Weights that are worth a message of their own: norms and neurons are gathered with the rest.
OWN_GROUP = 4096


@dataclass(frozen=True)
class Division:
    """Where the parameters of a network are gathered; by default all while the network runs.

    Attributes:
        groups: names of modules, children before parents, whose parameters are gathered while
            that module runs.
        whole: names of parameters that every process holds whole.
    """

    groups: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


class OneCall(nn.Module):
    """A network's way of being run, whatever it is, as the call of one module.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[Tensor], Any], x: Tensor) -> Any:
        """``run(x)``."""
        return run(x)

    def around(self, stepped: SteppedModel) -> SteppedModel:
        """The same model, each of its steps or sequences one call of this module."""
        step, sequence = (
            None if run is None else partial(self, run) for run in (stepped.step, stepped.sequence)
        )
        return replace(stepped, step=step, sequence=sequence)


@dataclass(frozen=True)
class Reads:
    """The reads of parameters that were watched.

    Attributes:
        network: the one call that the network's parameters may be gathered for.
        running: the modules that were running at every read of a parameter that was read.
        given_out: modules whose output was a parameter, or a view of one.
    """

    network: OneCall
    running: dict[nn.Parameter, set[nn.Module]]
    given_out: set[nn.Module]

    def division(self) -> Division:
        """The parameters of each smallest module that has enough of them, gathered while it runs.

        All others while the network runs. Whole are those read outside of it, and what FSDP does
        not divide: single numbers, another memory format, another dtype than most have.
        """
        model = self.network.model
        sizes: Counter[torch.dtype] = Counter()
        for parameter in model.parameters():
            sizes[parameter.dtype] += parameter.numel()
        usual = max(sizes, key=sizes.__getitem__)
        whole = {
            name: parameter
            for name, parameter in model.named_parameters()
            if not (parameter.dtype is usual and self._can_be_divided(parameter))
        }
        taken = set(whole.values())
        groups = []
        for name, module in reversed([*model.named_modules()]):
            left = [p for p in module.parameters() if p not in taken]
            if module is not model and self._can_be_group(module, left):
                groups.append(name)
                taken.update(left)
        return Division(tuple(groups), tuple(whole))

    def _can_be_divided(self, parameter: nn.Parameter) -> bool:
        inside = self.network in self.running.get(parameter, {self.network})
        return inside and parameter.dim() > 0 and parameter.is_contiguous()

    def _can_be_group(self, module: nn.Module, parameters: Iterable[nn.Parameter]) -> bool:
        # Of a neuron it is asked from outside what its leak is; a quantiser runs without an input.
        if isinstance(module, ParametrizationList) or equations_of(module) is not None:
            return False
        parameters = set(parameters)
        inner = set(module.modules())
        owners = (m for m in self.network.modules() if not parameters.isdisjoint(_own(m)))
        return (
            sum(p.numel() for p in parameters) >= OWN_GROUP
            and module not in self.given_out
            and all(module in self.running.get(p, ()) for p in parameters)
            and inner.issuperset(owners)
        )


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    return module.parameters(recurse=False)


@contextmanager
def watched_reads(network: OneCall) -> Iterator[Reads]:
    """Watch which parameters are read inside the block, and in which modules.

    What the backward pass reads is not: parameters are gathered there by the graph.
    """
    reads = Reads(network, {}, set())
    storages = {_address(p) for p in network.parameters()}
    hooks = Hooks()
    running: RunningModules[nn.Module] = RunningModules(
        lambda module, args, kwargs: module, lambda module, kept: None
    )

    def note(parameter: nn.Parameter | None) -> None:
        if parameter is not None and running.is_followed():
            now = set(running)
            reads.running[parameter] = reads.running.get(parameter, now) & now

    def look_at(module: nn.Module, args: Any, out: Any) -> None:
        if any(_address(x) in storages for x in tree_leaves(out) if isinstance(x, Tensor)):
            reads.given_out.add(module)

    plain = {module: module._parameters for module in network.modules()}
    running.attach(plain, hooks)
    for module in plain:
        hooks.after(module, look_at)
        module._parameters = _Watched(module._parameters, note)
    try:
        yield reads
    finally:
        hooks.remove()
        for module, parameters in plain.items():
            now = dict.copy(module._parameters)
            parameters.clear()
            parameters.update(now)
            module._parameters = parameters


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Watched(dict[str, nn.Parameter | None]):
    """The parameters of a module, which tell of being read."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter | None],
        note: Callable[[nn.Parameter | None], None],
    ) -> None:
        super().__init__(parameters)
        self._note = note

    def __getitem__(self, name: str) -> nn.Parameter | None:
        found = super().__getitem__(name)
        self._note(found)
        return found

    def items(self) -> Any:
        for parameter in super().values():
            self._note(parameter)
        return super().items()

"""One way to run models of any library time step by time step.

A training mode needs four things of a model: forget the state, cut the state from the graph,
run one time step, and, where the model can, run a whole sequence at once. An adapter says how
a library does them; it is chosen by the classes of the model's modules.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnprof.core.errors import SnnprofError, is_out_of_memory
from snnprof.core.registry import Registry
from snnprof.spiking.neuron import detach, reset

_MOST_GRAPHS = 128


@dataclass(frozen=True)
class SteppedModel:
    """A model that runs one time step at a time.

    Attributes:
        model: whose parameters are trained.
        reset: forgets the state.
        detach: cuts the state from the graph of the time steps before.
        step: one time step, [B, ...] to [B, classes].
        sequence: all time steps at once, [T, B, ...] to [T, B, classes], from rest; None where
            the model cannot: then it runs step by step.
        compiled: True if ``step`` and ``sequence`` are compiled.
    """

    model: nn.Module
    reset: Callable[[], object]
    detach: Callable[[], object]
    step: Callable[[Tensor], Tensor]
    sequence: Callable[[Tensor], Tensor] | None = None
    compiled: bool = False

    def run_sequence(self, x: Tensor) -> Tensor:
        """All time steps, [T, B, ...] to [T, B, classes], with the graph kept."""
        if self.sequence is None:
            return torch.stack([_logits(self.step(current), current) for current in x])
        out = self.sequence(x)
        if not isinstance(out, Tensor) or out.dim() != 3 or out.shape[:2] != x.shape[:2]:
            raise _wrong_output(out, "[T, B, classes]", x)
        return out

    def run_step(self, x: Tensor) -> Tensor:
        """One time step, [B, ...] to [B, classes]."""
        return _logits(self.step(x), x)

    def compile(self) -> SteppedModel:
        """The same model, run through torch.compile."""
        sequence = None if self.sequence is None else _compiled(self.sequence)
        return replace(self, step=_compiled(self.step), sequence=sequence, compiled=True)


def _compiled(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    compiled = torch.compile(run)

    def call(x: Tensor) -> Tensor:
        # Sizes are constants, whatever ran before: rows of a table must not depend on each other.
        torch._dynamo.mark_static(x)
        # A module's count of time steps is a variable: else every t is compiled anew, as it still
        # is where every t has modules of its own.
        with torch._dynamo.config.patch(
            allow_unspec_int_on_nn_module=True, recompile_limit=_MOST_GRAPHS
        ):
            try:
                return compiled(x)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                if is_out_of_memory(error):
                    raise
                why = str(error).partition("\n")[0]
                raise SnnprofError(f"torch.compile failed ({why}): run without it") from error

    return call


def _logits(out: Any, x: Tensor) -> Tensor:
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != len(x):
        raise _wrong_output(out, "[B, classes]", x)
    return out


def _wrong_output(out: Any, wanted: str, x: Tensor) -> SnnprofError:
    found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    return SnnprofError(
        f"the model gave {found} for an input of shape {tuple(x.shape)}, {wanted} is needed: wrap "
        "it in snnprof.stepwise(model, reset=..., detach=..., step=...)"
    )


def stepwise(
    model: nn.Module,
    *,
    reset: Callable[[], object],
    detach: Callable[[], object],
    step: Callable[[Tensor], Tensor] | None = None,
    sequence: Callable[[Tensor], Tensor] | None = None,
) -> SteppedModel:
    """A model of any making, with what tells it to forget and to detach its state.

    Args:
        model: the module.
        reset: called before every sequence.
        detach: called before every time step of the online modes.
        step: one time step, [B, ...] to [B, classes]; the model itself if not given.
        sequence: all at once, [T, B, ...] to [T, B, classes], from rest; if not given, STBP
            runs step by step and keeps the graph.
    """
    return SteppedModel(model, reset, detach, model if step is None else step, sequence)


Adapter = Callable[[nn.Module], SteppedModel]
ADAPTERS: Registry[Adapter] = Registry("adapter")  # by the library's top-level package
OURS = "snnprof"


def adapt(model: nn.Module | SteppedModel) -> SteppedModel:
    """The model with the adapter of its library.

    A model without a module of a known library is called like ours, with [K, B, ...], K = 1 for
    one time step.
    """
    if isinstance(model, SteppedModel):
        return model
    packages = {
        kind.__module__.partition(".")[0] for m in model.modules() for kind in type(m).__mro__
    }
    # Ours last: a model of another library may well hold a layer of ours.
    foreign = (name for name in ADAPTERS if name != OURS and name in packages)
    package = next(foreign, OURS)
    stepped = ADAPTERS[package](model)
    if not isinstance(stepped, SteppedModel):
        raise SnnprofError(
            f"the adapter of {package!r} returned a {type(stepped).__name__}, not a "
            "snnprof.extend.SteppedModel"
        )
    return stepped


@ADAPTERS.register("spikingjelly")
def spikingjelly(model: nn.Module) -> SteppedModel:
    """SpikingJelly, step mode "s" ([B, ...]) or "m" ([T, B, ...]) as its layers are set."""
    base: Any = sys.modules["spikingjelly.activation_based.base"]
    stateful = [m for m in model.modules() if isinstance(m, base.MemoryModule)]

    def reset_all() -> None:
        for module in stateful:
            module.reset()

    def detach_all() -> None:
        for module in stateful:
            module.detach()

    if any(module.step_mode == "m" for module in stateful):
        return SteppedModel(model, reset_all, detach_all, _one_of(model), model)
    return SteppedModel(model, reset_all, detach_all, model)


@ADAPTERS.register("snntorch")
def snntorch(model: nn.Module) -> SteppedModel:
    """snnTorch, neurons made with ``init_hidden=True``; the logits are the last one's spikes.

    Its own ``utils.reset`` looks at the top level of the model only, and resets the neurons of
    every other model too; here every neuron of this model is reset, and no other.
    """
    library: Any = sys.modules["snntorch"]
    neurons = [m for m in model.modules() if isinstance(m, library.SpikingNeuron)]
    if not all(neuron.init_hidden for neuron in neurons):
        raise SnnprofError(
            "a snnTorch neuron without init_hidden=True passes its state by hand: give it "
            "init_hidden=True, or wrap the model in snnprof.stepwise(...)"
        )

    def reset_all() -> None:
        for neuron in neurons:
            neuron.reset_mem()

    def detach_all() -> None:
        for neuron in neurons:
            for name, state in list(neuron.named_buffers(recurse=False)):
                if state.requires_grad:
                    setattr(neuron, name, state.detach())

    return SteppedModel(model, reset_all, detach_all, lambda x: _first(model(x)))


# Run over time by themselves: [T, B, ...].
_NORSE_SEQUENCES = {
    "norse.torch.module.lift.Lift",
    "norse.torch.module.snn.SNN",
    "norse.torch.module.snn.SNNRecurrent",
}


@ADAPTERS.register("norse")
def norse(model: nn.Module) -> SteppedModel:
    """Norse: ``out, state = model(x, state)``, as its SequentialState.

    With a ``Lift`` or a neuron that runs over time, such as ``LIF``, x is [T, B, ...]; with cells
    only, [B, ...].
    """
    held: list[Any] = [None]

    def run(x: Tensor) -> Tensor:
        result = model(x, held[0])
        if not isinstance(result, tuple) or len(result) != 2:
            raise _wrong_output(result, "(output, state)", x)
        out: Tensor = result[0]
        held[0] = result[1]
        return out

    def forget() -> None:
        held[0] = None

    def cut() -> None:
        held[0] = tree_map(lambda s: s.detach() if isinstance(s, Tensor) else s, held[0])

    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    if _NORSE_SEQUENCES.isdisjoint(f"{kind.__module__}.{kind.__name__}" for kind in kinds):
        return SteppedModel(model, forget, cut, run)
    return SteppedModel(model, forget, cut, _one_of(run), run)


@ADAPTERS.register(OURS)
def own(model: nn.Module) -> SteppedModel:
    """Our networks, and any module from [K, B, ...] to [K, B, classes]."""
    return SteppedModel(model, lambda: reset(model), lambda: detach(model), _one_of(model), model)


def _one_of(model: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """One time step of a model that takes sequences."""

    def step(x: Tensor) -> Tensor:
        out = model(x.unsqueeze(0))
        if not isinstance(out, Tensor) or out.dim() != 3 or len(out) != 1:
            raise _wrong_output(out, "[1, B, classes]", x.unsqueeze(0))
        return out[0]

    return step


def _first(out: Any) -> Tensor:
    """The spikes, of a layer that gives (spikes, membrane, ...)."""
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


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

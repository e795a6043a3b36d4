"""Faults of the counter's own, thrown in at random places; what they must not do, checked.

An error of a random type is raised in one call of one function of snnprof.counting, or in every
call from there on, while a small network is counted. Checked after each: the network's output is
bit-equal to the uncounted one; hooks, attributes, modes, weak references and the compile stance are
as before; the fault is listed with its reason, or result() is one line of SnnprofError; layers that
are not listed have the counts of an undisturbed measurement; and a counter made afterwards finds
those counts.
"""

from __future__ import annotations

import contextlib
import gc
import random
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import snnprof
from snnprof.core import running_modules
from snnprof.core.module_names import ParameterOwners
from snnprof.counting import (
    accumulator,
    audit,
    counter,
    fanout,
    input_buffer,
    layer_tally,
    module_tracker,
    neuron_rates,
    product_tally,
    row_order,
    sample_doubt,
    samples,
    scan,
    tallies,
    time_steps,
    weight_kind,
)
from snnprof.spiking.lif import LIF

PLACES: dict[str, tuple[tuple[Any, str], ...]] = {
    "fan-out": (
        (accumulator, "read_weight"),
        (fanout, "fan_out"),
        *((fanout.FanOut, name) for name in ("__init__", "holds_for", "equals", "laid_out")),
        *((fanout.FanOut, name) for name in ("follow", "has_other", "release_weight")),
        (weight_kind.WeightKindRecord, "would_change"),
        (weight_kind.WeightKindRecord, "kind"),
    ),
    "scan": (
        (scan, "_question"),
        *((scan.HostReading, name) for name in ("read", "_found", "_note", "result")),
        *((accumulator.Accumulator, name) for name in ("absorb", "take_fan_out", "fan_out_of")),
        (input_buffer.InputBuffer, "put"),
        (input_buffer.InputBuffer, "take"),
        (layer_tally, "Accumulator"),
    ),
    "tally": (
        *((layer_tally.LayerTally, name) for name in ("add", "is_of", "verify_weight", "read")),
        (layer_tally.LayerTally, "release_weight"),
        (product_tally.ProductTally, "add"),
        (product_tally.ProductTally, "read"),
        *((time_steps.TimeSteps, name) for name in ("locate", "undecided", "arrange", "rates")),
    ),
    "tracker": (
        *((module_tracker.ModuleTracker, name) for name in ("frame", "running_name", "given")),
        (tallies, "call_site"),
        (ParameterOwners, "name_of"),
        (samples.SampleAxis, "begin_call"),
        *((row_order.RowOrder, name) for name in ("begin", "follow", "arrangement")),
    ),
    "hooks": (
        (running_modules.RunningModules, "_before"),
        (running_modules.RunningModules, "_after"),
        (module_tracker.ModuleTracker, "_begin"),
        (module_tracker.ModuleTracker, "_end"),
        (sample_doubt.SampleDoubt, "begin"),
        (sample_doubt.SampleDoubt, "end"),
        (sample_doubt.SampleDoubt, "see_layer"),
        *((tallies.Tallies, name) for name in ("observe", "_observe_linear", "_layer_tally")),
        *((counter.SopCounter, name) for name in ("_observe", "_begin_call")),
    ),
    "audit": ((audit, "_reason"), (audit, "_is_spikes"), (audit, "running_modules")),
    "neuron rates": (
        (neuron_rates.NeuronRates, "_count"),
        (neuron_rates.NeuronTally, "add"),
        (neuron_rates.NeuronTally, "read"),
    ),
    "result": (
        (counter, "unseen"),
        (accumulator.Accumulator, "read"),
        (accumulator.Accumulator, "verify_weight"),
        (sample_doubt.SampleDoubt, "say_once"),
    ),
}
ERRORS: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, AssertionError),
    *(ZeroDivisionError, OverflowError, RecursionError, MemoryError, NotImplementedError, OSError),
    *(StopIteration, StopAsyncIteration, UnicodeError, BufferError, EOFError, ImportError),
    *(torch.OutOfMemoryError, ArithmeticError, LookupError, Warning, TimeoutError),
)
SAID = "thrown in by the soak test"


class Attention(nn.Module):
    """[T, B, 6]: linear layers, neurons, and a product of spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)
        self.lif_q, self.lif_k = LIF(3), LIF(3)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        snnprof.reset(self)
        q = self.lif_q(self.q(x)).unflatten(-1, (2, 3))
        k = self.lif_k(self.k(x)).unflatten(-1, (2, 3))
        mixed: Tensor = self.out((q @ k.transpose(-2, -1) @ k).sum(-2))
        return mixed


class Looped(nn.Module):
    """[B, 2, 6, 6], T steps inside: convolutions, a custom padding, state in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
        self.conv = nn.Conv2d(4, 4, 3, stride=2, groups=2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(()), torch.zeros(())
        for _ in range(3):
            v = 0.5 * v + self.stem(x)
            s = (v > 0.2).float()
            v = v - s
            out = out + self.fc((self.conv(s) > 0).float().flatten(1))
        return out


@dataclass(frozen=True)
class Case:
    """A network, how it is counted, and its inputs."""

    build: Callable[[], nn.Module]
    options: dict[str, Any]
    shape: tuple[int, ...]
    calls: int = 3

    def inputs(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(7)
        return [torch.rand(self.shape, generator=generator).round() for _ in range(self.calls)]


CASES = {
    "attention": Case(Attention, {"layout": "time-first"}, (3, 2, 6)),
    "loop": Case(Looped, {"layout": "inside", "timesteps": 3}, (2, 2, 6, 6)),
    "plain": Case(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), {}, (4, 2, 6)
    ),
    "steps": Case(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Hardtanh(0, 1), nn.Linear(5, 2)),
        {"timesteps": 2},
        (4, 6),
        calls=6,
    ),
    "vgg": Case(
        lambda: snnprof.models.create("vgg5", timesteps=2, num_classes=3, image_size=8),
        {},
        (2, 1, 3, 8, 8),
    ),
}


Prepared = tuple[nn.Module, list[Tensor], snnprof.CountResult]


@dataclass
class Thrower:
    """A stand-in for a function that fails in its ``at``-th call, or from there on."""

    function: Callable[..., Any]
    error: type[Exception]
    at: int
    always: bool
    calls: int = 0
    thrown: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.at and (self.calls == self.at or (self.always and self.calls > self.at)):
            self.thrown += 1
            raise self.error(SAID)
        return self.function(*args, **kwargs)


@contextmanager
def thrown_in(owner: Any, name: str, *how: Any) -> Iterator[Thrower]:
    """Have it fail there (``Thrower``'s arguments after the function)."""
    real = vars(owner)[name]
    thrower = Thrower(real, *how)

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return thrower(*args, **kwargs)

    setattr(owner, name, stand_in)
    try:
        yield thrower
    finally:
        setattr(owner, name, real)


def surroundings(model: nn.Module) -> list[Any]:
    """What a counter could leave behind: on the model, in torch, on the parameters."""
    found: list[Any] = []
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            kept = list(value.items()) if isinstance(value, dict) else value
            state = isinstance(value, Tensor | float)  # of a membrane
            found.append((name, key, None if state else kept))
    found.append([weakref.getweakrefcount(p) for p in model.parameters()])
    found.append(torch._C._len_torch_function_stack())
    found.append(torch._C._len_torch_dispatch_stack())
    found.append(torch._dynamo.eval_frame._stance.stance)
    return found


def same(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        (*where, x), (*there, y) = (v if isinstance(v, tuple) else (v,) for v in (a, b))
        if where != there or not (x is y or _alike(x, y)):
            return False
    return True


def _alike(x: Any, y: Any) -> bool:
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(map(_alike, x, y))
    if isinstance(x, tuple) and isinstance(y, tuple):
        return len(x) == len(y) and all(map(_alike, x, y))
    return x is y or (not isinstance(x, Tensor) and bool(x == y))


@dataclass
class Tried:
    """What came of the faults."""

    by_place: Counter[str] = field(default_factory=Counter)
    listed: int = 0
    refused: int = 0  # result() was one line
    wrong: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(self.by_place.values())


def counted(model: nn.Module, case: Case) -> tuple[list[Tensor], snnprof.SopCounter]:
    """Outputs of all its calls, and who counted them."""
    with torch.no_grad(), snnprof.SopCounter(model, **case.options) as sops:
        outputs = [model(x) for x in case.inputs()]
    return outputs, sops


def throw(number: int, seed: int = 0) -> Tried:
    """Throw in so many faults that are reached, one at a time."""
    draw, tried = random.Random(seed), Tried()
    torch.manual_seed(seed)
    prepared: dict[str, Prepared] = {}
    for name, case in CASES.items():
        model = case.build().eval()
        with torch.no_grad():
            plain = [model(x) for x in case.inputs()]
        prepared[name] = model, plain, counted(model, case)[1].result()
    with _no_collection():
        while len(tried) < number:
            _throw_one(draw, prepared, tried)
    return tried


@contextmanager
def _no_collection() -> Iterator[None]:
    """What only a collection of garbage would free is left behind."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _throw_one(draw: random.Random, prepared: dict[str, Prepared], tried: Tried) -> None:
    group = draw.choice(list(PLACES))
    owner, function = draw.choice(PLACES[group])
    name = draw.choice(list(CASES))
    error, always = draw.choice(ERRORS), draw.random() < 0.3
    where = f"{getattr(owner, '__qualname__', owner.__name__)}.{function}"
    with thrown_in(owner, function, error, 0, False) as thrower:
        counted(prepared[name][0], CASES[name])[1].result()
    if thrower.calls:
        how = (error, draw.randint(1, thrower.calls), always)
        what = f"{name}: {where}, call {how[1]}, {error.__name__}, always={always}"
        tried.by_place[group] += 1
        _try(CASES[name], *prepared[name], (owner, function, *how), what, tried)


def _try(
    case: Case,
    model: nn.Module,
    plain: list[Tensor],
    expected: snnprof.CountResult,
    place: tuple[Any, ...],
    what: str,
    tried: Tried,
) -> None:
    before, result = surroundings(model), None
    try:
        with thrown_in(*place):
            outputs, sops = counted(model, case)
            with contextlib.suppress(snnprof.SnnprofError):
                result = sops.result()
    except Exception as error:
        tried.wrong.append(f"{what}: {type(error).__name__} came through: {error}")
        return
    del sops
    if not all(torch.equal(a, b) for a, b in zip(outputs, plain, strict=True)):
        tried.wrong.append(f"{what}: another output")
    if not same(before, surroundings(model)):
        tried.wrong.append(f"{what}: something is left")
    if result is None:
        tried.refused += 1
    else:
        tried.listed += 1
        tried.wrong += [f"{what}: {line}" for line in _unsaid(result, expected, case, model)]
    if counted(model, case)[1].result() != expected:
        tried.wrong.append(f"{what}: other counts afterwards")


def _unsaid(
    result: snnprof.CountResult, expected: snnprof.CountResult, case: Case, model: nn.Module
) -> Iterator[str]:
    """What the result does not say of a fault."""
    faults = {name for name, reason in result.not_counted if "failed" in reason}
    if not faults:
        yield "it is not listed"
    if type(model).__name__ in faults:  # a call of the whole model
        return
    rows = result.by_layer()
    for row in expected.rows:
        listed = any(row.name == name or row.name.startswith(f"{name}.") for name in faults)
        if not listed and rows.get(row.name) != row:
            yield f"{row.name} has other counts"
    if result.samples != expected.samples:
        yield f"{result.samples} samples"

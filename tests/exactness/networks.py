"""Random networks, with the inputs of a few calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .pieces import (
    ARRANGEMENTS,
    FORMS,
    KEEPING_ORDER,
    WEIGHT_FORMS,
    FunctionalConvolution,
    FunctionalLinear,
    Geometry,
    Neurons,
    Quantised,
    SequenceNeurons,
    WeightProduct,
    WithItself,
    flat,
    signs_per_row,
)
from .values import fill, pool, rare_values

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MOST_POSITIONS = {0: 1, 1: 9, 2: 6, 3: 4}
DTYPES = (*[torch.float32] * 4, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Way:
    """A way in which a network takes its time steps.

    Attributes:
        options: of the counter, T left out where it is in the input.
        steps: how a layer inside meets them: None (T is not known), "called" (one call of the
            network each), "time-major", "batch-major" (in one input) or "looped" (one call of the
            layer each).
        run: the body on the network's input, of T time steps.
        whole: the body sees [T, B, ...].
    """

    name: str
    options: dict[str, str]
    steps: str | None
    run: Callable[[nn.Module, Tensor, int], Tensor]
    whole: bool = False


def _flattened(body: nn.Module, x: Tensor, steps: int) -> Tensor:
    return body(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _repeated(body: nn.Module, x: Tensor, steps: int) -> Tensor:
    return body(x.unsqueeze(0).repeat(steps, *[1] * x.dim()).flatten(0, 1))


WAYS = (
    Way("no layout", {}, None, lambda body, x, steps: body(x)),
    Way("step", {"layout": "step"}, "called", lambda body, x, steps: body(x)),
    Way("time-first, rows", {"layout": "time-first"}, "time-major", _flattened),
    Way(
        "time-first, loop",
        {"layout": "time-first"},
        "looped",
        lambda body, x, steps: torch.stack([body(step) for step in x]),
    ),
    Way(
        "time-first, whole",
        {"layout": "time-first"},
        "time-major",
        lambda body, x, steps: body(x),
        whole=True,
    ),
    Way("batch-first, rows", {"layout": "batch-first"}, "batch-major", _flattened),
    Way(
        "batch-first, loop",
        {"layout": "batch-first"},
        "looped",
        lambda body, x, steps: torch.stack([body(x[:, t]) for t in range(steps)], 1),
    ),
    Way("inside, rows", {"layout": "inside"}, "time-major", _repeated),
    Way(
        "inside, loop",
        {"layout": "inside"},
        "looped",
        lambda body, x, steps: torch.stack([body(x) for _ in range(steps)]),
    ),
)


class Network(nn.Module):
    """A body, and the way in which it takes the time steps."""

    def __init__(self, body: nn.Module, way: Way, steps: int) -> None:
        super().__init__()
        self.body = body
        self.way = way
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return self.way.run(self.body, x, self.steps)


class Wrapper(nn.Module):
    """What DataParallel and its like add to a name."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


@dataclass(frozen=True)
class Sample:
    """A random network, the inputs of its calls, and the counter's options.

    Attributes:
        network: in evaluation mode.
        inputs: of each call.
        batches: samples of each batch (of T calls where the network is called step by step).
        steps: T.
        way: how it takes them.
        functional: run it by torch.func.functional_call, with copies of its parameters.
        plain: nothing between the layers exchanges dimensions or repeats rows, which may leave open
            how the time steps reach a layer.
    """

    network: Network
    inputs: list[Tensor]
    batches: list[int]
    steps: int
    way: Way
    functional: bool
    plain: bool

    def options(self) -> dict[str, Any]:
        """Arguments of the counter."""
        asked: dict[str, Any] = dict(self.way.options)
        if asked.get("layout") in ("step", "inside"):
            asked["timesteps"] = self.steps
        return asked

    def run(self) -> list[Tensor]:
        """The outputs of all calls, from the start."""
        for module in self.network.modules():
            if isinstance(module, Neurons):
                module.calls = 0
        with torch.no_grad():
            return [self._call(x) for x in self.inputs]

    def _call(self, x: Tensor) -> Tensor:
        if not self.functional:
            return self.network(x)
        return torch.func.functional_call(self.network, self._copies, (x,))

    @cached_property
    def _copies(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.network.named_parameters()}


def sample(seed: int) -> Sample:
    """The network of this seed."""
    return _Builder(seed).build()


class _Builder:
    """The random choices of one network."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        choose = self.random.choice
        self.way = choose(WAYS)
        self.dtype = choose(DTYPES)
        self.steps = choose([1, 2, 3, 4])
        self.batches = [choose([1, 2, 3, 5]) for _ in range(choose([1, 1, 2, 3]))]
        self.plain = True
        self.shared = False

    def build(self) -> Sample:
        rank = 0 if self.way.whole else self.random.choice([0, 1, 1, 2, 2, 3])
        most = MOST_POSITIONS[rank]
        row = (self.random.randint(1, 5), *(self.random.randint(2, most) for _ in range(rank)))
        if self.way.whole and self.random.random() < 0.5:
            row = (self.random.randint(1, 4), self.random.randint(1, 5))  # tokens, features
        body = self._body(row)
        return Sample(
            Network(body, self.way, self.steps).eval(),
            self._inputs(row),
            self.batches,
            self.steps,
            self.way,
            # With a shared layer torch leaves the copies in the network.
            functional=not self.shared and self.random.random() < 0.1,
            plain=self.plain,
        )

    def _inputs(self, row: tuple[int, ...]) -> list[Tensor]:
        layout = self.way.options.get("layout")
        source = Neurons(self._pool(), self._rare(), flat)
        each = self.steps if layout == "step" else 1
        shapes = [self._input_shape(batch, row) for batch in self.batches for _ in range(each)]
        return [source(torch.rand(shape, dtype=self.dtype)) for shape in shapes]

    def _input_shape(self, batch: int, row: tuple[int, ...]) -> tuple[int, ...]:
        with_time = {
            "time-first": (self.steps, batch, *row),
            "batch-first": (batch, self.steps, *row),
        }
        return with_time.get(self.way.options.get("layout", ""), (batch, *row))

    def _pool(self) -> list[float] | None:
        return pool(self.random)

    def _rare(self) -> list[tuple[int, int, float]]:
        return rare_values(self.random)

    def _neurons(self) -> Neurons:
        kind = SequenceNeurons if self.way.whole else Neurons
        arrange = self.random.choice(ARRANGEMENTS)
        self.plain = self.plain and arrange in KEEPING_ORDER
        return kind(self._pool(), self._rare(), arrange)

    def _body(self, row: tuple[int, ...]) -> nn.Module:
        """A chain of layers and neurons on rows of this shape."""
        chain: list[nn.Module] = []
        for _ in range(self.random.choice([1, 1, 2, 2, 3])):
            choices = [self._dense, self._dense]
            if len(row) == 2:
                choices += [self._attention] * 2
            if len(row) > 1 and not self.way.whole:
                choices += [self._convolution] * 6
            piece = self.random.choice(choices)(row)
            parts = [piece]
            out = self._shape_after(piece, row)
            if self.random.random() < 0.7:
                parts.append(self._neurons())
            if out == row and self.random.random() < 0.3:
                parts, self.shared = [*parts, *parts], True
            chain.append(self._wrapped(parts))
            row = out
            if len(row) > 1 and not self.way.whole and self.random.random() < 0.2:
                chain.append(nn.Flatten())
                row = (torch.Size(row).numel(),)
        return nn.Sequential(*chain)

    def _wrapped(self, parts: list[nn.Module]) -> nn.Module:
        if len(parts) == 1 and self.random.random() < 0.5:
            return parts[0]
        whole = nn.Sequential(*parts)
        return Wrapper(whole) if self.random.random() < 0.2 else whole

    def _shape_after(self, piece: nn.Module, row: tuple[int, ...]) -> tuple[int, ...]:
        leading = (1, 1) if self.way.whole else (1,)
        with torch.no_grad():
            out = piece(torch.zeros((*leading, *row), dtype=self.dtype))
        return tuple(out.shape[len(leading) :])

    def _weight(self, *shape: int, outputs: int = 0) -> Tensor:
        return fill(self.random, shape, outputs, self.dtype)

    def _dense(self, row: tuple[int, ...]) -> nn.Module:
        inputs, outputs = row[-1], self.random.randint(1, 6)
        if self.random.random() < 0.3:
            outputs = inputs
        weight = self._weight(outputs, inputs)
        name = self.random.choice(["weight", "kernel"])
        choice = self.random.randrange(6)
        if choice == 0:
            quantise = self.random.choice([None, signs_per_row])
            return FunctionalLinear(weight, name, quantise)
        if choice == 1:
            form = self.random.choice([*WEIGHT_FORMS][: 3 if len(row) > 1 else 2])
            self.plain = self.plain and form != "w @ x.mT"
            return WeightProduct(weight.t().clone() if form == "x @ w" else weight, form, name)
        layer = nn.Linear(inputs, outputs, bias=self.random.random() < 0.5, dtype=self.dtype)
        return self._filled(layer, weight)

    def _filled(self, layer: nn.Module, weight: Tensor) -> nn.Module:
        layer.weight = nn.Parameter(weight)
        if self.random.random() < 0.15:
            parametrize.register_parametrization(layer, "weight", Quantised())
        return layer

    def _convolution(self, row: tuple[int, ...]) -> nn.Module:
        rank = len(row) - 1
        each = [self.random.randint(1, 2) for _ in range(6)]
        kernel = tuple(self.random.randint(1, 3) for _ in range(rank))
        stride, dilation = tuple(each[:rank]), tuple(each[3 : 3 + rank])
        groups = self.random.choice([g for g in range(1, row[0] + 1) if row[0] % g == 0])
        outputs = groups * self.random.randint(1, 3)
        if self.random.random() < 0.3:
            return self._transposed(row, kernel, stride, dilation, groups, outputs)
        padding = tuple(self.random.randint(0, k // 2 + 1) for k in kernel)
        span = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        fits = all(n + 2 * p > s and p < n for n, p, s in zip(row[1:], padding, span, strict=True))
        if not fits:
            kernel, padding = (1,) * rank, (0,) * rank
        weight = self._weight(outputs, row[0] // groups, *kernel)
        if self.random.random() < 0.2:
            geometry = Geometry(stride, padding, dilation, groups)
            name = self.random.choice(["weight", "kernel"])
            return FunctionalConvolution(weight, geometry, name, self.random.random() < 0.4)
        mode = self.random.choice(["zeros", "zeros", "circular", "reflect", "replicate"])
        named: Any = padding
        if fits and mode == "zeros" and self.random.random() < 0.3:
            named = self.random.choice(["same", "valid"])
            stride = (1,) * rank
            if named == "valid" and any(n <= s for n, s in zip(row[1:], span, strict=True)):
                named = "same"
        layer = CONV[rank](
            *(row[0], outputs, kernel, stride, named, dilation, groups),
            padding_mode=mode,
            bias=self.random.random() < 0.5,
            dtype=self.dtype,
        )
        return self._filled(layer, weight)

    def _transposed(
        self,
        row: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        outputs: int,
    ) -> nn.Module:
        rank = len(kernel)
        settings = zip(row[1:], kernel, stride, dilation, strict=True)
        # Of at least one position.
        room = [((n - 1) * s + d * (k - 1)) // 2 for n, k, s, d in settings]
        padding = tuple(self.random.randint(0, min(2, most)) for most in room)
        largest = (max(s, d) - 1 for s, d in zip(stride, dilation, strict=True))
        extra = tuple(self.random.randint(0, most) for most in largest)
        layer = TRANSPOSED[rank](
            *(row[0], outputs, kernel, stride, padding, extra, groups),
            dilation=dilation,
            bias=self.random.random() < 0.5,
            dtype=self.dtype,
        )
        weight = self._weight(row[0], outputs // groups, *kernel, outputs=groups)
        return self._filled(layer, weight)

    def _attention(self, row: tuple[int, ...]) -> nn.Module:
        rank = 4 if self.way.whole else 3
        forms = [form for form in FORMS if form.dims in (None, rank)]
        first, second = self._neurons(), self._neurons()
        self.plain = False  # what is turned for the product may have been time and samples
        back = self.random.choice([None, *(form for form in forms if not form.turned)])
        dtype = self.random.choice([*[None] * 4, torch.int32, torch.int64])
        return WithItself(first, second, self.random.choice(forms), back, dtype)

"""What must be counted of a random network, from the operands that its layers received.

Nothing of snnprof is called: hooks note the operands in a run of their own, synapses and pairs are
enumerated, kinds are judged of the set of all values.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .enumeration import Axis, Layer, pairs
from .kinds import NAMES, verdict, weight_verdict
from .networks import Sample
from .pieces import FunctionalConvolution, FunctionalLinear, Neurons, Product, WeightProduct

Row = dict[str, Any]  # columns of LayerCount, or of NeuronRate


@dataclass(frozen=True)
class Received:
    """The operands of one call of a layer.

    Attributes:
        row: the name of its row, and its operation.
        call: the call of the network, counted from 0.
        x: the input; a product's first operand, [N, I, K].
        layer: the linear operation; None of a product.
        b: a product's second operand, [N, K, J].
        is_weight: whether that is a parameter of the network.
        leads: whether the samples are in the first dimension of x.
    """

    row: tuple[str, str]
    call: int
    x: Tensor
    layer: Layer | None = None
    b: Tensor | None = None
    is_weight: bool = False
    leads: bool = True


@dataclass
class Seen:
    """What hooks noted in one run."""

    received: list[Received] = field(default_factory=list)
    fired: list[tuple[str, int, Tensor]] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def clean(name: str) -> str:
    """Without what wrappers add."""
    return ".".join(part for part in name.split(".") if part != "module")


def watch(sample: Sample) -> Seen:
    """Run the network under hooks of our own."""
    seen = Seen()
    call = -1

    def next_call(module: nn.Module, args: object) -> None:
        nonlocal call
        call += 1

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.received.append(_received(module, name, call, args))

        return hook

    def note_spikes(name: str) -> Any:
        def hook(module: nn.Module, args: object, out: Tensor) -> None:
            seen.fired.append((name, call, out.clone()))

        return hook

    handles = [sample.network.register_forward_pre_hook(next_call)]
    for name, module in sample.network.named_modules():
        if isinstance(module, Neurons):
            handles.append(module.register_forward_hook(note_spikes(clean(name))))
        elif isinstance(module, _COUNTED):
            handles.append(module.register_forward_pre_hook(note(clean(name))))
    seen.outputs = sample.run()
    for handle in handles:
        handle.remove()
    return seen


_FUNCTIONAL = (FunctionalConvolution, FunctionalLinear, WeightProduct)
_COUNTED = (nn.Linear, _ConvNd, Product, *_FUNCTIONAL)


def _received(module: nn.Module, name: str, call: int, args: tuple[Tensor, ...]) -> Received:
    x = args[0].clone()
    if isinstance(module, Product):
        b = args[1].mT if module.form.turned else args[1]
        op = module.form.op
        return Received((f"{name}.{op}", op), call, _matrices(x), b=_matrices(b.clone()))
    if isinstance(module, WeightProduct):
        return _of_weight(module, name, call, x)
    weight = module.weight if isinstance(module, nn.Linear | _ConvNd) else module.used()
    if isinstance(module, _ConvNd):
        layer = Layer(weight.clone(), _axes(module), module.groups, module.transposed)
        return Received((name, _operation(layer)), call, x, layer)
    layer = Layer(weight.clone())
    if isinstance(module, FunctionalConvolution):
        g = module.geometry
        settings = zip(weight.shape[2:], g.stride, g.padding, g.dilation, strict=True)
        axes = tuple(Axis(k, s, (p, p), d) for k, s, p, d in settings)
        layer = Layer(weight.clone(), axes, g.groups)
    if not isinstance(module, nn.Linear):
        name = _owner(name, module.name, weight)
    return Received((name, _operation(layer)), call, x, layer)


def _operation(layer: Layer) -> str:
    kind = "conv_transpose" if layer.transposed else "conv"
    return f"{kind}{len(layer.axes)}d" if layer.axes else "linear"


def _owner(name: str, parameter: str, weight: Tensor) -> str:
    """The row of a function of this tensor: a parameter's own, else the module's."""
    owned = isinstance(weight, nn.Parameter) and parameter != "weight"
    return f"{name}.{parameter}" if owned else name


def _of_weight(module: WeightProduct, name: str, call: int, x: Tensor) -> Received:
    """x @ w, in whichever way it is written: with a parameter, x is the first operand."""
    weight = module.used()
    owned = isinstance(weight, nn.Parameter)
    row = (_owner(name, module.name, weight) if owned else f"{name}.matmul", "matmul")
    turned = weight.clone() if module.form == "x @ w" else weight.clone().t()
    if module.form == "w @ x.mT" and not owned:
        return Received(row, call, weight.clone().unsqueeze(0), b=_matrices(x).mT, leads=False)
    return Received(row, call, _matrices(x), b=turned.unsqueeze(0), is_weight=owned)


def _axes(conv: _ConvNd) -> tuple[Axis, ...]:
    found = []
    for d, kernel in enumerate(conv.kernel_size):
        span = conv.dilation[d] * (kernel - 1)
        if conv.padding == "same":
            around = (span // 2, span - span // 2)
        else:
            pad = 0 if isinstance(conv.padding, str) else conv.padding[d]
            around = (pad, pad)
        found.append(
            Axis(
                *(kernel, conv.stride[d], around, conv.dilation[d]),
                *(conv.output_padding[d], conv.padding_mode, conv.transposed),
            )
        )
    return tuple(found)


def _matrices(x: Tensor) -> Tensor:
    """As [N, I, K]; a row of a matrix is I = 1."""
    return x.unsqueeze(1) if x.dim() == 2 else x.flatten(0, -3)


def expected_rows(sample: Sample, seen: Seen) -> list[Row]:
    """All rows, in the order in which they were first met."""
    by_row: dict[tuple[str, str], list[Received]] = {}
    for received in seen.received:
        by_row.setdefault(received.row, []).append(received)
    rows = [_expected(sample, calls) for calls in by_row.values()]
    rows[0]["stem"] = rows[0]["input_kind"] == "REAL"
    return rows


def _expected(sample: Sample, calls: list[Received]) -> Row:
    values = [received.x.double().flatten().tolist() for received in calls]
    kind = verdict(itertools.chain(*values), calls[0].x.dtype)
    sums = ("synops", "unrolled_synops", "nominal_macs", "dense_macs")
    found: Row = dict.fromkeys(sums, 0)
    nnz = 0
    for received, x in zip(calls, values, strict=True):
        fan_out, most, nominal = _met(received)
        found["nominal_macs"] += nominal
        found["dense_macs"] += sum(most)
        for value, f, all_of_them in zip(x, fan_out, most, strict=True):
            if value:
                found["synops"] += f
                found["unrolled_synops"] += kind.levels.get(abs(value), 0) * f
                nnz += all_of_them
    inputs = sum(map(len, values))
    nonzeros = sum(value != 0 for x in values for value in x)
    is_product = calls[0].layer is None
    second = _second(calls)
    rate = Fraction(nonzeros, inputs)
    if second and kind.kind == "REAL" != second[0]:
        rate = second[1]
    weight_kind = second[0] if second else _weight_kind(calls)
    name, op = calls[0].row
    spikes = ("BINARY", "TERNARY")
    adds = kind.kind != "REAL" or weight_kind in spikes
    return found | {
        "name": name,
        "op": op,
        "input_kind": kind.kind,
        "weight_kind": weight_kind,
        "operation": "AC" if adds else "MAC",
        "stem": False,
        "calls": len(calls),
        "input_density": float(Fraction(nonzeros, inputs)),
        "unrolled_synops": None if kind.kind == "REAL" else found["unrolled_synops"],
        "nnz_synops": nnz if is_product else None,
        "rate_synops": float(rate * found["nominal_macs"]),
        "nonzeros": nonzeros,
        "inputs": inputs,
        "input_density_by_step": by_step(sample, [(r.call, r.x) for r in calls], calls[0].leads),
    }


def expected_non_finite(rows: list[Row], seen: Seen) -> tuple[str, ...]:
    """Names of the rows that received NaN or infinity, in the order of the rows."""
    found = set()
    for received in seen.received:
        activations = [received.x]
        if received.b is not None and not received.is_weight:
            activations.append(received.b)
        if not all(bool(x.isfinite().all()) for x in activations):
            found.add(received.row[0])
    return tuple(row["name"] for row in rows if row["name"] in found)


def _met(received: Received) -> tuple[list[int], list[int], int]:
    """Of each input: the synapses or pairs that it meets, the most that it could; nominal MACs."""
    x, layer = received.x, received.layer
    if layer is None:
        assert received.b is not None
        met = pairs(x, received.b)
        most = [met.columns] * x.numel()
        return met.partners, most, sum(most)
    sizes = tuple(x.shape[x.dim() - len(layer.axes) :])
    row = layer.fan_out(sizes)
    number = x.numel() // len(row)
    return row * number, row * number, layer.nominal_macs(sizes) * number


def _second(calls: list[Received]) -> tuple[str, Fraction] | None:
    """Kind and density of a second operand that is an activation."""
    operands = [received.b for received in calls if received.b is not None]
    if not operands or calls[0].is_weight:
        return None
    values = [value for b in operands for value in b.double().flatten().tolist()]
    nonzeros = sum(value != 0 for value in values)
    return verdict(values, operands[0].dtype).kind, Fraction(nonzeros, len(values))


def _weight_kind(calls: list[Received]) -> str:
    """The widest kind of all weights."""
    different = set()
    for received in calls:
        channels = received.b[0].mT.double().tolist() if received.b is not None else None
        if received.layer is not None:
            channels = received.layer.output_channels()
        assert channels is not None
        different.add(tuple(map(tuple, channels)))
    weight = calls[0].b if calls[0].layer is None else calls[0].layer.weight
    assert weight is not None
    kinds = [weight_verdict(channels, weight.dtype) for channels in different]
    return max(kinds, key=NAMES.index)


def hides_time(sample: Sample, seen: Seen) -> bool:
    """Whether a dimension that is not time's is as long, or one is exchanged or repeated.

    What runs there may be anything to who sees shapes and functions only.
    """
    if not sample.plain:
        return True
    shapes = [received.x.shape[1:] for received in seen.received]
    shapes += [received.layer.weight.shape for received in seen.received if received.layer]
    shapes += [received.b.shape for received in seen.received if received.b is not None]
    shapes += [out.shape[1:] for _, _, out in seen.fired]
    return any(sample.steps in shape for shape in shapes)


def by_step(
    sample: Sample, calls: list[tuple[int, Tensor]], leads: bool = True
) -> tuple[float, ...] | None:
    """Share of non-zeros in each time step, where each holds one part of every call's input.

    Args:
        sample: the network.
        calls: the network's call, counted from 0, and what was received in it.
        leads: False where the first dimension is not that of the samples.
    """
    steps, way = sample.steps, sample.way.steps
    if way is None:
        return None
    if steps == 1:
        way = "called"
    found = [0] * steps
    in_each = Counter(call for call, _ in calls)
    wanted = steps if way == "looped" else 1
    if way != "called" and (not leads or set(in_each.values()) != {wanted}):
        return None
    met: Counter[int] = Counter()
    for call, x in calls:
        nonzero = x != 0
        place = call if way == "called" else met[call]
        met[call] += 1
        if way in ("called", "looped"):
            found[place % steps] += int(nonzero.sum())
            continue
        batch = sample.batches[call]
        shape = (steps, batch, -1) if way == "time-major" else (batch, steps, -1)
        rows = nonzero.reshape(shape)
        for step in range(steps):
            found[step] += int((rows[step] if way == "time-major" else rows[:, step]).sum())
    inputs = sum(x.numel() for _, x in calls)
    return tuple(float(Fraction(n * steps, inputs)) for n in found)


def expected_neurons(sample: Sample, seen: Seen) -> list[Row]:
    """A row per layer of neurons, in the order in which they were first met."""
    by_name: dict[str, list[tuple[int, Tensor]]] = {}
    for name, call, out in seen.fired:
        by_name.setdefault(name, []).append((call, out))
    found = []
    for name, calls in by_name.items():
        outputs = sum(out.numel() for _, out in calls)
        nonzeros = sum(int((out != 0).sum()) for _, out in calls)
        found.append(
            {
                "name": name,
                "firing_rate": float(Fraction(nonzeros, outputs)),
                "firing_rate_by_step": by_step(sample, calls),
                "outputs": outputs,
                "nonzeros": nonzeros,
                "calls": len(calls),
            }
        )
    return found

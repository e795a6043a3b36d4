"""Firing rates per time step of one network written in every layout: right, or not given.

The network: a convolution, integrate-and-fire neurons, a linear layer. Its rates are found by
enumeration, step by step, in :func:`expected`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter
from snnprof.results import CountResult

from ..support.counting import count
from .nets import spikes

SHAPE = (2, 3, 3)


def fire(currents: list[Tensor]) -> list[Tensor]:
    """Integrate-and-fire over a list of time steps."""
    membrane, out = torch.zeros_like(currents[0]), []
    for current in currents:
        membrane = membrane + current
        spike = (membrane > 0.3).float()
        membrane = membrane - spike
        out.append(spike)
    return out


class Net(nn.Module):
    """The layers; a subclass per way of writing the network."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(27, 4)
        for layer in (self.conv, self.fc):
            layer.weight.data = torch.rand(layer.weight.shape, generator=generator) - 0.4
            layer.bias.data.zero_()
        self.membrane: Tensor | None = None


def expected(x: Tensor) -> dict[str, tuple[float, ...]]:
    """Rates per step of both layers' inputs, enumerated; x: [T, B, 2, 3, 3]."""
    net = Net()
    with torch.no_grad():
        hidden = fire([net.conv(step) for step in x])

    def rates(steps: list[Tensor]) -> tuple[float, ...]:
        flat = [step.flatten().tolist() for step in steps]
        return tuple(sum(value != 0 for value in values) / len(values) for values in flat)

    return {"conv": rates(list(x)), "fc": rates(hidden)}


class Step(Net):
    def forward(self, x: Tensor) -> Tensor:
        current = self.conv(x)
        self.membrane = current if self.membrane is None else self.membrane + current
        spike = (self.membrane > 0.3).float()
        self.membrane = self.membrane - spike
        return self.fc(spike.flatten(1))


WAYS: dict[str, tuple[str, Callable[[Net, Tensor, int], Tensor]]] = {}


def way(layout: str, name: str):
    """Decorator of a forward(net, x, T) that every layer's rates are asked of."""

    def add(function: Callable[[Net, Tensor, int], Tensor]):
        WAYS[f"{layout}: {name}"] = (layout, function)
        return function

    return add


def time_major(net: Net, x: Tensor) -> Tensor:
    """[T, B, ...], T * B rows in the convolution and the linear layer."""
    t, b = x.shape[:2]
    currents = net.conv(x.flatten(0, 1)).unflatten(0, (t, b))
    return torch.stack(fire(list(currents)))


def batch_major(net: Net, x: Tensor) -> Tensor:
    """[B, T, ...] likewise."""
    b, t = x.shape[:2]
    currents = net.conv(x.flatten(0, 1)).unflatten(0, (b, t))
    return torch.stack(fire([currents[:, step] for step in range(t)]), dim=1)


def looped(net: Net, steps: list[Tensor]) -> list[Tensor]:
    return fire([net.conv(step) for step in steps])


@way("time-first", "flattened")
def _(net, x, t):
    return net.fc(time_major(net, x).flatten(0, 1).flatten(1)).unflatten(0, x.shape[:2])


@way("time-first", "a linear layer on [T, B, features]")
def _(net, x, t):
    return net.fc(time_major(net, x).flatten(2)).mean(0)


@way("time-first", "a loop inside")
def _(net, x, t):
    return torch.stack([net.fc(spike.flatten(1)) for spike in looped(net, list(x))])


@way("batch-first", "flattened")
def _(net, x, t):
    return net.fc(batch_major(net, x).flatten(0, 1).flatten(1)).unflatten(0, x.shape[:2])


@way("batch-first", "a linear layer on [B, T, features]")
def _(net, x, t):
    return net.fc(batch_major(net, x).flatten(2)).mean(1)


@way("batch-first", "turned to [T, B, ...] inside")
def _(net, x, t):
    turned = x.transpose(0, 1)
    return net.fc(time_major(net, turned).flatten(0, 1).flatten(1)).unflatten(0, turned.shape[:2])


@way("batch-first", "permuted inside, made contiguous, a linear layer on [T, B, features]")
def _(net, x, t):
    turned = x.permute(1, 0, 2, 3, 4).contiguous()
    return net.fc(time_major(net, turned).flatten(2)).mean(0)


@way("batch-first", "a loop inside")
def _(net, x, t):
    return torch.stack([net.fc(s.flatten(1)) for s in looped(net, list(x.unbind(1)))], dim=1)


@way("inside", "a loop")
def _(net, x, t):
    return sum(net.fc(spike.flatten(1)) for spike in looped(net, [x] * t))


@way("inside", "repeated to [T, B, ...]")
def _(net, x, t):
    return net.fc(time_major(net, x.unsqueeze(0).repeat(t, 1, 1, 1, 1)).flatten(0, 1).flatten(1))


@way("inside", "expanded to [T, B, ...]")
def _(net, x, t):
    return net.fc(time_major(net, x.expand(t, -1, -1, -1, -1)).flatten(2)).mean(0)


@way("inside", "repeated to T * B rows")
def _(net, x, t):
    currents = net.conv(x.repeat(t, 1, 1, 1)).unflatten(0, (t, len(x)))
    return net.fc(torch.stack(fire(list(currents))).flatten(2)).mean(0)


@way("inside", "repeated to [B, T, ...]")
def _(net, x, t):
    return net.fc(batch_major(net, x.unsqueeze(1).repeat(1, t, 1, 1, 1)).flatten(0, 1).flatten(1))


@way("inside", "stacked to [B, T, ...]")
def _(net, x, t):
    return net.fc(batch_major(net, torch.stack([x] * t, 1)).flatten(2)).mean(1)


@way("inside", "interleaved to B * T rows")
def _(net, x, t):
    currents = net.conv(x.repeat_interleave(t, 0)).unflatten(0, (len(x), t))
    spikes = torch.stack(fire([currents[:, step] for step in range(t)]), 1)
    return net.fc(spikes.flatten(0, 1).flatten(1))


@way("inside", "a loop, whose spikes are stacked to [T, B, ...]")
def _(net, x, t):
    return net.fc(torch.stack(looped(net, [x] * t)).flatten(0, 1).flatten(1))


@way("inside", "a loop, whose spikes are stacked to [B, T, ...]")
def _(net, x, t):
    return net.fc(torch.stack(looped(net, [x] * t), 1).flatten(2))


@way("inside", "a loop, whose spikes are written to a buffer [T, B, ...]")
def _(net, x, t):
    buffer = x.new_zeros(t, len(x), 3, 3, 3)
    for step, spike in enumerate(looped(net, [x] * t)):
        buffer[step] = spike
    return net.fc(buffer.flatten(0, 1).flatten(1))


@way("batch-first", "a loop, whose spikes are written to a buffer [B, T, ...]")
def _(net, x, t):
    buffer = x.new_zeros(len(x), t, 3, 3, 3)
    for step, spike in enumerate(looped(net, [x[:, step] for step in range(t)])):
        buffer[:, step] = spike
    return net.fc(buffer.flatten(2))


@way("time-first", "a loop over an index, whose spikes are written to a buffer")
def _(net, x, t):
    buffer = x.new_zeros(*x.shape[:2], 3, 3, 3)
    for step, spike in enumerate(looped(net, [x[step] for step in range(t)])):
        buffer[step] = spike
    return net.fc(buffer.flatten(2))


class Written(Net):
    def __init__(self, function: Callable[[Net, Tensor, int], Tensor], timesteps: int) -> None:
        super().__init__()
        self.function = function
        self.timesteps_inside = timesteps

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x, self.timesteps_inside)


def run(name: str, batches: list[Tensor]) -> tuple[CountResult, list[Tensor]]:
    """Counts of a way of writing; also the [T, B, ...] that it ran, batch by batch."""
    t = len(batches[0])
    if name == "step":
        with SopCounter(model := Step(), layout="step", timesteps=t) as counter:
            for x in batches:
                model.membrane = None
                for step in x:
                    model(step)
        return counter.result(), batches
    layout, function = WAYS[name]
    model = Written(function, t)
    if layout == "time-first":
        return count(model, *batches, layout=layout), batches
    if layout == "batch-first":
        return count(model, *[x.transpose(0, 1) for x in batches], layout=layout), batches
    images = [x[0] for x in batches]
    ran = [image.expand(t, *image.shape) for image in images]
    return count(model, *images, layout=layout, timesteps=t), ran


def whole(batches: list[Tensor]) -> Tensor:
    return torch.cat(batches, 1)


@pytest.mark.parametrize("name", ["step", *WAYS])
@pytest.mark.parametrize("t", [1, 2, 4])
@pytest.mark.parametrize("b", [1, 2, 4, 5])
def test_every_way_of_writing_gives_the_enumerated_rates(name: str, t: int, b: int):
    result, (x,) = run(name, [spikes(t, b, *SHAPE)])
    rows = result.by_layer()
    assert (result.samples, result.timesteps) == (b, t)
    rates = expected(x)
    for layer in ("conv", "fc"):
        assert rows[layer].input_density_by_step == pytest.approx(rates[layer], rel=1e-12), layer
    # 27 inputs feed 4 outputs each
    assert rows["fc"].synops == 4 * round(sum(rates["fc"]) * b * 27)


def looks_alike(t: int, b: int, seed: int) -> bool:
    """True if the rows [T, B, ...] and [B, T, ...] are the same."""
    x = spikes(t, b, *SHAPE, seed=seed)
    return torch.equal(x.flatten(0, 1), x.transpose(0, 1).flatten(0, 1))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["step", *WAYS]),
    t=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
@example(name="batch-first: turned to [T, B, ...] inside", t=2, sizes=[1, 2], seed=0)
def test_rates_are_right_whatever_the_batches(name: str, t: int, sizes: list[int], seed: int):
    batches = [spikes(t, b, *SHAPE, seed=seed + number) for number, b in enumerate(sizes)]
    result, ran = run(name, batches)
    rates = expected(whole(ran))
    assert (result.samples, result.timesteps) == (sum(sizes), t)
    for layer, row in result.by_layer().items():
        found = row.input_density_by_step
        if found is not None or not any(looks_alike(t, b, seed) for b in sizes):
            assert found == pytest.approx(rates[layer], rel=1e-12), layer


@settings(max_examples=40, deadline=None)
@given(t=st.integers(1, 4), b=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_four_layouts_count_the_same(t: int, b: int, seed: int):
    image = spikes(1, b, *SHAPE, seed=seed)
    x = image.expand(t, *image.shape[1:])  # a repeated image suits every layout
    results = [run(name, [x])[0] for name in ("step", *WAYS)]
    for result in results:
        assert (result.samples, result.timesteps) == (b, t)
        for row, first in zip(result.rows, results[0].rows, strict=True):
            same = (
                "name",
                "input_kind",
                "weight_kind",
                "nonzeros",
                "inputs",
                "synops",
                "dense_macs",
            )
            assert [getattr(row, f) for f in same] == [getattr(first, f) for f in same]


# --- where the steps are not known, or not those that they look like -----------------------------


class Forward(nn.Module):
    """One linear layer, run as a function says."""

    def __init__(self, features: int, function: Callable[[nn.Linear, Tensor], object]) -> None:
        super().__init__()
        self.fc = nn.Linear(features, 2)
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(self.fc, x)


def rates(features: int, function, x: Tensor, **options) -> tuple[float, ...] | None:
    return count(Forward(features, function), x, **options).rows[0].input_density_by_step


INSIDE = {"layout": "inside", "timesteps": 4}


@pytest.mark.parametrize("b", [1, 3, 4])
def test_a_layer_that_runs_once_before_the_repeat_has_no_rates(b: int):
    class Direct(Net):
        def forward(self, x: Tensor) -> Tensor:  # direct encoding
            current = self.conv(x)
            return self.fc(torch.stack(fire(list(current.repeat(4, 1, 1, 1, 1)))).flatten(2))

    x = spikes(1, b, *SHAPE)[0]
    rows = count(Direct(), x, **INSIDE).by_layer()
    assert rows["conv"].input_density_by_step is None
    assert rows["fc"].input_density_by_step == pytest.approx(expected(x.expand(4, *x.shape))["fc"])


NOT_KNOWN = {
    "once, on tokens, T = B = N": (lambda fc, x: fc(x), (4, 4, 3)),
    "once, on tokens, N = T": (lambda fc, x: fc(x), (3, 4, 3)),
    "twice in each of 4 steps": (lambda fc, x: [fc(x) for _ in range(8)], (3, 3)),
    "3 of 4 steps": (lambda fc, x: [fc(x) for _ in range(3)], (3, 3)),
    "5 steps": (lambda fc, x: [fc(x) for _ in range(5)], (3, 3)),
    "4 calls of all rows": (lambda fc, x: [fc(x.repeat(4, 1)) for _ in range(4)], (3, 3)),
    "the samples of one step, flattened": (lambda fc, x: fc(x.flatten(0, 1)), (3, 4, 3)),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_rates_inside_that_are_not_known(name: str):
    function, shape = NOT_KNOWN[name]
    assert rates(3, function, spikes(*shape), **INSIDE) is None


def test_a_call_of_the_model_with_another_number_of_loops_ends_the_rates():
    class Loops(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.loops = nn.Linear(3, 2), 4

        def forward(self, x):
            for _ in range(self.loops):
                self.fc(x)

    for loops, known in ((4, True), (3, False), (8, False)):
        with SopCounter(model := Loops(), **INSIDE) as counter:
            model(torch.ones(2, 3))
            model.loops = loops
            model(torch.ones(2, 3))
            model.loops = 4
            model(torch.ones(2, 3))
        assert (counter.result().rows[0].input_density_by_step is not None) is known


MEANS = {
    "tokens after the mean over time": lambda fc, x, dim: fc(x.mean(dim).ceil()),
    "tokens after the mean over time, flattened": lambda fc, x, dim: fc(
        x.mean(dim).ceil().flatten(0, 1)
    ),
    "tokens of the last step": lambda fc, x, dim: fc(x.select(dim, -1)),
    "tokens of the last step, by an index": lambda fc, x, dim: fc(x[-1] if dim == 0 else x[:, -1]),
    "the mean over time and tokens": lambda fc, x, dim: fc(x.mean(dim).mean(1)),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("b", [3, 4])  # T = N = 4
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_a_layer_behind_the_mean_has_no_rates(name: str, b: int, turned: bool, dim: int):
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        return MEANS[name](fc, x.transpose(0, 1) if turned else x, 1 - dim if turned else dim)

    x = spikes(4, b, 4, 3)
    x = x if dim == 0 else x.transpose(0, 1)
    assert rates(3, function, x, layout=("time-first", "batch-first")[dim]) is None


def test_a_monitor_of_means_does_not_take_the_rates():
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        x.mean(), x.mean((0, 1)), x.sum(2)
        return fc(x)

    assert rates(3, function, spikes(4, 4, 3), layout="time-first") is not None


@pytest.mark.parametrize("b", [3, 4])
def test_rows_that_changed_before_an_exchange_are_not_guessed(b: int):
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        turned = (1 - x).transpose(0, 1)
        return fc(turned.flatten(0, 1))

    x = spikes(4, b, 3)
    assert rates(3, function, x.transpose(0, 1), layout="batch-first") is None
    assert rates(3, function, x, layout="time-first") is None


@pytest.mark.parametrize("name", [name for name in WAYS if not name.startswith("inside")])
def test_a_single_sample_does_not_decide_for_several(name: str):
    batches = [spikes(3, b, *SHAPE, seed=b) for b in (1, 4, 1, 3)]
    result, _ = run(name, batches)
    found = {layer: row.input_density_by_step for layer, row in result.by_layer().items()}
    for layer, rates in expected(whole(batches)).items():
        assert found[layer] == pytest.approx(rates, rel=1e-12), layer


@pytest.mark.parametrize("b", [3, 4])
def test_steps_that_are_stacked_the_other_way_are_not_guessed(b: int):
    def function(fc: nn.Linear, x: Tensor) -> Tensor:  # [T, B, 3]
        return fc(torch.stack([1 - step for step in x], 1).flatten(0, 1))

    assert rates(3, function, spikes(4, b, 3), layout="time-first") is None


def test_a_view_that_mixes_steps_and_samples_has_no_rates():
    def function(fc: nn.Linear, x: Tensor) -> Tensor:  # [B, T, 3], B = 3
        return fc(x.reshape(4, 3, 3))

    assert rates(3, function, spikes(3, 4, 3), layout="batch-first") is None


def test_an_announced_input_of_another_shape_has_no_order():
    model = Forward(3, lambda fc, x: fc((1 - x).flatten(0, 1)))
    x = spikes(4, 3, 3)
    for fed, known in ((x, True), (x.transpose(0, 1), False), (x.flatten(0, 1)[None], False)):
        with SopCounter(model, layout="time-first") as counter:
            counter.expect(samples=3, timesteps=4)
            model(fed)
        assert (counter.result(samples=3).rows[0].input_density_by_step is not None) is known


def test_a_side_path_that_exchanges_does_not_mislead_the_main_path():
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        x.transpose(0, 1).sum(0)  # [T, B, ...] for another purpose
        return fc((1 - x).flatten(0, 1))  # B * T rows

    assert rates(3, function, spikes(4, 4, 3), layout="batch-first") is None  # unknown, not wrong


EXCHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "einsum": lambda x: torch.einsum("tbf->btf", x),
    "as_strided": lambda x: x.as_strided(
        (x.shape[1], x.shape[0], x.shape[2]), (x.shape[2], x.shape[1] * x.shape[2], 1)
    ),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: torch.roll(x, 1, 0),
    "rot90": lambda x: x.rot90(1, (0, 1)),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_rows_exchanged_by_functions_that_are_seldom_used_are_not_guessed(name: str):
    """They were reported as the rates of other time steps."""

    class Exchanging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(EXCHANGES[name](x + 0).reshape(-1, 6))

    x = (torch.arange(4).view(4, 1, 1) > 0).float().expand(4, 5, 6)
    model = Exchanging()
    with SopCounter(model, layout="time-first") as counter:
        model(x)
    assert counter.result().rows[0].input_density_by_step in (None, (0.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize("b", [1, 5])
def test_time_steps_exchanged_with_each_other_have_no_rates(b: int):
    """[T, B, ...] before and after: no shape shows it."""

    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flip(0))

    x = (torch.arange(4).view(4, 1, 1) > 0).float().expand(4, b, 6)
    model = Reversed()
    with SopCounter(model, layout="time-first") as counter:
        model(x)
    assert counter.result().rows[0].input_density_by_step is None


def test_functions_that_leave_the_rows_in_order_keep_the_rates():
    class Leaving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.einsum("tbf->tbf", x.flip(2).roll(1, 2))
            return self.fc(x.reshape(-1, 6))

    x = (torch.arange(4).view(4, 1, 1) > 0).float().expand(4, 5, 6)
    model = Leaving()
    with SopCounter(model, layout="time-first") as counter:
        model(x)
    assert counter.result().rows[0].input_density_by_step == (0.0, 1.0, 1.0, 1.0)


def test_two_branches_in_both_orders():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):  # [B, T, 3]
            a = self.a(x.transpose(0, 1).flatten(0, 1))
            self.b(x.flatten(0, 1))
            return self.c((a > 0).float())

    x = spikes(4, 4, 3)
    rows = count(Branches(), x.transpose(0, 1), layout="batch-first").by_layer()
    plain = pytest.approx(x.mean((1, 2)).double().tolist(), rel=1e-6)
    assert rows["a"].input_density_by_step == plain
    assert rows["b"].input_density_by_step == plain
    assert rows["c"].input_density_by_step is None


class Container(nn.Module):
    """As the libraries flatten: their modules take [T, B, ...]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def test_the_input_of_the_module_around_a_layer_tells_the_order():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = Container(nn.Linear(3, 2))

        def forward(self, x):  # [B, T, 3]
            return self.fc((1 - x).transpose(0, 1))

    x = spikes(4, 3, 3)
    row = count(Normalised(), x.transpose(0, 1), layout="batch-first").rows[0]
    assert row.input_density_by_step == pytest.approx((1 - x).mean((1, 2)).tolist(), rel=1e-6)


@pytest.mark.parametrize("b", [3, 4])
def test_a_neuron_that_looks_at_the_first_step_for_its_shape_does_not_take_the_rates(b: int):
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        torch.zeros_like(x[0])
        return fc((1 - x).flatten(0, 1))

    x = spikes(4, b, 3)
    found = rates(3, function, x, layout="time-first")
    assert found == pytest.approx((1 - x).mean((1, 2)).tolist(), rel=1e-6)


def test_steps_that_a_kernel_put_together_are_found_again():
    # What makes [T, B, ...] of the steps is not seen: but the module around the layer gets it.
    class Kernel(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = Container(nn.Linear(3, 2))

        def forward(self, x):  # [T, B, 3]
            steps = [x[step] for step in range(1, 4)] + [x[0]]
            with torch._C.DisableTorchFunction():
                turned = torch.stack(steps)
            return self.fc(turned)

    x = spikes(4, 3, 3)
    row = count(Kernel(), x, layout="time-first").rows[0]
    assert row.input_density_by_step == pytest.approx(x.roll(-1, 0).mean((1, 2)).tolist(), rel=1e-6)


@pytest.mark.parametrize("b", [1, 2, 4])
@pytest.mark.parametrize("layout", ["time-first", "batch-first"])
def test_rates_of_attention(b: int, layout: str):
    class Attention(nn.Module):
        def forward(self, x):  # [.., .., N, heads * d]
            q = x.unflatten(3, (2, 3)).transpose(2, 3)  # [.., .., heads, N, d]
            return q @ q.mT @ q

    x = spikes(4, b, 4, 6)
    fed = x if layout == "time-first" else x.transpose(0, 1)
    first, second = count(Attention(), fed, layout=layout).rows
    rates = pytest.approx(x.double().mean((1, 2, 3)).tolist(), rel=1e-12)
    assert first.input_density_by_step == rates
    assert second.input_density_by_step is not None


def test_rates_where_dimensions_of_attention_look_like_samples():
    class Looped(nn.Module):
        def forward(self, x):  # [T, B, heads, N, d], B = heads = T
            return torch.stack([q @ q.mT for q in x])

    assert count(Looped(), spikes(4, 4, 4, 5, 3), layout="time-first").rows[0].calls == 4
    row = count(Looped(), spikes(4, 4, 4, 5, 3), layout="time-first").rows[0]
    assert row.input_density_by_step is None


def test_the_models_input_is_not_kept():
    x = torch.ones(2, 3)
    kept = weakref.ref(x)
    model = nn.Linear(3, 2)
    with SopCounter(model, layout="inside", timesteps=4) as counter:
        model(x)
        del x
        assert kept() is None
        assert counter.result().samples == 2


def test_functions_that_fail_or_are_caught_do_not_spoil_the_count():
    def function(fc: nn.Linear, x: Tensor) -> Tensor:
        with contextlib.suppress(RuntimeError):
            x.permute(0, 1, 2, 3, 4, 5)
        return fc(F.relu(x)[torch.arange(4)][..., [0, 1, 2]])

    assert rates(3, function, spikes(4, 3, 3), layout="time-first") is not None

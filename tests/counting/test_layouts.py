"""Samples and time steps of every layout, asserted, announced, or refused in one line."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.spiking.lif import LIF

from ..support.counting import Function, count


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2))


# input, options -> samples, T
READINGS = {
    "step": ([torch.ones(5, 3)] * 4, {"layout": "step", "timesteps": 4}, (5, 4)),
    "time-first": ([torch.ones(4, 5, 3)], {"layout": "time-first"}, (5, 4)),
    "batch-first": ([torch.ones(5, 4, 3)], {"layout": "batch-first"}, (5, 4)),
    "inside": ([torch.ones(5, 3)], {"layout": "inside", "timesteps": 4}, (5, 4)),
    "time-first, T given": (
        [torch.ones(4, 5, 3)],
        {"layout": "time-first", "timesteps": 4},
        (5, 4),
    ),
    "batch-first, T given": (
        [torch.ones(5, 4, 3)],
        {"layout": "batch-first", "timesteps": 4},
        (5, 4),
    ),
    "time-first, batch_dim=1": (
        [torch.ones(4, 5, 3)],
        {"layout": "time-first", "batch_dim": 1},
        (5, 4),
    ),
    "none": ([torch.ones(5, 3)], {}, (5, None)),
    "none, batch_dim=1": ([torch.ones(4, 5, 3)], {"batch_dim": 1}, (5, 4)),
    "none, timesteps": ([torch.ones(5, 3)] * 4, {"timesteps": 4}, (5, 4)),
    "none, timesteps, batch_dim=1": (
        [torch.ones(1, 5, 3)] * 4,
        {"timesteps": 4, "batch_dim": 1},
        (5, 4),
    ),
}


@pytest.mark.parametrize("name", READINGS)
def test_samples_of_every_layout(name: str):
    inputs, options, expected = READINGS[name]
    result = count(net(), *inputs, *inputs, **options)
    assert (result.samples, result.timesteps) == (2 * expected[0], expected[1])
    # two sequences, each of as many rows as its inputs have, 3 * 2 synapses a row
    assert result.total("synops") == 2 * sum(x.numel() // 3 for x in inputs) * 6


REFUSED = {
    "unknown": (
        {"layout": "time first"},
        "unknown layout 'time first'; known: batch-first, inside",
    ),
    "no name": ({"layout": 3}, "unknown layout 3; known"),
    "a list": ({"layout": ["step"]}, "unknown layout ['step']; known"),
    "step without T": ({"layout": "step"}, 'layout="step" needs timesteps'),
    "inside without T": ({"layout": "inside"}, 'layout="inside" needs timesteps'),
    "contradiction": (
        {"layout": "batch-first", "batch_dim": 1},
        'layout="batch-first" is [B, T, ...], and batch_dim=1 says otherwise',
    ),
    "contradiction, time-first": (
        {"layout": "time-first", "batch_dim": 2},
        'layout="time-first" is [T, B, ...], and batch_dim=2 says otherwise',
    ),
    "T true": ({"timesteps": True}, "timesteps=True: must be a whole number, at least 1"),
    "T 0": ({"timesteps": 0}, "timesteps=0: must be"),
    "T 2.5": ({"timesteps": 2.5, "layout": "inside"}, "timesteps=2.5: must be"),
    "T text": ({"timesteps": "4"}, "timesteps='4': must be"),
    "batch_dim true": ({"batch_dim": True}, "batch_dim=True: must be a dimension"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_impossible_layout_is_one_line(name: str):
    options, message = REFUSED[name]
    with pytest.raises(SnnprofError, match=re.escape(message)) as caught:
        SopCounter(net(), **options)
    assert "\n" not in str(caught.value)


def test_batch_dim_0_is_the_default_and_no_contradiction():
    assert count(net(), torch.ones(4, 5, 3), batch_dim=0, layout="time-first").samples == 5


WRONG_INPUTS = {
    "time-first": ((3,), {}, 'layout="time-first" takes [T, B, ...], but the model\'s input has'),
    "batch-first": ((3,), {}, 'layout="batch-first" takes [B, T, ...], but the model\'s input has'),
    "T of time-first": ((5, 4, 3), {"timesteps": 4}, "the model ran 5 time steps where 4 were"),
    "T of batch-first": ((4, 5, 3), {"timesteps": 4}, "the model ran 5 time steps where 4 were"),
    "no step of time-first": ((0, 5, 3), {}, "input has shape (0, 5, 3): no time step in [T, B"),
    "no step of batch-first": ((5, 0, 3), {}, "input has shape (5, 0, 3): no time step in [B, T"),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_an_input_that_does_not_fit_is_one_line(name: str):
    shape, options, message = WRONG_INPUTS[name]
    with pytest.raises(SnnprofError, match=re.escape(message)):
        count(net(), torch.ones(shape), layout=name.split()[-1], **options)


def test_t_is_compared_with_every_call():
    with pytest.raises(SnnprofError, match="3 time steps where 4"):
        count(net(), torch.ones(5, 4, 3), torch.ones(5, 3, 3), layout="batch-first", timesteps=4)


def test_our_networks_state_their_own_layout():
    torch.manual_seed(0)
    model = snnprof.models.create("vgg5", timesteps=2, in_channels=1, image_size=8)
    x = torch.ones(3, 1, 8, 8)
    expected = count(model, x)
    assert (expected.samples, expected.timesteps) == (3, 2)
    for options in (
        {"layout": "inside", "timesteps": 2},
        {"layout": "time-first"},
        {"layout": "step", "timesteps": 2},
    ):
        assert count(model, x, **options) == expected
    assert count(model, x.expand(2, 3, 1, 8, 8), layout="time-first").samples == 3
    with pytest.raises(SnnprofError, match=r"a VGG takes \[T, B, \.\.\.\]: leave layout out"):
        SopCounter(model, layout="batch-first")


# --- result(samples=...) -------------------------------------------------------------------------


def counted(*calls: torch.Tensor, **options) -> SopCounter:
    with SopCounter(model := net(), **options) as counter:
        for x in calls:
            model(x)
    return counter


def test_the_number_of_samples_is_asserted():
    assert counted(torch.ones(5, 3), torch.ones(2, 3)).result(samples=7).samples == 7
    assert counted(torch.ones(4, 5, 3), layout="time-first").result(5).samples == 5


MISCOUNTS = {
    "none": (
        {},
        r"no layout was given, batch_dim=0, timesteps=None reads \[B, ...\]; give layout=",
    ),
    "batch_dim": ({"batch_dim": 1}, r"no layout was given, batch_dim=1 reads \[T, B, ...\]; give"),
    "beyond": ({"batch_dim": 2}, r"batch_dim=2, timesteps=None reads its batch in dimension 2; g"),
    "layout": ({"layout": "batch-first"}, r'layout="batch-first" reads \[B, T, ...\]; others are'),
    "inside": ({"layout": "inside", "timesteps": 2}, r'layout="inside" reads \[B, ...\]; others'),
}


@pytest.mark.parametrize("name", MISCOUNTS)
def test_another_number_of_samples_names_both_the_layout_and_the_way_out(name: str):
    options, message = MISCOUNTS[name]
    counter = counted(torch.ones(4, 5, 3), **options)
    number = counter._axis.samples
    said = rf'^{number} samples were counted, 64 were expected: .*{message}.*"inside"'
    with pytest.raises(SnnprofError, match=said) as caught:
        counter.result(samples=64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("samples", [0, True, 2.0, "5"])
def test_the_number_of_samples_is_a_whole_number(samples):
    with pytest.raises(SnnprofError, match=r"samples=.*: must be a whole number, at least 1"):
        counted(torch.ones(5, 3)).result(samples=samples)


# --- expect() ------------------------------------------------------------------------------------


def steps_of_one(x: torch.Tensor, counter: SopCounter, model: nn.Module) -> None:
    """Case 5: a step that hands the module [1, B, ...]."""
    for step in x:
        model(step.unsqueeze(0))


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_announced_samples_are_counted_whatever_the_input_looks_like(batch: int):
    x = (torch.rand(4, batch, 3) < 0.5).float()
    with SopCounter(model := net(), layout="step", timesteps=4) as counter:
        for _ in range(2):
            counter.expect(samples=batch, timesteps=4)
            steps_of_one(x, counter, model)
    result = counter.result(samples=2 * batch)
    assert (result.samples, result.timesteps) == (2 * batch, 4)
    assert result.total("synops") == 2 * 2 * int(x.sum())  # two sequences, two outputs
    rates = [step.double().mean().item() for step in x]
    assert result.rows[0].input_density_by_step == pytest.approx(rates, rel=1e-12)


def test_announcements_call_by_call():
    with SopCounter(model := net(), layout="step", timesteps=2) as counter:
        for samples in (5, 5, 2, 2):
            counter.expect(samples, timesteps=1)
            model(torch.ones(1, samples, 3))
    assert counter.result(samples=7).timesteps == 2


def test_announcements_without_a_layout():
    with SopCounter(model := net()) as counter:
        counter.expect(samples=5, timesteps=4)  # one call
        model(torch.ones(4, 5, 3))
        counter.expect(samples=5, timesteps=4, calls=2)
        model(torch.ones(2, 5, 3))
        model(torch.ones(2, 5, 3))
    result = counter.result(samples=10)
    assert (result.timesteps, result.rows[0].input_density_by_step) == (4, (1.0, 1.0, 1.0, 1.0))


def test_an_announced_call_needs_no_tensor():
    with SopCounter(model := Function(lambda: torch.ones(4, 3) @ torch.ones(3, 2))) as counter:
        counter.expect(samples=2, timesteps=2)
        model()
    assert counter.result(samples=2).total("synops") == 24  # 4 * 3 * 2


def test_a_call_that_was_not_announced_is_an_error():
    with SopCounter(model := net()) as counter:
        counter.expect(samples=5, timesteps=4)
        model(torch.ones(4, 5, 3))
        model(torch.ones(4, 5, 3))
        with pytest.raises(SnnprofError, match="call 2 of the model was not announced: say expect"):
            counter.result()


def test_an_announced_call_that_did_not_come_is_an_error():
    with SopCounter(model := net(), layout="step", timesteps=4) as counter:
        counter.expect(samples=5, timesteps=4)
        for _ in range(3):
            model(torch.ones(5, 3))
        with pytest.raises(
            SnnprofError, match="1 of the announced calls of the model did not come"
        ):
            counter.result()
        with pytest.raises(
            SnnprofError, match="1 of the announced calls of the model did not come"
        ):
            counter.expect(samples=5, timesteps=4)
        model(torch.ones(5, 3))
        assert counter.result().samples == 5


EXPECTATIONS = {
    "samples": ({"samples": 0, "timesteps": 4}, "samples=0: must be"),
    "timesteps": ({"samples": 1, "timesteps": 2.5}, "timesteps=2.5: must be"),
    "calls": ({"samples": 1, "timesteps": 4, "calls": True}, "calls=True: must be"),
    "shares": ({"samples": 1, "timesteps": 4, "calls": 3}, "cannot be shared out to 3 calls"),
    "another T": ({"samples": 1, "timesteps": 5}, "5 time steps were announced after 0 of 4"),
}


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_an_impossible_announcement_is_one_line(name: str):
    options, message = EXPECTATIONS[name]
    counting = SopCounter(net(), layout="step", timesteps=4)
    with pytest.raises(SnnprofError, match=message), counting as counter:
        counter.expect(**options)


def test_announcements_belong_inside_the_block_and_before_the_first_call():
    counter = SopCounter(model := net())
    with pytest.raises(SnnprofError, match="inside the counter's with block"):
        counter.expect(1, 1)
    with counter:
        model(torch.ones(5, 3))
        with pytest.raises(SnnprofError, match="called before the first expect"):
            counter.expect(1, 1)


def test_an_announced_number_that_was_not_fed_says_where_it_comes_from():
    with SopCounter(model := net()) as counter:
        counter.expect(samples=5, timesteps=4)
        model(torch.ones(4, 5, 3))
    with pytest.raises(SnnprofError, match=r"5 samples .* 6 were expected: .* expect\(samples"):
        counter.result(samples=6)


# --- T in the layout "inside", which no shape shows --------------------------------------------


class Inside(nn.Module):
    """[B, 3], four steps in a loop or in one call of the neurons."""

    def __init__(self, together: bool) -> None:
        super().__init__()
        self.fc, self.together = nn.Linear(3, 2), together
        self.lif = LIF(4) if together else Fire()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x).expand(4, *x.shape[:-1], 2)
        return (self.lif(x) if self.together else torch.stack(list(map(self.lif, x)))).mean(0)


class Fire(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


snnprof.register_neuron(Fire)(lambda neuron: snnprof.NeuronEquations(multi_step=False))


@pytest.mark.parametrize("together", [True, False], ids=["in one call", "in a loop"])
@pytest.mark.parametrize("timesteps", [1, 2, 3, 4, 5, 8])
def test_another_number_of_steps_inside_is_doubted(together: bool, timesteps: int):
    model = Inside(together)
    with SopCounter(model, layout="inside", timesteps=timesteps) as counter:
        for _ in range(2):
            model(torch.rand(5, 3))
            snnprof.reset(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        counter.result()
    said = f"timesteps={timesteps}, but lif ran 4 time steps for every sample"
    expected = [said] if timesteps in (3, 5, 8) else []  # the others divide 4
    assert [str(one.message).partition(", and")[0] for one in caught] == expected

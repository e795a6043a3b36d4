"""Samples and time steps: read off the root's input, never guessed."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter


def spikes(*shape: int, seed: int = 0) -> Tensor:
    """Sparser in later time steps, so that steps can be told apart."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    share = torch.linspace(0.9, 0.1, shape[0]).view(-1, *[1] * (len(shape) - 1))
    return (x < share).float()


def measure(model: nn.Module, *inputs: Tensor, **options):
    with SopCounter(model, **options) as counter:
        for x in inputs:
            model(x)
    return counter.result()


class MultiStep(nn.Module):
    """[T, B, C, H, W] flattened to T*B for the convolution, as every multi-step library does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        t, b = x.shape[:2]
        x = self.conv(x.flatten(0, 1)).unflatten(0, (t, b))
        s = (x > 0).float().mean((3, 4)).ceil()
        return self.fc(s)  # [T, B, 3]


# --- samples --------------------------------------------------------------------------------


def test_samples_are_the_batch():
    result = measure(nn.Linear(3, 2), torch.ones(5, 3), torch.ones(2, 3))
    assert result.samples == 7
    assert result.timesteps is None
    assert result.per_sample("synops") == 6.0
    assert result.total("synops") == 42
    assert result.rows[0].firing_rate_by_step is None


def test_samples_of_a_multi_step_input_are_its_second_dimension():
    result = measure(MultiStep(), spikes(4, 5, 2, 3, 3), spikes(4, 2, 2, 3, 3), batch_dim=1)
    assert (result.samples, result.timesteps) == (7, 4)


def test_samples_of_a_step_wise_run_are_counted_once():
    x = torch.ones(5, 3)
    result = measure(nn.Linear(3, 2), *[x] * 8, timesteps=4)
    assert (result.samples, result.timesteps) == (10, 4)  # two sequences of 5
    assert result.total("synops") == 240  # 8 calls * 5 * 3 * 2
    assert result.per_sample("synops") == 24.0  # over all 4 time steps
    assert result.rows[0].calls == 8


def test_sequences_of_different_batch_size_add_up():
    steps = [torch.ones(5, 3)] * 2 + [torch.ones(1, 3)] * 2
    assert measure(nn.Linear(3, 2), *steps, timesteps=2).samples == 6


def test_batch_dimension_beyond_the_first_two():
    model = nn.Sequential(nn.Flatten(0), nn.Linear(24, 1))
    result = measure(model, torch.ones(2, 3, 4), batch_dim=2)
    assert (result.samples, result.timesteps) == (4, None)


class Anything(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, *args, **kwargs):
        return self.fc(torch.ones(1, 3))


NESTED = {
    "positional": ((torch.ones(5, 3),), {}),
    "keyword": ((), {"x": torch.ones(5, 3)}),
    "keyword after a number": ((3, "name", None), {"x": torch.ones(5, 3)}),
    "tuple": (((torch.ones(5, 3), torch.ones(9)),), {}),
    "list": (([torch.ones(5, 3)],), {}),
    "dict": (({"flag": True, "x": torch.ones(5, 3)},), {}),
    "dict by keyword": ((), {"batch": {"x": torch.ones(5, 3)}}),
    "deep": (([{"a": (None, [torch.ones(5, 3)])}],), {}),
}


@pytest.mark.parametrize("name", NESTED)
def test_the_batch_is_found_in_whatever_the_model_takes(name: str):
    args, kwargs = NESTED[name]
    model = Anything()
    with SopCounter(model) as counter:
        model(*args, **kwargs)
    assert counter.result().samples == 5


def test_an_input_without_a_tensor_is_an_error():
    model = Anything()
    with pytest.raises(SnnprofError, match="without a tensor"), SopCounter(model):
        model("text", key=3)


def test_an_input_without_that_dimension_is_an_error():
    with pytest.raises(SnnprofError, match=r"batch_dim=1.*\(4,\)"):
        measure(nn.Linear(4, 2), torch.ones(4), batch_dim=1)


@pytest.mark.parametrize("options", [{"timesteps": 0}, {"timesteps": -1}, {"batch_dim": -1}])
def test_impossible_axes_are_an_error(options):
    with pytest.raises(SnnprofError):
        SopCounter(nn.Linear(4, 2), **options)


def test_an_empty_batch_is_no_crash():
    with SopCounter(layer := nn.Linear(4, 2)) as counter:
        layer(torch.ones(0, 4))
    with contextlib.suppress(SnnprofError):  # one clear line is as good
        assert counter.result().total("synops") == 0


def test_a_layer_that_got_nothing_to_do_is_no_crash():
    # A mixture of experts: no token was sent to the second.
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return torch.cat([self.one(x[:3]), self.two(x[3:])])

    result = measure(Experts(), torch.ones(3, 4))
    assert result.total("synops") == 24  # 3 * 4 * 2
    assert result.by_layer()["one"].synops == 24


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_outputs_is_listed():
    result = measure(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 0)), torch.ones(3, 4))
    assert [row.name for row in result.rows] == ["0"]
    assert result.not_counted == (("1", "linear: an empty weight"),)


# --- mismatches -----------------------------------------------------------------------------


def test_seven_calls_of_four_time_steps_are_an_error():
    with pytest.raises(SnnprofError, match=r"7 times with timesteps=4"):
        measure(nn.Linear(3, 2), *[torch.ones(5, 3)] * 7, timesteps=4)


def test_a_batch_that_changes_within_a_sequence_is_an_error():
    with pytest.raises(SnnprofError, match="from 5 to 4"):
        measure(nn.Linear(3, 2), torch.ones(5, 3), torch.ones(4, 3), timesteps=2)


def test_multi_step_sequences_of_different_length_are_an_error():
    with pytest.raises(SnnprofError, match="3 time steps where 4"):
        measure(MultiStep(), spikes(4, 2, 2, 3, 3), spikes(3, 2, 2, 3, 3), batch_dim=1)


def test_a_model_that_was_never_called_is_an_error():
    with SopCounter(model := nn.Linear(3, 2)) as counter:
        pass
    with pytest.raises(SnnprofError, match="never called"):
        counter.result()
    model(torch.ones(1, 3))  # outside the block: not counted
    with pytest.raises(SnnprofError, match="never called"):
        counter.result()


def test_a_counter_that_was_never_entered_is_an_error():
    with pytest.raises(SnnprofError, match="never called"):
        SopCounter(nn.Linear(3, 2)).result()


def test_results_can_be_read_between_sequences_and_not_within():
    with SopCounter(layer := nn.Linear(3, 2), timesteps=2) as counter:
        layer(torch.ones(1, 3))
        with pytest.raises(SnnprofError, match="stopped after 1"):
            counter.result()
        layer(torch.ones(1, 3))
        assert counter.result().total("synops") == 12
        layer(torch.ones(1, 3))
        layer(torch.zeros(1, 3))
    assert counter.result().total("synops") == 18


# --- firing rates of the time steps -----------------------------------------------------------


def close(rates, expected) -> bool:
    return rates is not None and torch.allclose(
        torch.tensor(rates, dtype=torch.float64), expected.double(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("t", [2, 4, 7])
@pytest.mark.parametrize("b", [1, 2, 4])
def test_rates_of_a_multi_step_model(t: int, b: int):
    model = MultiStep()
    nn.init.constant_(model.conv.bias, -0.3)
    inputs = [spikes(t, b, 2, 3, 3, seed=seed) for seed in range(3)]
    rows = measure(model, *inputs, batch_dim=1).by_layer()
    rates = torch.stack(inputs, 1).double().mean((1, 2, 3, 4, 5))
    assert close(rows["conv"].firing_rate_by_step, rates)
    hidden = [(model.conv(x.flatten(0, 1)) > 0).float().mean((2, 3)).ceil() for x in inputs]
    hidden = torch.stack([s.unflatten(0, (t, b)) for s in hidden], 1)
    assert close(rows["fc"].firing_rate_by_step, hidden.double().mean((1, 2, 3)))


@pytest.mark.parametrize("t", [3, 4])
@pytest.mark.parametrize("features", [6, 40_000])  # small calls, and large ones
@pytest.mark.parametrize("sequences", [1, 3, 25])
def test_rates_of_a_step_wise_model(t: int, features: int, sequences: int):
    x = spikes(t, sequences, 2, features)  # [T, sequence, B, features]
    steps = [x[step, sequence] for sequence in range(sequences) for step in range(t)]
    row = measure(nn.Linear(features, 1), *steps, timesteps=t).rows[0]
    assert close(row.firing_rate_by_step, x.double().mean((1, 2, 3)))
    assert row.firing_rate == pytest.approx(x.double().mean().item(), rel=1e-12)


def test_rates_of_an_input_of_many_millions():
    x = spikes(4, 300, 10_000)  # 12 M elements
    row = measure(nn.Linear(10_000, 1), x, batch_dim=1).rows[0]
    assert row.synops == int(x.double().sum())
    assert close(row.firing_rate_by_step, x.double().mean((1, 2)))


def test_a_single_time_step_has_a_rate_too():
    row = measure(nn.Linear(4, 1), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), timesteps=1).rows[0]
    assert row.firing_rate_by_step == (0.25,)


def test_rates_of_a_layer_that_is_called_twice_in_every_step():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) + self.fc(1 - x)

    row = measure(Twice(), torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 3), timesteps=3)
    assert row.rows[0].firing_rate_by_step == (0.5, 0.5, 0.5)


def test_rates_of_steps_are_absent_where_the_layout_is_not_known():
    class AfterTheMean(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):  # [T, B, 3]
            return self.fc(x.mean(0).ceil())

    result = measure(AfterTheMean(), spikes(4, 3, 3), batch_dim=1)
    assert result.timesteps == 4
    assert result.rows[0].firing_rate_by_step is None


def test_rates_of_steps_are_absent_where_steps_are_looped_over_inside():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return torch.stack([self.fc(step) for step in x])

    row = measure(Loop(), spikes(4, 3, 3), batch_dim=1).rows[0]
    assert row.firing_rate_by_step is None  # never a wrong number


def test_rates_of_steps_are_never_wrong_where_looped_steps_look_like_flattened_ones():
    class LoopOverTokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):  # [T, B, N, 3]; each step flattened to [B * N, 3], N = 2 T
            return torch.stack([self.fc(step.flatten(0, 1)) for step in x])

    x = spikes(2, 3, 4, 3)
    rates = measure(LoopOverTokens(), x, batch_dim=1).rows[0].firing_rate_by_step
    assert rates is None or close(rates, x.double().mean((1, 2, 3)))


# --- rows and sums ------------------------------------------------------------------------------


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, padding=1, groups=2)}) for _ in range(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block["conv"]((x > 0).float())
        return self.head((x > 0).float())


def test_rows_are_named_by_layer_in_the_order_of_their_calls():
    result = measure(Deep(), torch.rand(2, 1, 4, 4))
    names = ["stem", "blocks.0.conv", "blocks.1.conv", "head.1"]
    assert [row.name for row in result.rows] == names
    assert list(result.by_layer()) == names
    assert [row.stem for row in result.rows] == [True, False, False, False]


def test_a_model_that_is_a_single_layer_goes_by_its_class():
    assert measure(nn.Linear(3, 2), torch.ones(1, 3)).rows[0].name == "Linear"


@pytest.mark.parametrize(
    "column", ["synops", "rate_synops", "nominal_macs", "dense_macs", "nonzeros", "calls"]
)
def test_layers_sum_to_the_total(column: str):
    result = measure(Deep(), torch.rand(2, 1, 4, 4), torch.rand(3, 1, 4, 4))
    total = sum(getattr(row, column) for row in result.rows)
    assert result.total(column) == total
    assert result.per_sample(column) == total / 5


def test_unrolled_events_of_real_layers_are_absent_from_the_total():
    result = measure(Deep(), torch.rand(2, 1, 4, 4))
    stem, *others = result.rows
    assert stem.unrolled_synops is None
    assert result.total("unrolled_synops") == sum(row.unrolled_synops for row in others)
    real = measure(nn.Linear(3, 2), torch.rand(5, 3))
    assert real.total("unrolled_synops") is None
    assert real.per_sample("unrolled_synops") is None


def test_an_unknown_column_is_an_error():
    with pytest.raises(ValueError, match="sops"):
        measure(nn.Linear(3, 2), torch.ones(1, 3)).total("sops")


def test_batches_add_up_to_the_whole():
    torch.manual_seed(0)
    model, x = Deep().eval(), torch.rand(12, 1, 4, 4)
    whole = measure(model, x)
    parts = measure(model, *x.split([1, 5, 6]))
    for column in ("synops", "nominal_macs", "dense_macs", "nonzeros", "inputs"):
        assert whole.total(column) == parts.total(column)
    assert whole.samples == parts.samples == 12


def test_steps_add_up_to_the_sequence():
    torch.manual_seed(0)
    model, x = MultiStep(), spikes(4, 3, 2, 5, 5)
    whole = measure(model, x, batch_dim=1)
    # The same network, one time step at a time.
    steps = measure(model, *x.unsqueeze(1), batch_dim=1, timesteps=4)
    for one, other in zip(whole.rows, steps.rows, strict=True):
        assert (one.synops, one.nominal_macs, one.inputs) == (
            other.synops,
            other.nominal_macs,
            other.inputs,
        )
        assert one.firing_rate_by_step == other.firing_rate_by_step


def test_events_of_kept_weights_and_of_zeroed_weights_add_up_to_all():
    torch.manual_seed(0)
    x, weight = spikes(3, 2, 5, 5), torch.randn(4, 2, 3, 3)
    kept = torch.rand_like(weight) < 0.5
    counts = []
    for mask in (torch.ones_like(kept), kept, ~kept):
        layer = nn.Conv2d(2, 4, 3, padding=1)
        layer.weight = nn.Parameter(weight * mask)
        counts.append(measure(layer, x).total("synops"))
    assert counts[0] == counts[1] + counts[2]


def test_complementary_inputs_add_up_to_the_dense_count():
    layer = nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1)
    x = spikes(3, 2, 7)
    assert measure(layer, x).total("synops") + measure(layer, 1 - x).total("synops") == measure(
        layer, x
    ).total("dense_macs")


def test_functional_and_module_layers_sum_up_alike():
    class ByHand(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.weight, self.bias = layer.weight, layer.bias

        def forward(self, x):
            return F.conv2d(x, self.weight, self.bias, padding=1)

    layer, x = nn.Conv2d(2, 3, 3, padding=1), spikes(2, 2, 5, 5)
    assert measure(ByHand(layer), x).total("synops") == measure(layer, x).total("synops")


def test_rates_of_steps_are_not_given_where_a_layer_runs_in_a_loop_over_time():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return torch.stack([self.conv(step) for step in x])

    # T = B = C: a step [B, C, H, W] looks like a sequence [T, B, ...].
    row = measure(Loop(), spikes(4, 4, 4, 6, 6), batch_dim=1).rows[0]
    assert row.firing_rate_by_step is None


def test_layers_called_outside_the_model_are_listed():
    model = nn.Sequential(nn.Linear(4, 3))
    with SopCounter(model) as counter:
        model(torch.ones(1, 4))
        model[0](torch.ones(1, 4))
    result = counter.result()
    assert result.total("synops") == 12
    assert ("0", "called outside a call of the model") in result.not_counted


def test_what_is_no_module_is_refused():
    with pytest.raises(SnnprofError, match=r"not a torch\.nn\.Module"):
        SopCounter(lambda x: x)
    with pytest.raises(SnnprofError, match="whole number"):
        SopCounter(nn.Linear(1, 1), timesteps=2.5)

"""Samples and time steps: read off the root's input, never guessed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter

from ..support.counting import count
from .nets import MultiStep, spikes


def test_samples_are_the_batch():
    result = count(nn.Linear(3, 2), torch.ones(5, 3), torch.ones(2, 3))
    assert result.samples == 7
    assert result.timesteps is None
    assert result.per_sample("synops") == 6.0
    assert result.total("synops") == 42
    assert result.rows[0].input_density_by_step is None


def test_samples_of_a_multi_step_input_are_its_second_dimension():
    result = count(MultiStep(), spikes(4, 5, 2, 3, 3), spikes(4, 2, 2, 3, 3), batch_dim=1)
    assert (result.samples, result.timesteps) == (7, 4)


def test_samples_of_a_step_wise_run_are_counted_once():
    x = torch.ones(5, 3)
    result = count(nn.Linear(3, 2), *[x] * 8, timesteps=4)
    assert (result.samples, result.timesteps) == (10, 4)  # two sequences of 5
    assert result.total("synops") == 240  # 8 calls * 5 * 3 * 2
    assert result.per_sample("synops") == 24.0  # over all 4 time steps
    assert result.rows[0].calls == 8


def test_sequences_of_different_batch_size_add_up():
    steps = [torch.ones(5, 3)] * 2 + [torch.ones(1, 3)] * 2
    assert count(nn.Linear(3, 2), *steps, timesteps=2).samples == 6


def test_batch_dimension_beyond_the_first_two():
    model = nn.Sequential(nn.Flatten(0), nn.Linear(24, 1))
    result = count(model, torch.ones(2, 3, 4), batch_dim=2)
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
        count(nn.Linear(4, 2), torch.ones(4), batch_dim=1)


@pytest.mark.parametrize("options", [{"timesteps": 0}, {"timesteps": -1}, {"batch_dim": -1}])
def test_impossible_axes_are_an_error(options):
    with pytest.raises(SnnprofError):
        SopCounter(nn.Linear(4, 2), **options)


def test_only_empty_batches_are_an_error():
    with pytest.raises(SnnprofError, match="only called with empty batches"):
        count(nn.Linear(4, 2), torch.ones(0, 4))


def test_an_empty_batch_among_others_is_listed_and_adds_nothing():
    result = count(nn.Linear(4, 2), torch.ones(0, 4), torch.ones(1, 4))
    assert (result.samples, result.total("synops")) == (1, 8)
    assert result.not_counted == (("Linear", "linear: an empty input"),)


def test_a_layer_that_got_nothing_to_do_is_no_crash():
    # A mixture of experts: no token was sent to the second.
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return torch.cat([self.one(x[:3]), self.two(x[3:])])

    result = count(Experts(), torch.ones(3, 4))
    assert result.total("synops") == 24  # 3 * 4 * 2
    assert result.by_layer()["one"].synops == 24


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_outputs_is_listed():
    result = count(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 0)), torch.ones(3, 4))
    assert [row.name for row in result.rows] == ["0"]
    assert result.not_counted == (("1", "linear: an empty weight"),)


def test_seven_calls_of_four_time_steps_are_an_error():
    with pytest.raises(SnnprofError, match=r"7 times with timesteps=4"):
        count(nn.Linear(3, 2), *[torch.ones(5, 3)] * 7, timesteps=4)


def test_a_batch_that_changes_within_a_sequence_is_an_error():
    with pytest.raises(SnnprofError, match="from 5 to 4"):
        count(nn.Linear(3, 2), torch.ones(5, 3), torch.ones(4, 3), timesteps=2)


def test_multi_step_sequences_of_different_length_are_an_error():
    with pytest.raises(SnnprofError, match="3 time steps where 4"):
        count(MultiStep(), spikes(4, 2, 2, 3, 3), spikes(3, 2, 2, 3, 3), batch_dim=1)


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

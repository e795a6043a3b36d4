"""Firing rates of each time step, or none where the steps are not known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ..support.counting import Loop, count, count_row
from .nets import MultiStep, spikes


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
    rows = count(model, *inputs, batch_dim=1).by_layer()
    rates = torch.stack(inputs, 1).double().mean((1, 2, 3, 4, 5))
    assert close(rows["conv"].input_density_by_step, rates)
    hidden = [(model.conv(x.flatten(0, 1)) > 0).float().mean((2, 3)).ceil() for x in inputs]
    hidden = torch.stack([s.unflatten(0, (t, b)) for s in hidden], 1)
    assert close(rows["fc"].input_density_by_step, hidden.double().mean((1, 2, 3)))


@pytest.mark.parametrize("t", [3, 4])
@pytest.mark.parametrize("features", [6, 40_000])  # small calls, and large ones
@pytest.mark.parametrize("sequences", [1, 3, 25])
def test_rates_of_a_step_wise_model(t: int, features: int, sequences: int):
    x = spikes(t, sequences, 2, features)  # [T, sequence, B, features]
    steps = [x[step, sequence] for sequence in range(sequences) for step in range(t)]
    row = count(nn.Linear(features, 1), *steps, timesteps=t).rows[0]
    assert close(row.input_density_by_step, x.double().mean((1, 2, 3)))
    assert row.input_density == pytest.approx(x.double().mean().item(), rel=1e-12)


def test_rates_of_an_input_of_many_millions():
    x = spikes(4, 300, 10_000)  # 12 M elements
    row = count(nn.Linear(10_000, 1), x, batch_dim=1).rows[0]
    assert row.synops == int(x.double().sum())
    assert close(row.input_density_by_step, x.double().mean((1, 2)))


def test_a_single_time_step_has_a_rate_too():
    row = count(nn.Linear(4, 1), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), timesteps=1).rows[0]
    assert row.input_density_by_step == (0.25,)


def test_rates_of_a_layer_that_is_called_twice_in_every_step():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) + self.fc(1 - x)

    row = count(Twice(), torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 3), timesteps=3)
    assert row.rows[0].input_density_by_step == (0.5, 0.5, 0.5)


def test_rates_of_steps_are_absent_where_the_layout_is_not_known():
    class AfterTheMean(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):  # [T, B, 3]
            return self.fc(x.mean(0).ceil())

    result = count(AfterTheMean(), spikes(4, 3, 3), batch_dim=1)
    assert result.timesteps == 4
    assert result.rows[0].input_density_by_step is None


def test_rates_of_steps_where_steps_are_looped_over_inside():
    x = spikes(4, 3, 3)
    row = count_row(Loop(nn.Linear(3, 2)), x, x, batch_dim=1)
    assert close(row.input_density_by_step, x.double().mean((1, 2)))


def test_rates_of_steps_where_a_convolution_runs_in_a_loop_over_time():
    # T = B = C: a step [B, C, H, W] is no sequence [T, B, ...], a convolution has one of these.
    x = spikes(4, 4, 4, 6, 6)
    row = count_row(Loop(nn.Conv2d(4, 2, 3)), x, batch_dim=1)
    assert close(row.input_density_by_step, x.double().mean((1, 2, 3, 4)))


def test_rates_of_steps_are_absent_where_a_looped_step_looks_like_a_sequence():
    # T = B = N: a step [B, N, features] may be [T, B, features]; never a wrong number.
    row = count_row(Loop(nn.Linear(3, 2)), spikes(4, 4, 4, 3), batch_dim=1)
    assert row.input_density_by_step is None


def test_rates_of_steps_are_absent_where_looped_steps_look_like_flattened_ones():
    class LoopOverTokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):  # [T, B, N, 3]; each step flattened to [B * N, 3], N = T
            return torch.stack([self.fc(step.flatten(0, 1)) for step in x])

    x = spikes(2, 3, 2, 3)
    assert count_row(LoopOverTokens(), x, batch_dim=1).input_density_by_step is None

"""Surrogate gradients by hand."""

import pytest
import torch

from snnprof.spiking.surrogates import surrogate_spike


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        ("triangle", [0.0, 0.0, 0.75, 1.0, 0.5, 0.0]),
        ("rectangle", [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),  # 1/2 is outside
        # 1 / (1 + (pi d)^2)
        ("arctan", [1 / (1 + (torch.pi * d) ** 2) for d in (-1.5, -1.0, -0.25, 0.0, 0.5, 2.0)]),
    ],
)
def test_surrogates(name: str, slopes: list[float]) -> None:
    values = [-1.5, -1.0, -0.25, 0.0, 0.5, 2.0]
    distance = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    spike = surrogate_spike(distance, name)
    assert spike.tolist() == [0, 0, 0, 1, 1, 1]
    spike.sum().backward()
    assert distance.grad is not None
    assert distance.grad.tolist() == pytest.approx(slopes, abs=1e-15)

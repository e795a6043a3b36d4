"""The optimiser that a recipe makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import snnprof
from snnprof.experiment.trainer import Recipe


def test_sgd_takes_the_recipes_steps() -> None:
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    recipe = Recipe(1, 1, learning_rate=0.5, momentum=0.75, nesterov=True, weight_decay=0.25)
    optimizer = recipe.optimizer([weight])
    expected, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        g = gradient + 0.25 * expected  # weight decay
        velocity = 0.75 * velocity + g
        expected -= 0.5 * (g + 0.75 * velocity)  # Nesterov
        torch.testing.assert_close(weight.item(), expected, rtol=1e-12, atol=0)


def test_rows_say_what_they_were_trained_by() -> None:
    quick: dict[str, Any] = {"timesteps": 1, "data": "random", "image_size": 8, "device": "cpu"}
    (trained,) = snnprof.run(modes="stbp", epochs=1, learning_rate=0.01, **quick).rows
    assert trained.optimizer is not None
    assert trained.optimizer.startswith("SGD (learning rate 0.01, Nesterov momentum 0.9")
    (counted,) = snnprof.run(modes="stbp", epochs=0, **quick).rows
    assert counted.optimizer is None
